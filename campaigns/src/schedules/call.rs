//! A system call that concerns the sessions: what it looks at and what it changes.

use std::fmt;

use nix::libc::{self, c_long, user_regs_struct};
use nix::unistd::Pid;
use testkit::prelude::*;

use super::outcome;

/// What one process can change under the eyes of another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    /// What a name leads to.
    Name(PathBuf),
    /// Which names there are.
    Names,
    /// What is in a file, and what is known about it.
    File(u64),
    Lock(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) thread: Pid,
    text: String,
    reads: Vec<Thing>,
    writes: Vec<Thing>,
    /// The lock that it waits for until it gets it.
    awaits: Option<u64>,
}

impl Call {
    /// The call that a stopped thread is about to make; `None` for one that concerns no session, or
    /// that no other process can notice.
    pub(crate) fn about_to_be_made(
        thread: Pid,
        process: Pid,
        registers: &user_regs_struct,
        directory: &Path,
    ) -> Option<Call> {
        let reader = Reader {
            process,
            registers,
            directory,
        };
        let mut call = Call {
            thread,
            text: String::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            awaits: None,
        };
        reader.describe(&mut call)?;
        Some(call)
    }

    /// Whether the order of two calls makes no difference.
    pub(crate) fn commutes_with(&self, other: &Call) -> bool {
        let touches = |one: &Call, other: &Call| {
            let mut writes = one.writes.iter();
            writes.any(|thing| other.writes.contains(thing) || other.reads.contains(thing))
        };
        !touches(self, other) && !touches(other, self)
    }

    /// Whether it would return now, and not only when the other process has done something.
    pub(crate) fn can_return(&self, other: Pid) -> bool {
        self.awaits.is_none_or(|inode| !has_lock(other, inode))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a process has the lock of a file.
fn has_lock(process: Pid, inode: u64) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    files.any(|file| {
        let number = file.file_name().unwrap_or_default();
        let is_it = fs::metadata(&file).is_ok_and(|stat| stat.ino() == inode);
        is_it && locks(process, &number.to_string_lossy())
    })
}

/// Whether a lock came by this descriptor. The list of all locks would say so, too, but while others
/// lock and unlock it is not read in one piece.
fn locks(process: Pid, descriptor: &str) -> bool {
    let about = fs::read_to_string(format!("/proc/{process}/fdinfo/{descriptor}"));
    about.is_ok_and(|about| about.contains("FLOCK"))
}

struct Reader<'a> {
    process: Pid,
    registers: &'a user_regs_struct,
    directory: &'a Path,
}

