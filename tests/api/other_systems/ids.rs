//! Ids: what a client sends as one, and what the library makes.

use super::trace::{Trace, mark, under_strace};
use super::{DIRECTORY, Numbers, manager, own_part};
use testkit::prelude::*;

/// Parts of ids that mean something to file systems, shells, headers, SQL or URLs.
const PARTS: [&str; 30] = [
    "..",
    "/",
    "\\",
    "%2e",
    "%2F",
    "%00",
    "\0",
    "\r\n",
    " ",
    "\t",
    "C:",
    "con",
    "~",
    ".",
    "-",
    "/etc/passwd",
    "file://",
    "é",
    "\u{ff0f}",
    "\u{feff}",
    "'",
    "\"",
    "|id",
    "$(id)",
    "*",
    ".json",
    ".gc",
    ".count",
    "0123456789abcdef",
    "ABCDEF",
];

/// The next value that is no id.
fn hostile(numbers: &mut Numbers) -> Vec<u8> {
    let mut id = Vec::new();
    for _ in 0..=numbers.next(5) {
        match numbers.next(8) {
            // Not the one that ends a value.
            0 => id.extend(u8::try_from(numbers.next(256)).ok().filter(|b| *b != b';')),
            1 => id.extend([b'a'; 40]),
            2 => id.resize(id.len() + numbers.next(300), b'0'),
            _ => id.extend_from_slice(PARTS[numbers.next(PARTS.len())].as_bytes()),
        }
    }
    // Blanks around a value are none of its own.
    let bare = id.iter().filter(|byte| !b" 	".contains(byte));
    if bare.clone().count() == 40 && bare.clone().all(|byte| b"0123456789abcdef".contains(byte)) {
        return b"..".to_vec();
    }
    id
}

/// How often something is tried: more where the environment asks for it.
fn times(variable: &str, usual: usize) -> usize {
    let given = env::var(variable).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(usual)
}

#[test]
fn a1_and_f_no_hostile_id_and_no_flood_leads_to_a_path_a_lock_or_a_file() {
    let place = tempfile::tempdir().unwrap();
    let mut child = testkit::again(module_path!(), "child_that_is_shown_hostile_ids");
    child.env(DIRECTORY, place.path().join("sessions"));
    let options = ["-e", "trace=%file,%desc,%network"];
    let Some(trace) = Trace::of(&child, &options) else {
        return;
    };
    // Nor does a flood of requests without a session, or a request with an unknown id that begins none.
    for made in [trace.between(1, 2), trace.between(5, 6)] {
        assert!(made.is_empty(), "{made:#?}");
    }
    let is_change = |call: &&String| {
        ["flock", "O_CREAT", "write"]
            .iter()
            .any(|it| call.contains(it))
    };
    let forged: Vec<_> = trace.between(6, 7).iter().filter(is_change).collect();
    assert!(forged.is_empty(), "{forged:#?}");
    // Once a second the directory itself is looked at, whether it still has its name.
    let is_of_directory = |call: &&String| call.contains("fstat");
    let for_unknown = trace.between(2, 3).iter();
    let (_, opened): (Vec<_>, Vec<_>) = for_unknown.partition(is_of_directory);
    assert_eq!(opened.len(), UNKNOWN, "more than one call for an id");
    for call in opened {
        let name = call.split('"').nth(1).unwrap();
        let digest = name.strip_suffix(".json").unwrap();
        let is_digest = digest.len() == 64 && digest.bytes().all(|c| c.is_ascii_hexdigit());
        let is_look = call.contains("openat(") && call.contains("ENOENT");
        let is_guarded = !call.contains("O_CREAT") && call.contains("O_NOFOLLOW");
        assert!(is_digest && is_look && is_guarded, "{call}");
    }
    // A program that takes an id for a name is seen to do so.
    let naive = trace.between(3, 4);
    assert!(naive.iter().any(|call| call.contains("/../")), "{naive:#?}");
}

/// The number of ids that are well-formed and lead nowhere.
const UNKNOWN: usize = 200;

/// The child's part. `HOSTILE_IDS` is the number of ids that are none.
#[test]
fn child_that_is_shown_hostile_ids() {
    let Some(directory) = own_part() else { return };
    let manager = manager(&directory);
    mark(5);
    for _ in 0..50_000 {
        let session = manager.start("").unwrap();
        assert_eq!(session.get::<u64>("pageViews").unwrap(), None);
        assert!(session.commit().unwrap().is_none());
        assert!(manager.read("theme=dark").unwrap().is_none());
    }
    mark(6);
    for number in 0..1000 {
        let header = format!("sessionId={number:040x}");
        assert!(manager.start(&header).unwrap().commit().unwrap().is_none());
    }
    mark(7);
    assert!(!directory.exists());
    change(&manager, "", |it| it.insert("a", 1).unwrap());
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    mark(1);
    for _ in 0..times("HOSTILE_IDS", 100_000) {
        let header = [b"sessionId=".to_vec(), hostile(&mut numbers)].concat();
        assert!(manager.session_id(&header).is_none());
        assert!(manager.read(&header).unwrap().is_none());
        assert!(manager.existing(&header).unwrap().is_none());
        assert!(manager.start(&header).unwrap().commit().unwrap().is_none());
    }
    mark(2);
    for number in 0..UNKNOWN {
        let read = manager.read(format!("sessionId={number:040x}"));
        assert!(read.unwrap().is_none());
    }
    mark(3);
    assert!(fs::read(directory.join("../no-such-session")).is_err());
    mark(4);
}

