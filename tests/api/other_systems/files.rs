//! Files: what lies under a session's name, and what others may do with ours.

use cgi_session::Store as _;
use testkit::prelude::*;

use super::trace::{Trace, mark, under_strace};
use super::{DIRECTORY, own_part};

const ID: &str = "2f1c0e5d9a8b7c6d5e4f30213243546576879800";

#[test]
fn b2_every_file_is_its_owners_alone_from_the_first_moment_whatever_the_umask_is() {
    for umask in ["000", "022", "077"] {
        let place = tempfile::tempdir().unwrap();
        let program = testkit::again(module_path!(), "child_that_makes_every_kind_of_file");
        let mut child = std::process::Command::new("sh");
        child.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
        child.arg(program.get_program()).args(program.get_args());
        child.env(DIRECTORY, place.path().join("sessions"));
        let calls = "trace=%file,chmod,fchmod,fchmodat,umask,mkdir,mkdirat";
        let Some(trace) = Trace::of(&child, &["-e", calls]) else {
            return;
        };
        let mut kinds = Vec::new();
        for call in trace.between(1, 2) {
            let lacks_it = !call.contains("chmod") && !call.contains("umask(");
            assert!(lacks_it, "{call}");
            let path = call.split('"').nth(1).unwrap_or_default();
            if call.contains("mkdir") {
                assert!(call.contains(", 0700)"), "{call}");
                kinds.push("directory");
            } else if call.contains("O_CREAT") {
                assert!(call.contains(", 0600)"), "{call}");
                let name = path.rsplit('/').next().unwrap_or_default();
                let kind = if name.starts_with(".tmp") {
                    ".tmp"
                } else {
                    name
                };
                kinds.push(kind.rsplit('.').next().unwrap_or_default());
            }
        }
        for kind in ["directory", "json", "tmp", "gc", "count", "user", "corrupt"] {
            assert!(kinds.contains(&kind), "no {kind} among {kinds:?}");
        }
    }
}

#[test]
fn a_clean_up_that_has_no_time_lists_no_more_than_it_must() {
    let place = tempfile::tempdir().unwrap();
    let mut child = testkit::again(module_path!(), "child_that_has_no_time_to_clean_up");
    child.env(DIRECTORY, place.path().join("sessions"));
    let Some(trace) = Trace::of(&child, &["-e", "trace=%file,getdents64"]) else {
        return;
    };
    let is_listing = |call: &&String| call.contains("getdents64(");
    let listings = trace.between(1, 2).iter().filter(is_listing);
    assert_eq!(listings.count(), 1);
}

/// The child's part.
#[test]
fn child_that_has_no_time_to_clean_up() {
    let Some(directory) = own_part() else { return };
    let config = Config::new().set("storageFileDir", &directory).unwrap();
    let store = FileStore::new(config).unwrap();
    assert!(store.install().is_empty());
    fs::create_dir(directory.join("lost+found")).unwrap();
    for number in 0..1000 {
        fs::write(directory.join(format!("{number:064}.json")), "").unwrap();
    }
    let sweep = Sweep::new().max_time(Duration::ZERO);
    mark(1);
    store.delete_expired(&sweep, SystemTime::now()).unwrap();
    mark(2);
}