impl Reader<'_> {
    fn describe(&self, call: &mut Call) -> Option<()> {
        let [first, second, third, fourth] = self.arguments();
        let number = c_long::try_from(self.registers.orig_rax).ok()?;
        match number {
            libc::SYS_open => self.open(call, self.path(AT_CWD, first), second),
            libc::SYS_openat => self.open(call, self.path(first, second), third),
            libc::SYS_flock => self.lock(call, first, second),
            libc::SYS_close => self.close(call, first),
            libc::SYS_read | libc::SYS_pread64 => self.read_file(call, "read", first),
            libc::SYS_fstat => self.read_file(call, "stat", first),
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_ftruncate => {
                self.write_file(call, "write", first)
            }
            libc::SYS_stat | libc::SYS_lstat | libc::SYS_access => {
                self.look(call, self.path(AT_CWD, first))
            }
            libc::SYS_newfstatat | libc::SYS_statx | libc::SYS_faccessat | libc::SYS_faccessat2 => {
                let looked = self.look(call, self.path(first, second));
                looked.or_else(|| self.read_file(call, "stat", first))
            }
            libc::SYS_utimensat if second == 0 => self.write_file(call, "set time of", first),
            libc::SYS_utimensat => self.write_file_at(call, self.path(first, second)),
            libc::SYS_mkdir => self.make_directory(call, self.path(AT_CWD, first)),
            libc::SYS_mkdirat => self.make_directory(call, self.path(first, second)),
            libc::SYS_unlink => self.unlink(call, self.path(AT_CWD, first)),
            libc::SYS_unlinkat => self.unlink(call, self.path(first, second)),
            libc::SYS_rename | libc::SYS_link => {
                self.move_name(call, self.path(AT_CWD, first), self.path(AT_CWD, second))
            }
            libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
                self.move_name(call, self.path(first, second), self.path(third, fourth))
            }
            libc::SYS_getdents64 => {
                let is_ours = self.opened(first)?.starts_with(self.directory);
                call.text.push_str("list");
                call.reads.push(Thing::Names);
                is_ours.then_some(())
            }
            _ => None,
        }
    }

    fn open(&self, call: &mut Call, path: Option<PathBuf>, flags: u64) -> Option<()> {
        let path = path?;
        call.text = format!("open {}", self.shown(&path));
        if flags & bits(libc::O_CREAT) == 0 {
            call.reads.push(Thing::Name(path));
        } else {
            call.text.push_str(" or make it");
            call.writes.extend([Thing::Name(path), Thing::Names]);
        }
        Some(())
    }

    fn lock(&self, call: &mut Call, file: u64, how: u64) -> Option<()> {
        let (shown, inode) = self.file(file)?;
        let is_unlock = how & bits(libc::LOCK_UN) != 0;
        let waits = !is_unlock && how & bits(libc::LOCK_NB) == 0;
        let verb = match (is_unlock, waits) {
            (true, _) => "unlock",
            (_, true) => "wait for the lock of",
            _ => "try the lock of",
        };
        call.text = format!("{verb} {shown}");
        call.writes.push(Thing::Lock(inode));
        call.awaits = waits.then_some(inode);
        Some(())
    }

    /// Closing is noticed by no other process, unless it gives up a lock.
    fn close(&self, call: &mut Call, file: u64) -> Option<()> {
        let (shown, inode) = self.file(file)?;
        call.text = format!("close and unlock {shown}");
        call.writes.push(Thing::Lock(inode));
        locks(self.process, &file.to_string()).then_some(())
    }

    fn read_file(&self, call: &mut Call, verb: &str, file: u64) -> Option<()> {
        let (shown, inode) = self.file(file)?;
        call.text = format!("{verb} {shown}");
        call.reads.push(Thing::File(inode));
        Some(())
    }

    fn write_file(&self, call: &mut Call, verb: &str, file: u64) -> Option<()> {
        let (shown, inode) = self.file(file)?;
        call.text = format!("{verb} {shown}");
        call.writes.push(Thing::File(inode));
        Some(())
    }

    fn write_file_at(&self, call: &mut Call, path: Option<PathBuf>) -> Option<()> {
        let path = path?;
        call.text = format!("set time of {}", self.shown(&path));
        call.writes.extend(inode_at(&path).map(Thing::File));
        call.reads.push(Thing::Name(path));
        Some(())
    }

    fn look(&self, call: &mut Call, path: Option<PathBuf>) -> Option<()> {
        let path = path?;
        call.text = format!("look at {}", self.shown(&path));
        call.reads.extend(inode_at(&path).map(Thing::File));
        call.reads.push(Thing::Name(path));
        Some(())
    }

    fn make_directory(&self, call: &mut Call, path: Option<PathBuf>) -> Option<()> {
        let path = path?;
        call.text = format!("make {}", self.shown(&path));
        call.writes.extend([Thing::Name(path), Thing::Names]);
        Some(())
    }

    fn unlink(&self, call: &mut Call, path: Option<PathBuf>) -> Option<()> {
        let path = path?;
        call.text = format!("unlink {}", self.shown(&path));
        call.writes.extend(inode_at(&path).map(Thing::File));
        call.writes.extend([Thing::Name(path), Thing::Names]);
        Some(())
    }

    fn move_name(&self, call: &mut Call, from: Option<PathBuf>, to: Option<PathBuf>) -> Option<()> {
        let (from, to) = (from?, to?);
        call.text = format!("move or link {} to {}", self.shown(&from), self.shown(&to));
        let inodes = [inode_at(&from), inode_at(&to)].into_iter().flatten();
        call.writes.extend(inodes.map(Thing::File));
        call.writes
            .extend([Thing::Name(from), Thing::Name(to), Thing::Names]);
        Some(())
    }

    fn arguments(&self) -> [u64; 4] {
        let registers = self.registers;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10]
    }

    /// The path that a call names, if it lies below the directory.
    fn path(&self, directory: u64, text: u64) -> Option<PathBuf> {
        let text = self.text(text)?;
        // An int in a register of 64 bits.
        let base = if directory & 0xffff_ffff == AT_CWD {
            fs::read_link(format!("/proc/{}/cwd", self.process)).ok()?
        } else if text.starts_with('/') {
            PathBuf::new()
        } else {
            self.opened(directory)?
        };
        let path = base.join(text);
        let is_below = path.starts_with(self.directory) && path != self.directory;
        is_below.then_some(path)
    }

    fn text(&self, address: u64) -> Option<String> {
        let memory = File::open(format!("/proc/{}/mem", self.process)).ok()?;
        let mut bytes = [0; 512];
        let length = memory.read_at(&mut bytes, address).ok()?;
        let end = bytes[..length].iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        (!text.is_empty()).then_some(text)
    }

    fn opened(&self, file: u64) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/fd/{file}", self.process)).ok()
    }

    /// How an open file below the directory is shown, and its inode.
    fn file(&self, file: u64) -> Option<(String, u64)> {
        let path = self.opened(file)?;
        let is_ours = path.starts_with(self.directory) && path != self.directory;
        let inode = fs::metadata(format!("/proc/{}/fd/{file}", self.process));
        is_ours.then_some((self.shown(&path), inode.ok()?.ino()))
    }

    /// A name without what is random in it.
    fn shown(&self, path: &Path) -> String {
        let name = path.strip_prefix(self.directory).unwrap_or(path);
        let name = name.to_string_lossy();
        let name = match name.split_once('/') {
            Some((_, name)) => name,
            None if name.len() == 2 => return "a shard".to_owned(),
            None => &*name,
        };
        let name = name.trim_end_matches(" (deleted)");
        if name.starts_with(".tmp-") {
            return "a temporary file".to_owned();
        }
        match name.rsplit_once('.') {
            Some((_, "new")) => "a temporary file".to_owned(),
            Some((_, "user")) => "the index".to_owned(),
            Some((stem, "json")) => outcome::name_of(stem).to_owned(),
            Some((stem, end)) if stem.len() == 64 => format!("{}.{end}", outcome::name_of(stem)),
            _ => name.to_owned(),
        }
    }
}

const AT_CWD: u64 = 0xffff_ff9c;

fn bits(flag: i32) -> u64 {
    u64::try_from(flag).unwrap()
}

fn inode_at(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|stat| stat.ino())
}
