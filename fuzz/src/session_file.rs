//! The bytes of a session file, read by the real file store.
//!
//! Tries to have a record read that nobody wrote. A file of any bytes is a session or none, and never
//! a crash. Of a file of two commits in which bits are flipped, exactly the newer record is
//! read while its bytes are whole, exactly the older one while its bytes are, and none otherwise. What
//! an independent encoder has put into either slot is read as it is, saved, and read again.

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cgi_session::{
    Config, Error, FileStore, Record, RecordError, SessionDigest, SessionId, Store as _,
};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::record::same;

const ID: &[u8] = b"2f1c0e5d9a8b7c6d5e4f30213243546576879800";
/// What stands before the data of a slot.
const HEAD: usize = 92;
/// Of the files that are made here.
const SEED: u64 = 0x2f1c_0e5d_9a8b_7c6d;
const SECTOR: usize = 512;

thread_local! {
    /// One directory for all files that a thread tries.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Puts a file in a session's place, as the first byte says, and reads it.
///
/// # Panics
///
/// When anything is read but what the rules say.
pub fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    PLACE.with_borrow_mut(|place| {
        let place = place.get_or_insert_with(Place::new);
        match kind % 3 {
            0 => place.try_bytes(rest),
            1 => place.try_flips(rest),
            _ => place.try_slots(rest),
        }
        place.clear();
    });
}

struct Place {
    directory: TempDir,
    store: FileStore,
    session: SessionDigest,
    path: PathBuf,
    now: SystemTime,
    /// A file of two commits.
    two: Vec<u8>,
    records: [Record; 2],
}

