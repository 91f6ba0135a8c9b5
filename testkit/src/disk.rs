//! Disks of a test's own: mounted where no other process sees them, and gone with the last thread
//! and process of the test, however it ends.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::prelude::*;

/// A directory in memory for the disks of one test, in mounts that only this thread sees and what
/// it starts from now on.
pub struct Room(TempDir);

impl Room {
    /// Where that cannot be, the test says so and passes.
    ///
    /// It can be where the process is root with the capability to mount, and the kernel has loop
    /// devices and ext4. Where all that is so, a mount that fails is a failure of the test.
    pub fn open() -> Option<Self> {
        if let Some(missing) = missing() {
            crate::skip(missing);
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let directory = tempfile::tempdir().unwrap();
        mount_memory(directory.path(), "size=256m");
        Some(Room(directory))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // With everything that is mounted in it. The mounts end with the thread in any case.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

fn missing() -> Option<&'static str> {
    const CAP_SYS_ADMIN: u32 = 21;
    if !is_root() {
        return Some("not running as root");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.map(|bits| u64::from_str_radix(bits.trim(), 16).unwrap());
    if effective.is_none_or(|bits| bits & 1 << CAP_SYS_ADMIN == 0) {
        return Some("root may not mount here");
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("no loop devices here");
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    (!known.lines().any(|line| line.trim() == "ext4")).then_some("no ext4 in this kernel")
}

/// Mounts a disk of memory with options of tmpfs.
pub fn mount_memory(place: &Path, options: &str) {
    try_mount_memory(place, options).unwrap();
}

fn try_mount_memory(place: &Path, options: &str) -> nix::Result<()> {
    let (kind, options) = (Some("tmpfs"), format!("mode=0700,{options}"));
    mount(kind, place, kind, MsFlags::empty(), Some(&*options))
}

/// A disk of memory that every process sees, taken away again at the end.
pub struct SmallDisk {
    place: PathBuf,
    _own: Option<TempDir>,
}

impl SmallDisk {
    /// A disk with options of tmpfs in a directory of its own. Where this process may not mount one, the test
    /// says so and passes.
    pub fn mount(options: &str) -> Option<Self> {
        let own = tempfile::tempdir().unwrap();
        let place = own.path().to_owned();
        is_mounted(&place, options).then(|| SmallDisk {
            place,
            _own: Some(own),
        })
    }

    /// The same in a directory that is there.
    pub fn mount_on(place: &Path, options: &str) -> Option<Self> {
        is_mounted(place, options).then(|| SmallDisk {
            place: place.to_owned(),
            _own: None,
        })
    }

    pub fn path(&self) -> &Path {
        &self.place
    }
}

fn is_mounted(place: &Path, options: &str) -> bool {
    let mounted = try_mount_memory(place, options);
    if let Err(error) = mounted {
        crate::skip(&format!("not allowed to mount a small disk: {error}"));
    }
    mounted.is_ok()
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // With what is open there for a moment longer.
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

/// Changes the options of what is mounted here.
pub fn remount(place: &Path, options: &str) {
    assert!(try_remount(place, options), "remount,{options}");
}

/// The same, unless it is refused.
pub fn try_remount(place: &Path, options: &str) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-o", &format!("remount,{options}")]).arg(place);
    mount.output().unwrap().status.success()
}

pub fn unmount(place: &Path) {
    // A process that another thread has started, and that is no program of its own yet, has copies
    // of all descriptors.
    wait_until("nobody has a file open here", || match umount(place) {
        Err(Errno::EBUSY) => false,
        unmounted => {
            unmounted.unwrap();
            true
        }
    });
}

/// What is lost when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Everything that was not written for good, the journal included.
    Everything,
    /// What lies in memory. The journal was written a moment before.
    AllButTheJournal,
}

/// A real ext4 in a file.
pub struct Ext4 {
    image: PathBuf,
    place: PathBuf,
    options: String,
}

impl Ext4 {
    /// Makes a file system of 8 MiB, of which the half is the journal, and mounts nothing yet.
    pub fn format(image: &Path, place: &Path, further: &[&str]) -> Self {
        fs::File::create(image).unwrap().set_len(8 << 20).unwrap();
        let mut format = Command::new("mkfs.ext4");
        format.args(["-q", "-F", "-b", "4096", "-m", "0"]);
        run(format.args(further).arg(image));
        fs::create_dir_all(place).unwrap();
        Ext4 {
            image: image.to_owned(),
            place: place.to_owned(),
            options: "loop".to_owned(),
        }
    }

    /// The same contents on a disk of its own, mounted with these options.
    pub fn copy(&self, options: &str) -> Self {
        let image = self.image.with_extension("copy");
        fs::copy(&self.image, &image).unwrap();
        Ext4 {
            image,
            place: self.place.clone(),
            options: format!("loop,{options}"),
        }
    }

    pub fn place(&self) -> &Path {
        &self.place
    }

    pub fn mount(&self) {
        let mut mount = Command::new("mount");
        run(mount
            .args(["-t", "ext4", "-o", &self.options])
            .args([&self.image, &self.place]));
    }

    pub fn unmount(&self) {
        unmount(&self.place);
    }

    /// Lets the file system find an error, as it would find a damaged disk.
    pub fn fail(&self) {
        let source = rustix::fs::stat(&self.place).unwrap().st_dev;
        let number = format!(
            "{}:{}",
            rustix::fs::major(source),
            rustix::fs::minor(source)
        );
        let device = fs::read_link(format!("/sys/dev/block/{number}")).unwrap();
        let trigger = Path::new("/sys/fs/ext4").join(device.file_name().unwrap());
        fs::write(trigger.join("trigger_fs_error"), "on purpose").unwrap();
    }

    /// Cuts the power: from now on nothing reaches the disk, and every call fails.
    pub fn cut(&self, cut: Cut) {
        // EXT4_IOC_SHUTDOWN; flag 2 drops the journal, flag 1 writes it.
        const CUT: &str = "open(my $place, '<', $ARGV[0]) or die $!; \
            ioctl($place, 0x8004587D, pack('L', $ARGV[1])) or die $!";
        let flag = match cut {
            Cut::Everything => "2",
            Cut::AllButTheJournal => "1",
        };
        run(Command::new("perl")
            .args(["-e", CUT])
            .arg(&self.place)
            .arg(flag));
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
