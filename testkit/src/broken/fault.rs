//! [`Fault`]: what is wrong with a store.

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: record locked, link checked, temporary file, sync, rename.
    Nothing,
    /// Nobody locks.
    NoLock,
    /// A shared lock for reading, an exclusive one for writing.
    SharedLock,
    /// The record is locked, but whether the locked file still has the name is not looked at.
    NoLinkCheck,
    /// The record is written in place, in many small steps.
    TruncateAndWrite,
    /// Errors of writing and syncing are not looked at.
    UncheckedWrite,
    /// Who waited for a session that was destroyed goes on with it, and a commit makes it again.
    Resurrect,
    /// Clean-up looks and then deletes, without the lock.
    SweepWithoutLock,
    /// The lock is a file of its own that is deleted after use.
    LockFileRemoved,
    /// Nothing is synced.
    RenameWithoutSync,
    /// Clean-up does not know of temporary files.
    LeaveTemporary,
    /// The sessions of a user are not found.
    ForgetUsers,
    /// What a request leaves at its end is acknowledged and not written.
    ForgetEnd,
    /// What a request leaves at its end is deleted instead.
    DestroyAtEnd,
    /// The cap is not looked at.
    NoCap,
    /// Room for a new session is made without the lock.
    EvictWithoutLock,
}

impl Fault {
    pub const ALL: [Fault; 16] = [
        Fault::Nothing,
        Fault::NoLock,
        Fault::SharedLock,
        Fault::NoLinkCheck,
        Fault::TruncateAndWrite,
        Fault::UncheckedWrite,
        Fault::Resurrect,
        Fault::SweepWithoutLock,
        Fault::LockFileRemoved,
        Fault::RenameWithoutSync,
        Fault::LeaveTemporary,
        Fault::ForgetUsers,
        Fault::ForgetEnd,
        Fault::DestroyAtEnd,
        Fault::NoCap,
        Fault::EvictWithoutLock,
    ];

    /// The fault of this name, as `Debug` writes it: for processes that are told which to have.
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Fault::ALL.into_iter();
        all.find(|fault| format!("{fault:?}") == name)
    }
}
