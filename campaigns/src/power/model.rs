//! What a file system may leave that orders nothing by itself: of what is not synced each sector may
//! be there or not, and each change of a name. Renames are taken to be whole, and times are not looked at.

use testkit::prelude::*;

use crate::tracer::Tracer;

const SECTOR: usize = 512;
const PAGE: usize = 4096;
/// Of so many pieces, every combination is tried.
const FEW: usize = 8;

type Names = BTreeMap<String, u64>;

/// Something that a call did, or saw to.
enum Event {
    /// These names lead to these files now, or to none.
    Named(BTreeMap<String, Option<u64>>),
    Written(u64, Vec<u8>),
    SyncedFile(u64),
    SyncedNames,
}

/// What a process did to a directory.
pub(crate) struct History {
    before: Moment,
    events: Vec<Event>,
}

/// A directory as it may be found.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Default)]
struct Moment {
    names: Names,
    files: BTreeMap<u64, Vec<u8>>,
}

impl Moment {
    fn of(directory: &Path) -> Self {
        let mut moment = Moment::default();
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let number = entry.metadata().unwrap().ino();
            moment.names.insert(name, number);
            moment.files.insert(number, fs::read(entry.path()).unwrap());
        }
        moment
    }

    /// What happened between this moment and the next.
    fn events(&self, next: &Moment) -> Vec<Event> {
        let mut changed = BTreeMap::new();
        for name in self.names.keys().chain(next.names.keys()) {
            let number = next.names.get(name);
            if number != self.names.get(name) {
                changed.insert(name.clone(), number.copied());
            }
        }
        let named = (!changed.is_empty()).then_some(Event::Named(changed));
        let written = next.files.iter().filter_map(|(number, bytes)| {
            let before = self.files.get(number).map_or(&[][..], Vec::as_slice);
            (before != bytes).then(|| Event::Written(*number, bytes.clone()))
        });
        named.into_iter().chain(written).collect()
    }
}

impl History {
    /// Lets a process run to its end and notes what it does to the directory; with what it said.
    pub(crate) fn of(mut tracer: Tracer, directory: &Path) -> (Self, String) {
        let before = Moment::of(directory);
        let (mut now, mut events) = (before.clone(), Vec::new());
        while let Some(call) = tracer.next() {
            if !call.may_change_disk() {
                continue;
            }
            let number = call.file.as_ref().filter(|_| call.is_sync()).map(|path| {
                let is_directory = path == directory;
                (!is_directory).then(|| fs::metadata(path).unwrap().ino())
            });
            tracer.make();
            let next = Moment::of(directory);
            events.extend(now.events(&next));
            events
                .extend(number.map(|number| number.map_or(Event::SyncedNames, Event::SyncedFile)));
            now = next;
        }
        (History { before, events }, tracer.finish().said)
    }

    /// How many moments there are at which the power may go.
    pub(crate) fn moments(&self) -> usize {
        self.events.len() + 1
    }

    /// Everything that may be found when the power goes after so many events.
    pub(crate) fn found_after(&self, events: usize) -> Vec<Files> {
        let mut disk = Disk::new(&self.before);
        for event in &self.events[..events] {
            disk.apply(event);
        }
        disk.found()
    }
}

/// What has reached a disk for certain, and what may have.
struct Disk {
    names: Names,
    renamed: Vec<BTreeMap<String, Option<u64>>>,
    /// What a file held when it was synced, and everything that was written since.
    files: BTreeMap<u64, Vec<Vec<u8>>>,
    /// What lies on a disk where nothing was written: old contents of other files.
    stale: Vec<u8>,
}

impl Disk {
    fn new(before: &Moment) -> Self {
        let files = before.files.iter();
        Disk {
            names: before.names.clone(),
            renamed: Vec::new(),
            files: files
                .map(|(number, bytes)| (*number, vec![bytes.clone()]))
                .collect(),
            stale: before.files.values().flatten().copied().collect(),
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Named(changed) => self.renamed.push(changed.clone()),
            Event::Written(number, bytes) => {
                let versions = self
                    .files
                    .entry(*number)
                    .or_insert_with(|| vec![Vec::new()]);
                versions.push(bytes.clone());
            }
            Event::SyncedFile(number) => {
                if let Some(versions) = self.files.get_mut(number) {
                    versions.drain(..versions.len() - 1);
                }
            }
            Event::SyncedNames => {
                for changed in std::mem::take(&mut self.renamed) {
                    rename(&mut self.names, &changed);
                }
            }
        }
    }

