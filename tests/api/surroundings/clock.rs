//! Clocks that are wrong, and that jump while a request is under way. Programs of another C library
//! than glibc ask no library for the time, and are not reached.

use super::clean_up;
use testkit::prelude::*;

const HOUR: i64 = 3600;
const YEARS: i64 = 10 * 365 * 24 * HOUR;
const DAY: i64 = 24 * HOUR;
const LIFETIME: i64 = 30 * DAY;

/// A site whose programs see a clock of its own.
struct Clock {
    site: Site,
    shim: PathBuf,
    shift: PathBuf,
}

impl Clock {
    fn new() -> Option<Self> {
        if !cfg!(target_env = "gnu") {
            testkit::skip("programs here do not ask glibc for the time");
            return None;
        }
        let site = Site::with_settings("cleanUpDelay = 0\n");
        let (shim, shift) = (site.path().join("clock.so"), site.path().join("shift"));
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]).arg(&shim);
        compile.arg(repository("tests/api/surroundings/clock.c"));
        compile.arg("-ldl");
        assert!(compile.status().unwrap().success());
        let clock = Clock { site, shim, shift };
        clock.set(0);
        Some(clock)
    }

    /// How many seconds the clock is ahead from now on.
    fn set(&self, seconds: i64) {
        fs::write(&self.shift, seconds.to_string()).unwrap();
    }

    fn variables(&self) -> [(&str, &str); 2] {
        [
            ("LD_PRELOAD", self.shim.to_str().unwrap()),
            ("CLOCK_SHIFT", self.shift.to_str().unwrap()),
        ]
    }

    #[track_caller]
    fn count(&self, visitor: Option<&str>) -> Outcome {
        let request = Cgi::new("counter", &self.site);
        let request = match visitor {
            Some(id) => request.visitor(id),
            None => request,
        };
        let mut command = request.command();
        command.envs(self.variables());
        let answer = request.run_by(command);
        answer.expect(200, "you've been here")
    }

    /// The library's operation of this name; the session's id, if it is given a new one.
    fn operation(&self, name: &str, id: &str) -> String {
        let mut command = Command::new(example("operation"));
        command.arg(name);
        command.arg(self.site.sessions()).args(["none", "file", id]);
        let output = command.envs(self.variables()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        said.trim().trim_start_matches("done ").to_owned()
    }

    /// Cleans up as root's cron would; nothing may be said.
    #[track_caller]
    fn clean_up(&self) {
        let (status, stderr) = clean_up(&self.site.sessions(), &self.variables());
        assert!(status.success() && stderr.is_empty(), "{status} {stderr}");
    }
}

fn since_1970() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs().try_into().unwrap()
}

fn shifts() -> [i64; 6] {
    let to_1970 = -since_1970();
    [-HOUR, HOUR / 2, YEARS, -YEARS, to_1970, to_1970 - HOUR]
}

#[test]
fn with_a_wrong_clock_a_visitor_goes_on_or_begins_again() {
    let Some(clock) = Clock::new() else { return };
    for shift in shifts() {
        clock.set(0);
        let id = clock.count(None).id();
        clock.set(shift);
        let wrong = clock.count(Some(&id));
        // Nothing can be said of a session that is older than any may be, or so far ahead.
        let expected = if shift.abs() > LIFETIME {
            "here 1 time"
        } else {
            "here 2 time"
        };
        let wrong = wrong.expect(200, expected);
        clock.set(0);
        if shift.abs() > LIFETIME {
            clock.count(Some(&wrong.id())).expect(200, "here 1 time");
        } else {
            clock.count(Some(&id)).expect(200, "here 3 time");
        }
    }
}

#[test]
fn what_a_wrong_clock_has_begun_ends_when_it_is_used_no_more() {
    let Some(clock) = Clock::new() else { return };
    for shift in shifts() {
        // An idle time of its own is kept in the record, any other in the time of the file.
        for own_time in [false, true] {
            clock.set(shift);
            let id = clock.operation(if own_time { "stay" } else { "begin" }, "");
            clock.operation("save", &id);
            assert_ne!(clock.site.files(), [""; 0]);
            // The clock is right again, and some time passes.
            for later in [
                0,
                3 * HOUR,
                6 * HOUR,
                LIFETIME + HOUR,
                2 * LIFETIME + 2 * HOUR,
            ] {
                clock.set(later);
                clock.clean_up();
            }
            assert_eq!(clock.site.files(), [""; 0], "{shift} {own_time}");
        }
    }
}

#[test]
fn what_a_wrong_clock_has_begun_is_not_used_for_longer_than_any_session() {
    let Some(clock) = Clock::new() else { return };
    for shift in shifts() {
        clock.set(shift);
        // It keeps its own end, which the kernel's clock does not touch.
        let id = clock.operation("stay", "");
        let ends = |day: i64| {
            clock.set(day * DAY);
            clock.count(Some(&id)).header("set-cookie").is_some()
        };
        assert!((0..70).any(ends), "{shift}: it is used for ever");
    }
}

#[test]
fn a_clock_that_jumps_between_loading_and_saving_harms_nothing() {
    let Some(clock) = Clock::new() else { return };
    for shift in shifts() {
        clock.set(0);
        let id = clock.count(None).id();
        let holding = Holding::start(&clock.site, Some(&id), &clock.variables());
        clock.set(shift);
        holding.end().expect(200, "unharmed");
        clock.set(0);
        clock.count(Some(&id)).expect(200, "here 1001 time");
        clock.set(3 * HOUR);
        clock.clean_up();
        clock.set(6 * HOUR);
        clock.clean_up();
        assert_eq!(clock.site.files(), [""; 0], "{shift}");
    }
}

#[test]
fn the_shim_shifts_the_clock() {
    let Some(clock) = Clock::new() else { return };
    clock.set(-YEARS);
    let id = clock.operation("begin", "");
    assert!(!id.is_empty());
    let text = fs::read_to_string(clock.site.only_file()).unwrap();
    let created = text.split("\"created\":").nth(1).unwrap();
    let created: i64 = created.split([',', '}']).next().unwrap().parse().unwrap();
    assert!((since_1970() - YEARS - created).abs() < 100, "{created}");
}