#[test]
fn a_file_whose_mode_cannot_be_set_does_not_stay() {
    let (site, out) = (Site::new(), tempfile::NamedTempFile::new().unwrap());
    let request = Cgi::new("counter", &site);
    let options = ["-e", "trace=fchmod", "-e", "inject=fchmod:error=EPERM"];
    let Some(traced) = under_strace(&request.command(), &options, out.path()) else {
        return;
    };
    let mut command = Command::new("sh");
    command.args(["-c", "umask 777; exec \"$0\" \"$@\""]);
    command.arg(traced.get_program()).args(traced.get_args());
    command.envs(
        traced
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let outcome = request.run_by(command);
    assert_eq!(outcome.status, 500, "{outcome:?}");
    let stderr = outcome.stderr;
    assert!(stderr.contains("cannot set the mode of"), "{stderr}");
    assert_eq!(site.files(), [""; 0]);
}

/// The child's part.
#[test]
fn child_that_makes_every_kind_of_file() {
    let Some(directory) = own_part() else { return };
    let config = Config::new()
        .set("storageFileDir", directory)
        .and_then(|config| config.set("shards", "256"))
        .and_then(|config| config.set("maxSessions", "10"));
    let store = FileStore::new(config.unwrap()).unwrap();
    let now = SystemTime::now();
    let id = SessionId::parse(ID.as_bytes()).unwrap();
    mark(1);
    let record = Record::new(now).with_user(Some("ada"));
    let lease = store.create(&id.digest(), &record, now).unwrap();
    let large = format!(r#"{{"":{{"a":"{}"}}}}"#, "x".repeat(5000));
    let large = record.with_values(large.into_bytes());
    lease.unwrap().commit(&large, now).unwrap();
    store.delete_expired(&Sweep::new(), now).unwrap();
    let file = File::options().write(true).open(store.path(&id));
    file.unwrap().set_len(7).unwrap();
    let damaged = store.lock(&id.digest(), Duration::ZERO, now);
    assert!(damaged.unwrap().is_none());
    mark(2);
}

#[test]
fn b3_a_file_that_is_swapped_for_a_link_again_and_again_leads_nowhere_else() {
    let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = |directory: &tempfile::TempDir| {
        let config = Config::new().set("storageFileDir", directory.path());
        FileStore::new(config.unwrap()).unwrap()
    };
    let (ours, theirs) = (store(&place), store(&elsewhere));
    let id = SessionId::parse(ID.as_bytes()).unwrap();
    let (digest, now) = (id.digest(), SystemTime::now());
    let record = |values: &str| Record::new(now).with_values(values.as_bytes().to_vec());
    for (store, values) in [
        (&ours, r#"{"":{"a":1}}"#),
        (&theirs, r#"{"":{"secret":1}}"#),
    ] {
        store.create(&digest, &record(values), now).unwrap();
    }
    // A whole session that would be served if the link were followed.
    let target = theirs.path(&id);
    let before = fs::read(&target).unwrap();
    let (path, link) = (ours.path(&id), place.path().join("link"));
    let copy = fs::read(&path).unwrap();
    let is_over = AtomicBool::new(false);
    let (mut served, mut refused, mut led_astray) = (0, 0, 0);
    let deadline = Instant::now() + testkit::DEADLINE;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut swaps = 0;
            while !is_over.load(Ordering::Relaxed) || swaps < 1000 {
                symlink(&target, &link).unwrap();
                fs::rename(&link, &path).unwrap();
                fs::write(&link, &copy).unwrap();
                fs::set_permissions(&link, Permissions::from_mode(0o600)).unwrap();
                fs::rename(&link, &path).unwrap();
                swaps += 1;
            }
        });
        let mut number = 0;
        while number < 20_000 || (served == 0 || refused == 0) && Instant::now() < deadline {
            number += 1;
            let locked = match number % 2 {
                0 => store_result(ours.read(&digest, now)),
                _ => store_result(
                    ours.lock(&digest, Duration::from_secs(10), now)
                        .map(|found| {
                            found.map(|(stored, mut lease)| {
                                lease.commit(&record(r#"{"":{"a":1}}"#), now).unwrap();
                                stored
                            })
                        }),
                ),
            };
            match locked {
                Some(values) => {
                    assert_eq!(values, r#"{"":{"a":1}}"#, "another's session was served");
                    served += 1;
                }
                None => refused += 1,
            }
        }
        // Whoever follows links is led to the other session.
        while led_astray == 0 && Instant::now() < deadline {
            let read = fs::read_to_string(&path).unwrap_or_default();
            led_astray += u32::from(read.contains("secret"));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let after = fs::read(&target).unwrap();
    assert_eq!(after, before, "the link's target was written");
    let seen = [served, refused, led_astray];
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

/// The values that were read, or none where the file was refused.
fn store_result(result: cgi_session::Result<Option<cgi_session::Stored>>) -> Option<String> {
    let stored = result.ok().flatten()?;
    Some(String::from_utf8_lossy(stored.record.values()).into_owned())
}
