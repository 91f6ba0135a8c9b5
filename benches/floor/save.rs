//! One session saved or read, against the system calls that no store can do without.

use std::path::Path;
use std::time::SystemTime;

use cgi_session::{SessionId, SessionManager, Store as _};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use tempfile::TempDir;

use crate::cgi;
use crate::crowd::Crowd;
use crate::measure::{Contender, Outcome, Row, compare, timed};
use crate::place::Place;

/// Many and short: what disturbs a round disturbs few.
const ROUNDS: usize = 400;
/// So many sessions take turns, so that no single one is always in the processor's cache.
const SESSIONS: usize = 64;

pub(crate) fn saves(place: &Place) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    // The slot of each size is half as large again, in whole sectors.
    for (size, slot, name, times, targets) in [
        (200, 512, "200 B", 60, [Some(1.15), Some(1.45)]),
        (65536, 98816, "64 KB", 5, [None, Some(1.5)]),
    ] {
        let (mut raw, mut stored) = (
            Raw::new(place, 2 * slot)?,
            Sessions::new(place, "none", size)?,
        );
        let mut whole = Sessions::new(place, "none", size)?;
        let [floor, store, session] = compare(
            ROUNDS,
            [
                Box::new(|| timed(times, || raw.save_in_slots(size))),
                Box::new(|| timed(times, || stored.save())),
                Box::new(|| timed(times, || whole.request())),
            ],
        )?;
        let what = format!("save {name}: lock, load, commit");
        rows.push(Row::ratio(what, place, [&floor, &store], targets[0]));
        let what = format!("save {name}: a whole `Session`, JSON included");
        rows.push(Row::ratio(what, place, [&floor, &session], targets[1]));
    }
    Ok(rows)
}

pub(crate) fn reads(place: &Place) -> Outcome<Vec<Row>> {
    let (mut raw, mut locked) = (Raw::new(place, 200)?, Raw::new(place, 200)?);
    let mut stored = Sessions::new(place, "none", 200)?;
    let mut opened = Sessions::new(place, "none", 200)?;
    let [read, snapshot, lock, existing] = compare(
        ROUNDS,
        [
            Box::new(|| timed(100, || raw.read(false))),
            Box::new(|| timed(100, || stored.read())),
            Box::new(|| timed(100, || locked.read(true))),
            Box::new(|| timed(100, || opened.existing())),
        ],
    )?;
    let what = "snapshot read 200 B";
    let snapshot = Row::ratio(what, place, [&read, &snapshot], Some(1.4));
    let what = "a request that only reads, locked, 200 B";
    let existing = Row::ratio(what, place, [&lock, &existing], Some(1.5));
    Ok(vec![snapshot, existing])
}

pub(crate) fn durable_saves(place: &Place) -> Outcome<Vec<Row>> {
    if !place.is_on_disk() {
        return Ok(Vec::new());
    }
    let (mut raw, mut stored) = (Raw::new(place, 200)?, Sessions::new(place, "data", 200)?);
    let floor: Contender<'_> = Box::new(|| timed(10, || raw.save_durably()));
    let [floor, saved] = compare(40, [floor, Box::new(|| timed(10, || stored.save()))])?;
    let what = "save 200 B, `durability = data`";
    Ok(vec![Row::ratio(what, place, [&floor, &saved], Some(1.1))])
}

/// Files without any order in them, and the bare calls on them.
struct Raw {
    _home: TempDir,
    directory: OwnedFd,
    names: Vec<String>,
    next: usize,
    buffer: Vec<u8>,
}

impl Raw {
    fn new(place: &Place, size: usize) -> Outcome<Self> {
        let home = place.directory()?;
        let names: Vec<String> = (0..SESSIONS).map(|n| format!("{n:064x}.json")).collect();
        for name in &names {
            std::fs::write(home.path().join(name), vec![b'x'; size])?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Raw {
            directory: rustix::fs::open(home.path(), flags, Mode::empty())?,
            _home: home,
            names,
            next: 0,
            buffer: vec![0; size],
        })
    }