impl Place {
    fn new() -> Self {
        let shared_memory = PathBuf::from("/dev/shm");
        let directory = if shared_memory.is_dir() {
            TempDir::new_in(shared_memory)
        } else {
            TempDir::new()
        };
        let directory = directory.expect("a directory");
        let now = SystemTime::now();
        let config = Config::new().set("storageFileDir", directory.path());
        let store = FileStore::new(config.expect("a setting")).expect("a store");
        let id = SessionId::parse(ID).expect("an id");
        let record = |values: &str| Record::new(now).with_values(values.as_bytes().to_vec());
        let records = [
            record(r#"{"":{"cart":["one","two"],"views":1}}"#),
            record(r#"{"":{"cart":["one","two","three"],"views":2}}"#),
        ];
        let session = id.digest();
        let lease = store.create(&session, &records[0], now).expect("created");
        let mut lease = lease.expect("a new session");
        lease.commit(&records[1], now).expect("committed");
        drop(lease);
        let path = store.path(&id);
        let two = fs::read(&path).expect("a file");
        Place {
            directory,
            store,
            session,
            path,
            now,
            two,
            records,
        }
    }

    fn put(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).expect("written");
        fs::set_permissions(&self.path, Permissions::from_mode(0o600)).expect("mode");
    }

    fn clear(&self) {
        for entry in fs::read_dir(self.directory.path()).expect("a directory") {
            let path = entry.expect("an entry").path();
            let end = path.extension().unwrap_or_default();
            assert!(
                end == "json" || end == "corrupt" || end == "user",
                "left behind: {}",
                path.display()
            );
            fs::remove_file(path).expect("removed");
        }
    }

    /// The record that is read; the lock must give the same one.
    fn read(&self) -> Result<Option<Record>, Error> {
        let read = self.store.read(&self.session, self.now)?;
        let locked = self.store.lock(&self.session, Duration::ZERO, self.now)?;
        match (read, locked) {
            (Some(read), Some((locked, mut lease))) => {
                same(&read.record, &locked.record);
                self.save_again(lease.as_mut(), &read.record);
                Ok(Some(read.record))
            }
            (None, None) => {
                assert!(!self.path.exists(), "what is no session is still there");
                Ok(None)
            }
            (read, locked) => panic!("read {read:?}, locked {:?}", locked.map(|found| found.0)),
        }
    }

    /// What was read is stored again, another record after it, and the first one once more.
    fn save_again(&self, lease: &mut dyn cgi_session::Lease, record: &Record) {
        for record in [record, &self.records[0], record] {
            lease.commit(record, self.now).expect("committed");
            let again = self.store.read(&self.session, self.now).expect("read");
            same(&again.expect("a session").record, record);
        }
    }

    fn try_bytes(&self, bytes: &[u8]) {
        self.put(bytes);
        match self.read() {
            // Files of the future, and of a size that no session has, are errors and stay.
            Ok(_) | Err(Error::Format { .. } | Error::Refused { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Each three bytes are a place in the file and the bits to flip there.
    fn try_flips(&self, flips: &[u8]) {
        let mut file = self.two.clone();
        for flip in flips.chunks_exact(3) {
            let at = usize::from(u16::from_be_bytes([flip[0], flip[1]])) % file.len();
            file[at] ^= flip[2];
        }
        let slot = file.len() / 2;
        let is_whole = |number: usize| {
            let length = HEAD + self.records[number].to_json().len();
            let range = number * slot..number * slot + length;
            file[range.clone()] == self.two[range]
        };
        let expected = [1, 0].into_iter().find(|number| is_whole(*number));
        self.put(&file);
        match (self.read().expect("no error of the system"), expected) {
            (Some(read), Some(number)) => same(&read, &self.records[number]),
            (None, None) => {}
            (read, expected) => panic!("record {expected:?} is whole, read {read:?}"),
        }
    }

    /// A byte that says what is in the slots, one that says where the data is cut in two, the data.
    fn try_slots(&self, bytes: &[u8]) {
        let [layout, cut, data @ ..] = bytes else {
            return;
        };
        let (has_second, is_second_newer) = (layout & 1 != 0, layout & 2 != 0);
        let cut = if has_second {
            data.len() * usize::from(*cut) / 256
        } else {
            data.len()
        };
        let (first, second) = data.split_at(cut);
        let capacity = (HEAD + 2 + first.len().max(second.len())).next_multiple_of(SECTOR);
        let distance = if layout & 16 != 0 { 1000 } else { 1 };
        let base = u64::from(layout >> 5) << 60;
        let generations = if is_second_newer {
            [base, base + distance]
        } else {
            [base + distance, base]
        };
        let (bad_first, bad_second) = (layout & 4 != 0, has_second && layout & 8 != 0);
        let mut file = self.slot(b'[', generations[0], first, capacity, bad_first);
        if has_second {
            let mut slot = self.slot(b',', generations[1], second, capacity, bad_second);
            *slot.last_mut().expect("a byte") = b']';
            file.extend(slot);
        } else {
            file.extend_from_slice(b",null");
            file.resize(2 * capacity - 1, b' ');
            file.push(b']');
        }
        let mut candidates = vec![(generations[0], first, bad_first)];
        candidates.extend(has_second.then_some((generations[1], second, bad_second)));
        candidates.retain(|(_, _, is_bad)| !is_bad);
        let current = candidates
            .into_iter()
            .max_by_key(|(generation, ..)| *generation);
        self.put(&file);
        self.expect(current.map(|(_, data, _)| data));
    }

    fn slot(
        &self,
        open: u8,
        generation: u64,
        data: &[u8],
        capacity: usize,
        is_bad: bool,
    ) -> Vec<u8> {
        let (number, length) = (format!("{generation:>20}"), format!("{:>10}", data.len()));
        let named = [self.session.as_str(), &number, &length].concat();
        let hash = xxh3_64_with_seed(&[named.as_bytes(), data].concat(), SEED) ^ u64::from(is_bad);
        let mut slot = vec![open];
        let head =
            format!(r#"{{"g":{number},"h":"{hash:016x}","s":"{SEED:016x}","n":{length},"d":"#);
        slot.extend(head.into_bytes());
        slot.extend_from_slice(data);
        slot.push(b'}');
        slot.resize(capacity - 1, b' ');
        slot.push(b'\n');
        slot
    }

    fn expect(&self, data: Option<&[u8]>) {
        let read = self.read();
        let Some(data) = data else {
            assert!(read.expect("no error of the system").is_none());
            return;
        };
        match (Record::from_json(data.to_vec()), read) {
            (Err(RecordError::LaterVersion(_)), Err(Error::Format { .. }))
            | (Err(RecordError::Malformed(_)), Ok(None)) => {}
            (Ok(record), Ok(None)) => {
                let end = record.expires().expect("a session that lives is read");
                assert!(end < self.now, "it ends {end:?}");
            }
            (Ok(record), Ok(Some(read))) => same(&read, &record),
            (record, read) => panic!("{record:?} was read as {read:?}"),
        }
    }
}