#[test]
fn c_every_id_is_twenty_bytes_that_the_system_was_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let mut child = testkit::again(module_path!(), "child_that_makes_ids");
    child.env(DIRECTORY, place.path());
    let Some(trace) = Trace::of(&child, &["-x", "-s", "20", "-e", "trace=getrandom,%file"]) else {
        return;
    };
    // Nothing that a parent has prepared can be shared by its children: each id is asked for alone, with
    // the seed of its file behind it.
    let calls = trace.between(1, 2);
    assert_eq!(calls.len(), IDS, "{calls:#?}");
    let ids = fs::read_to_string(place.path().join("ids")).unwrap();
    for (call, id) in calls.iter().zip(ids.lines()) {
        let is_whole = call.contains("getrandom(") && call.ends_with(", 28, 0) = 28");
        assert!(is_whole, "{call}");
        let asked: String = call.split('"').nth(1).unwrap().split("\\x").collect();
        assert_eq!(asked, id);
    }
}

/// How many ids a child makes.
const IDS: usize = 100;

/// The child's part.
#[test]
fn child_that_makes_ids() {
    let Some(directory) = own_part() else { return };
    let mut ids = String::with_capacity(IDS * 41);
    SessionId::generate().unwrap();
    mark(1);
    for _ in 0..IDS {
        ids.push_str(SessionId::generate().unwrap().secret());
        ids.push('\n');
    }
    mark(2);
    fs::write(directory.join("ids"), ids).unwrap();
}

#[test]
fn c_where_the_system_gives_no_random_bytes_there_is_no_id_and_no_file() {
    let site = Site::new();
    let out = tempfile::NamedTempFile::new().unwrap();
    for error in ["EIO", "EAGAIN"] {
        let request = Cgi::new("counter", &site);
        // Requests for 20 bytes are for ids; others are of the standard library.
        let inject = format!("inject=getrandom:error={error}:when=1+");
        let options = ["-e", "trace=getrandom", "-e", &inject];
        let Some(command) = under_strace(&request.command(), &options, out.path()) else {
            return;
        };
        let outcome = request.run_by(command);
        assert_eq!(outcome.status, 500, "{outcome:?}");
        assert_eq!(outcome.header("set-cookie"), None);
        assert!(outcome.stderr.contains("random"), "{}", outcome.stderr);
        assert_eq!(site.files(), [""; 0]);
    }
}

/// By how much the digits of ids differ from equally frequent, at the place where it is most: chi-square
/// with 15 degrees of freedom, above 60 once in two million times if nothing is wrong.
fn unevenness(ids: impl Iterator<Item = String>) -> f64 {
    let mut count = 0.0;
    let mut digits = vec![[0.0; 16]; SessionId::LENGTH];
    for id in ids {
        count += 1.0;
        for (place, digit) in digits.iter_mut().zip(id.chars()) {
            place[digit.to_digit(16).unwrap() as usize] += 1.0;
        }
    }
    let expected = count / 16.0;
    let of_place = |digits: &[f64; 16]| -> f64 {
        let squares = digits.iter().map(|n| (n - expected).powi(2) / expected);
        squares.sum()
    };
    digits.iter().map(of_place).fold(0.0, f64::max)
}

/// `IDS` is their number.
#[test]
fn c_ids_are_never_the_same_and_every_digit_is_as_frequent_at_every_place() {
    let mut seen = Vec::new();
    let ids = (0..times("IDS", 200_000)).map(|_| SessionId::generate().unwrap());
    let unevenness = unevenness(ids.map(|id| {
        seen.push(u128::from_str_radix(&id.secret()[..32], 16).unwrap());
        id.secret().to_owned()
    }));
    assert!(unevenness < 60.0, "{unevenness}");
    seen.sort_unstable();
    let is_twice = seen.windows(2).any(|pair| pair[0] == pair[1]);
    assert!(!is_twice, "an id came twice");
}

#[test]
fn c_ids_of_a_counter_are_noticed() {
    let ids = (0..10_000_u64).map(|number| format!("{:040x}", u128::from(number) * 0x9e37_79b9));
    assert!(unevenness(ids) > 60.0);
}
