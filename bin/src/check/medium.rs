//! What the directory is stored on: a local disk with room left.

use std::fs;
use std::path::Path;

use cgi_session::shell_word;
use indicatif::HumanBytes;

use super::finding::{Findings, Level};

const MIN_BYTES: u64 = 64 << 20;
const MIN_INODES: u64 = 1000;
const MIN_PERCENT: u64 = 5;

pub(super) fn check(path: &Path, found: &mut Findings) {
    // A directory that is still to be made will be on the medium of its parent.
    let Some(place) = path.ancestors().find(|place| place.exists()) else {
        return;
    };
    if let Some(magic) = magic(place) {
        file_system_of(magic, path, found);
    }
    let Ok(stat) = rustix::fs::statvfs(place) else {
        return;
    };
    let word = shell_word(place);
    let [free, total] = [stat.f_bavail, stat.f_blocks].map(|it| it.saturating_mul(stat.f_frsize));
    let text = format!("{} free", HumanBytes(free));
    let level = room(free, total, MIN_BYTES);
    add_room(level, "space", text, &format!("df -h {word}"), found);
    // Some file systems make inodes as they need them, and say that there are none.
    if stat.f_files > 0 {
        let text = format!("{} inodes free; each session takes one", stat.f_favail);
        let level = room(stat.f_favail, stat.f_files, MIN_INODES);
        add_room(level, "inodes", text, &format!("df -i {word}"), found);
    }
}

fn room(free: u64, total: u64, floor: u64) -> Level {
    if free < floor {
        Level::Problem
    } else if free / MIN_PERCENT < total / 100 {
        Level::Warning
    } else {
        Level::Ok
    }
}

fn add_room(level: Level, topic: &'static str, text: String, look: &str, found: &mut Findings) {
    let text = match level {
        Level::Warning => format!("{text}, less than {MIN_PERCENT} % of all"),
        _ => text,
    };
    let finding = found.add(level, topic, text);
    if level != Level::Ok {
        finding.remedy(format!("make room; {look}"));
    }
}

/// The name of the file system that holds this path, as mount(8) has it.
pub(super) fn file_system(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    file_system_among(&mounts, &path)
}

/// The same in a text as proc(5) describes it. Of two mounts on one point, the later one
/// is seen.
fn file_system_among(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        let holds = path.starts_with(&point);
        holds.then(|| (point.len(), source.split(' ').next().unwrap_or_default()))
    });
    let (_, name) = mounts.max_by_key(|(length, _)| *length)?;
    Some(name.to_owned())
}

/// Whether this path is on a file system whose locks are not dependable.
pub(super) fn is_network(path: &Path) -> bool {
    magic(path).is_some_and(|magic| name_in(&NETWORKS, magic).is_some())
}

/// The number of the file system that holds this path (statfs(2)).
fn magic(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statfs(path).ok()?;
    u64::try_from(stat.f_type).ok()
}

/// File systems whose locks are not dependable, by their number in statfs(2).
const NETWORKS: [(u64, &str); 13] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB 2"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x00c3_6400, "Ceph"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0102_1997, "9P"),
    (0x564c, "NCP"),
];
/// Those in memory.
const MEMORIES: [(u64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
const FUSE: u64 = 0x6573_5546;
const OVERLAY: u64 = 0x794c_7630;

fn name_in(table: &[(u64, &'static str)], magic: u64) -> Option<&'static str> {
    let known = table.iter().find(|(number, _)| *number == magic);
    known.map(|(_, name)| *name)
}

/// How a file system serves as a place for sessions.
fn file_system_of(magic: u64, path: &Path, found: &mut Findings) {
    const TOPIC: &str = "fileSystem";
    let shown = path.display();
    if let Some(name) = name_in(&NETWORKS, magic) {
        let said = "a network file system, where locks are not dependable: updates can be lost";
        let finding = found.problem(TOPIC, format!("{shown} is on {name}, {said}"));
        finding.remedy("storageFileDir on a local disk");
        return;
    }
    let (said, remedy) = if let Some(name) = name_in(&MEMORIES, magic) {
        (
            format!("{name}, in memory: all sessions are gone when the machine restarts"),
            "storageFileDir on a disk, unless that is what you want".to_owned(),
        )
    } else if magic == FUSE {
        let said = "a FUSE file system, which may be a network in disguise";
        (said.to_owned(), format!("findmnt -T {}", shell_word(path)))
    } else if magic == OVERLAY {
        let said = "an overlay, probably a container's: the sessions are gone with the container";
        (said.to_owned(), format!("mount a volume at {shown}"))
    } else {
        found.fine(TOPIC, "a local file system");
        return;
    };
    let text = format!("{shown} is on {said}");
    found.warning(TOPIC, text).remedy(remedy);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_a_problem_and_a_small_share_a_warning() {
        assert_eq!(room(999, 2000, 1000), Level::Problem);
        assert_eq!(room(1000, 2000, 1000), Level::Ok);
        assert_eq!(room(49_999, 1_000_000, 1000), Level::Warning);
        assert_eq!(room(50_000, 1_000_000, 1000), Level::Ok);
    }

    #[test]
    fn a_path_is_on_the_nearest_and_latest_mount() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            30 22 0:26 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw\n\
            31 22 0:27 / /srv/a\\040b rw - xfs /dev/vdb rw\n\
            32 22 0:28 / /dev/shm rw - ramfs none rw\n";
        let on = |path| file_system_among(mounts, Path::new(path));
        assert_eq!(on("/var/lib").as_deref(), Some("ext4"));
        assert_eq!(on("/dev/shm/x").as_deref(), Some("ramfs"));
        assert_eq!(on("/srv/a b").as_deref(), Some("xfs"));
        assert_eq!(on("/srv/a").as_deref(), Some("ext4"));
    }

    #[test]
    fn network_file_systems_are_problems_and_named() {
        let said = |magic| {
            let mut found = Findings::default();
            file_system_of(magic, Path::new("/x"), &mut found);
            found.json().to_string()
        };
        assert!(said(0xff53_4d42).contains("CIFS"));
        let levels = [0x6969, 0x0102_1994, 0xef53].map(said);
        for (said, level) in levels.iter().zip(["problem", "warning", "ok"]) {
            assert!(said.contains(&format!("\"level\":\"{level}\"")), "{said}");
        }
    }
}
