//! [`Place`]: a directory of our own on one file system.

use std::path::Path;

use tempfile::TempDir;

use crate::measure::Outcome;

/// A new directory that is removed again with everything in it.
pub(crate) struct Place {
    name: String,
    directory: TempDir,
}

impl Place {
    fn new(parent: &str) -> Outcome<Self> {
        let directory = tempfile::Builder::new()
            .prefix("floor-")
            .tempdir_in(parent)?;
        let name = file_system(directory.path())?;
        Ok(Place { name, directory })
    }

    /// The file system's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether files here outlive the machine's power.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.name != "tmpfs"
    }

    /// An empty directory in it.
    pub(crate) fn directory(&self) -> Outcome<TempDir> {
        Ok(tempfile::tempdir_in(self.directory.path())?)
    }
}

/// The disk that the build lies on, and the memory.
pub(crate) fn all() -> Outcome<Vec<Place>> {
    let mut places = vec![Place::new(env!("CARGO_TARGET_TMPDIR"))?];
    if Path::new("/dev/shm").is_dir() {
        places.push(Place::new("/dev/shm")?);
    }
    Ok(places)
}

fn file_system(path: &Path) -> Outcome<String> {
    // The magic numbers of statfs(2).
    Ok(match rustix::fs::statfs(path)?.f_type {
        0xef53 => "ext4".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        other => format!("file system {other:#x}"),
    })
}
