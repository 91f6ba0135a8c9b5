//! The same questions to stores that are broken on purpose: they are answered otherwise, so that the
//! answers of the others say something.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use cgi_session::{
    Error, FileStore, Lease, Record, Result, SessionDigest, SessionManager, Store, Stored, Sweep,
    SweepReport, Uninstalled, Visitor,
};
use cgi_session_tools::transfer::{Journal, Outcome, Transfer};

use crate::pair::{Pair, Visitor as Person, visitor};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Its lock keeps nobody away.
    NoLock,
    /// It says of every session that it is as it was brought.
    Blind,
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// A store of files that may be broken, and lets others work while a session is being brought.
struct Odd {
    inner: FileStore,
    fault: Fault,
    /// The last record that was stored by way of this store.
    stored: Arc<Mutex<Option<Record>>>,
    meanwhile: Hook,
}

/// A lease of a store that may be broken.
struct OddLease {
    inner: Option<Box<dyn Lease>>,
    store: FileStore,
    session: SessionDigest,
    stored: Arc<Mutex<Option<Record>>>,
}

impl Odd {
    fn manager(pair: &Pair, name: &str, fault: Fault, meanwhile: Hook) -> SessionManager {
        let config = pair.config(name);
        let odd = Odd {
            inner: FileStore::new(&config).unwrap(),
            fault,
            stored: Arc::default(),
            meanwhile,
        };
        SessionManager::with_store(config, odd).unwrap()
    }

    fn lease(&self, session: &SessionDigest, inner: Option<Box<dyn Lease>>) -> Box<dyn Lease> {
        Box::new(OddLease {
            inner,
            store: self.inner.clone(),
            session: *session,
            stored: Arc::clone(&self.stored),
        })
    }
}

impl Store for Odd {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        (self.meanwhile)();
        *self.stored.lock().unwrap() = Some(record.clone());
        let lease = self.inner.create(session, record, now)?;
        Ok(lease.map(|lease| self.lease(session, Some(lease))))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        if self.fault == Fault::NoLock {
            let found = self.inner.peek(session, now)?;
            return Ok(found.map(|stored| (stored, self.lease(session, None))));
        }
        let Some((mut stored, lease)) = self.inner.lock(session, wait, now)? else {
            return Ok(None);
        };
        if let (Fault::Blind, Some(record)) = (self.fault, &*self.stored.lock().unwrap()) {
            stored.record = record.clone();
        }
        Ok(Some((stored, self.lease(session, Some(lease)))))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        self.inner.read(session, now)
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        self.inner.peek(session, now)
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        self.inner.delete_expired(sweep, now)
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.inner.last_sweep(now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        self.inner.for_each(visit, now)
    }

    fn uninstall(&self) -> Uninstalled {
        self.inner.uninstall()
    }
}

impl Lease for OddLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        *self.stored.lock().unwrap() = Some(record.clone());
        match &mut self.inner {
            Some(lease) => lease.commit(record, now),
            None => Err(Error::Ended),
        }
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        self.inner.as_mut().map_or(Ok(()), |lease| lease.touch(now))
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        if let Some(lease) = self.inner {
            return lease.destroy();
        }
        let (wait, now) = (Duration::from_secs(60), SystemTime::now());
        match self.store.lock(&self.session, wait, now)? {
            Some((_, lease)) => lease.destroy(),
            None => Ok(()),
        }
    }
}

fn transfer(pair: &Pair, from: &SessionManager, to: &SessionManager, is_move: bool) -> Outcome {
    let mut journal = Journal::open(&pair.journal(), "old -> new", None).unwrap();
    let transfer = Transfer {
        from,
        to,
        is_move,
        deletes_gone: false,
        is_dry: false,
        signal: &AtomicUsize::new(0),
    };
    transfer.run(&mut journal, &|_, _| {})
}

/// Whether a program that counts in the old store just before the session is made in the new one has
/// either counted, and it is there, or was told that it could not.
fn is_kept_in_a_move(old: Fault) -> bool {
    let pair = Pair::new("file", "file");
    pair.configure("old", "file", "lockTimeout = 1s");
    let visitor = visitor(&pair.old());
    let counted = Arc::new(AtomicUsize::new(0));
    let program = pair.old();
    let meanwhile = {
        let (counted, visitor) = (Arc::clone(&counted), visitor.clone());
        move || match visitor.counts(&program) {
            Ok(true) => {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(false) | Err(Error::Busy { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    let from = Odd::manager(&pair, "old", old, Box::new(|| {}));
    let to = Odd::manager(&pair, "new", Fault::Nothing, Box::new(meanwhile));
    let outcome = transfer(&pair, &from, &to, true);
    assert_eq!((outcome.created, outcome.moved), (1, 1), "{outcome:?}");
    let counted = counted.load(std::sync::atomic::Ordering::Relaxed) as u64;
    visitor.counted(&pair.new_one()) == Some(counted)
}

#[test]
fn what_a_program_counts_during_a_move_is_kept_because_of_the_lock() {
    assert!(is_kept_in_a_move(Fault::Nothing));
    assert!(!is_kept_in_a_move(Fault::NoLock), "nothing was lost");
}

/// Whether what was written in the new store is there after the next copy.
fn is_kept_in_a_copy(new: Fault) -> bool {
    let pair = Pair::new("file", "file");
    let visitor: Person = visitor(&pair.old());
    let to = Odd::manager(&pair, "new", new, Box::new(|| {}));
    assert_eq!(transfer(&pair, &pair.old(), &to, false).created, 1);
    visitor.count(&pair.old());
    for _ in 0..2 {
        visitor.count(&pair.new_one());
    }
    let outcome = transfer(&pair, &pair.old(), &to, false);
    let is_told = outcome.problems.len() == 1;
    visitor.counted(&pair.new_one()) == Some(2) && is_told
}

#[test]
fn what_was_written_in_the_new_store_is_kept_because_it_is_compared() {
    assert!(is_kept_in_a_copy(Fault::Nothing));
    assert!(!is_kept_in_a_copy(Fault::Blind), "nothing was overwritten");
}