    fn open(&mut self, access: OFlags) -> Outcome<OwnedFd> {
        self.next = (self.next + 1) % SESSIONS;
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME;
        let name = self.names[self.next].as_str();
        Ok(rustix::fs::openat(
            &self.directory,
            name,
            flags,
            Mode::empty(),
        )?)
    }

    fn save_durably(&mut self) -> Outcome<()> {
        let file = self.open(OFlags::RDWR)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        rustix::io::pread(&file, &mut self.buffer, 0)?;
        self.buffer[0] = self.buffer[0].wrapping_add(1);
        rustix::io::pwrite(&file, &self.buffer, 0)?;
        Ok(rustix::fs::fdatasync(file)?)
    }

    /// Nothing but the calls that saving `size` bytes in a file of two slots takes.
    fn save_in_slots(&mut self, size: usize) -> Outcome<()> {
        const WHOLE: usize = 16 << 10;
        let file = self.open(OFlags::RDWR)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        rustix::fs::fstat(&file)?;
        let slot = self.buffer.len() / 2;
        if self.buffer.len() <= WHOLE {
            rustix::io::pread(&file, &mut self.buffer, 0)?;
        } else {
            for (start, length) in [(0, 92), (slot, 92), (92, size)] {
                rustix::io::pread(&file, &mut self.buffer[..length], start as u64)?;
            }
        }
        rustix::io::pwrite(&file, &self.buffer[..slot], slot as u64)?;
        rustix::fs::flock(&file, FlockOperation::Unlock)?;
        Ok(())
    }

    fn read(&mut self, is_locked: bool) -> Outcome<()> {
        let file = self.open(OFlags::RDONLY)?;
        if is_locked {
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        }
        rustix::io::pread(&file, &mut self.buffer, 0)?;
        Ok(())
    }
}

/// As many sessions, whose records are as long as the raw files.
pub(crate) struct Sessions {
    crowd: Crowd,
    manager: SessionManager,
    cookies: Vec<String>,
    next: usize,
}

impl Sessions {
    pub(crate) fn new(place: &Place, durability: &str, size: usize) -> Outcome<Self> {
        let mut crowd = Crowd::new(place, size, &[("durability", durability)])?;
        crowd.fill(SESSIONS)?;
        let ids = crowd.ids.iter();
        let cookies = ids.map(|id| format!("sessionId={}", id.secret()));
        Ok(Sessions {
            cookies: cookies.collect(),
            manager: SessionManager::new(crowd.config.clone())?,
            crowd,
            next: 0,
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.crowd.directory()
    }

    /// One after the other.
    pub(crate) fn next(&mut self) -> &SessionId {
        self.next = (self.next + 1) % SESSIONS;
        &self.crowd.ids[self.next]
    }

    fn save(&mut self) -> Outcome<()> {
        let id = self.next().digest();
        self.crowd.save(&id)
    }

    fn read(&mut self) -> Outcome<()> {
        let id = self.next().digest();
        let found = self.crowd.store.read(&id, SystemTime::now())?;
        found.map(drop).ok_or_else(|| "a session is gone".into())
    }

    /// One page view of one of the visitors.
    pub(crate) fn count(&mut self, program: &Path) -> Outcome<()> {
        self.next = (self.next + 1) % SESSIONS;
        cgi::count(program, self.directory(), &self.crowd.ids[self.next])
    }

    fn existing(&mut self) -> Outcome<()> {
        self.next = (self.next + 1) % SESSIONS;
        let session = self.manager.existing(&self.cookies[self.next])?;
        let session = session.ok_or("a session is gone")?;
        session.require::<u64>("pageViews")?;
        session.commit()?;
        Ok(())
    }

    /// What the counter does with a session during one request.
    fn request(&mut self) -> Outcome<()> {
        self.next = (self.next + 1) % SESSIONS;
        let mut session = self.manager.start(&self.cookies[self.next])?;
        let views: u64 = session.require("pageViews")?;
        session.insert("pageViews", views + 1)?;
        session.commit()?;
        Ok(())
    }
}