    fn found(&self) -> Vec<Files> {
        let mut found = Vec::new();
        for chosen in 0..1u32 << self.renamed.len() {
            let mut names = self.names.clone();
            for (place, changed) in self.renamed.iter().enumerate() {
                if chosen >> place & 1 == 1 {
                    rename(&mut names, changed);
                }
            }
            found.extend(self.found_with(&names));
        }
        found
    }

    /// Each file in all its variants, while the others are as they were, or as they are.
    fn found_with(&self, names: &Names) -> Vec<Files> {
        let files = |age: Age| -> Files {
            let version = |number| self.version(number, age);
            let files = names.iter();
            files
                .map(|(name, number)| (name.clone(), version(*number)))
                .collect()
        };
        let mut found = vec![files(Age::Oldest), files(Age::Newest)];
        for (name, number) in names {
            let versions = self.files.get(number).map_or(&[][..], Vec::as_slice);
            for variant in variants(versions, &self.stale) {
                for age in [Age::Oldest, Age::Newest] {
                    let mut files = files(age);
                    files.insert(name.clone(), variant.clone());
                    found.push(files);
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    fn version(&self, number: u64, age: Age) -> Vec<u8> {
        let versions = self.files.get(&number).map_or(&[][..], Vec::as_slice);
        let version = match age {
            Age::Oldest => versions.first(),
            Age::Newest => versions.last(),
        };
        version.cloned().unwrap_or_default()
    }
}

/// Which contents the files have that are not looked at.
#[derive(Clone, Copy)]
enum Age {
    Oldest,
    Newest,
}

fn rename(names: &mut Names, changed: &BTreeMap<String, Option<u64>>) {
    for (name, number) in changed {
        match number {
            Some(number) => names.insert(name.clone(), *number),
            None => names.remove(name),
        };
    }
}

/// What may lie in a file of which all these versions were written and only the first was synced.
fn variants(versions: &[Vec<u8>], stale: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for (place, new) in versions.iter().enumerate().skip(1) {
        for old in &versions[..place] {
            mix(old, new, &mut found);
            // Space that was given to the file and never written.
            let unwritten: Vec<_> = stale.iter().cycle().take(new.len()).copied().collect();
            let unwritten = [&old[..], unwritten.get(old.len()..).unwrap_or_default()].concat();
            mix(&unwritten, new, &mut found);
            // A file that has grown, and whose length says less of it.
            let lengths = (old.len()..new.len()).step_by(SECTOR);
            found.extend(lengths.map(|length| new[..length].to_vec()));
        }
    }
    found
}

/// Sectors of the one beside sectors of the other: every combination of a few, of many every
/// combination of pages, every beginning and every end, and all but each one.
fn mix(old: &[u8], new: &[u8], found: &mut Vec<Vec<u8>>) {
    let length = old.len().max(new.len());
    let padded = |bytes: &[u8]| [bytes, &vec![0; length - bytes.len()]].concat();
    let (old, new) = (padded(old), padded(new));
    let differing = |size: usize| -> Vec<usize> {
        let starts = (0..length).step_by(size);
        let part = |bytes: &[u8], start: usize| bytes[start..length.min(start + size)].to_vec();
        starts
            .filter(|start| part(&old, *start) != part(&new, *start))
            .collect()
    };
    let mut take = |size: usize, is_new: &dyn Fn(usize) -> bool| {
        let mut mixed = old.clone();
        for (place, start) in differing(size).into_iter().enumerate() {
            if is_new(place) {
                let end = length.min(start + size);
                mixed[start..end].copy_from_slice(&new[start..end]);
            }
        }
        found.push(mixed);
    };
    for size in [SECTOR, PAGE] {
        let pieces = differing(size).len();
        if pieces <= FEW {
            for chosen in 0..1u32 << pieces {
                take(size, &|place| chosen >> place & 1 == 1);
            }
        }
        for turn in 0..pieces {
            take(size, &|place| place < turn);
            take(size, &|place| place >= turn);
            take(size, &|place| place != turn);
        }
    }
}

/// Lays the files out in an empty directory.
pub(crate) fn lay_out(files: &Files, directory: &Path) {
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
}
