//! The bytes of a session file: read for ever, and never taken for what they are not.

use cgi_session::{Result, Stored, SweepReport};
use testkit::prelude::*;

use crate::support::{
    DEADLINE, IDLE, Place, ago, data, file, no_slot, not_installed, record, record_of_size, seed,
    seeded_slot, slot,
};

/// The id whose digest names the fixtures.
const FIXTURE_ID: &[u8] = b"0123456789abcdef0123456789abcdef01234567";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn a_file_of_version_1_is_read_for_ever() {
    let place = Place::new();
    place.create(0);
    let id = SessionId::parse(FIXTURE_ID).unwrap();
    let name = format!("{}.json", id.digest());
    fs::copy(fixtures().join(&name), place.file(&name)).unwrap();

    let (stored, mut lease) = place.lock(&id).unwrap();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(stored.record.created(), at(1_767_225_600));
    let day = Some(Duration::from_secs(86_400));
    assert_eq!((stored.record.timeout(), stored.record.idle()), (day, day));
    assert_eq!(stored.record.lifetime(day), None);
    assert_eq!(stored.record.user(), Some("ada"));
    let values = r#"{"":{"name":"Ada","pageViews":3},"shop":{"basket":["bücher",1.5,null]}}"#;
    assert_eq!(stored.record.values(), values.as_bytes());
    let changed = stored.record.with_values(br#"{"":{"n":4}}"#.to_vec());
    lease.commit(&changed, SystemTime::now()).unwrap();
    drop(lease);
    assert_eq!(place.read_n(&id), Some(4));
    // The record before is still in the place that was current.
    let bytes = fs::read(place.file(&name)).unwrap();
    let before = fs::read(fixtures().join(&name)).unwrap();
    assert_eq!(bytes[..512], before[..512]);
}

#[test]
fn a_new_file_is_made_of_the_bytes_that_the_format_says() {
    let place = Place::new();
    let id = place.create(1);
    let digest = id.digest();
    let seed = seed(&place.store.path(&id));
    let first = |g, n| seeded_slot(seed, digest.as_str(), true, g, 512, &data(n));
    let second = |g, n| seeded_slot(seed, digest.as_str(), false, g, 512, &data(n));
    let bytes = || fs::read(place.store.path(&id)).unwrap();
    assert_eq!(bytes(), file(first(1, 1), no_slot(512)));
    place.commit(&id, &record(22));
    assert_eq!(bytes(), file(first(1, 1), second(2, 22)));
    place.commit(&id, &record(333));
    assert_eq!(bytes(), file(first(3, 333), second(2, 22)));
}

#[test]
fn every_new_file_has_a_seed_of_its_own_and_keeps_it() {
    let place = Place::new();
    let mut seeds: Vec<_> = (0..20)
        .map(|n| place.create(n))
        .map(|id| (seed(&place.store.path(&id)), id))
        .collect();
    // A growth makes a new file.
    let (before, id) = seeds.pop().unwrap();
    let path = place.store.path(&id);
    place.commit(&id, &record(1));
    assert_eq!(seed(&path), before);
    place.commit(&id, &record_of_size(1, 3000));
    let mut seeds: Vec<_> = seeds.into_iter().map(|(seed, _)| seed).collect();
    seeds.extend([before, seed(&path)]);
    let number = seeds.len();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!((number, seeds.len()), (21, 21), "{seeds:x?}");
}

/// DATA with two words of 8 bytes in the same lane and block of the hash, behind the first page of
/// a file. `04ad` and `KxtZ` differ as the halves of XXH3's own secret do that meet them, so that the
/// words may exchange bits of their other halves and the hash without a seed stays as it is.
fn crafted(n: u64, words: [&str; 2]) -> String {
    let before_data = SessionDigest::LENGTH + 20 + 10;
    let mut data = format!(r#"{{"v":1,"created":1767225600,"values":{{"":{{"n":{n},"x":""#);
    for (stripe, word) in [3, 5].into_iter().zip(words) {
        let filled = 5 * 1024 + stripe * 64 - before_data;
        data = format!("{data:x<filled$}{word}");
    }
    format!(r#"{data:x<6500}"}}}}}}"#)
}

#[test]
fn a_mixture_of_crafted_records_is_read_only_where_the_seed_is_known() {
    let old = crafted(1, ["000x04ad", "111xKxtZ"]);
    let new = crafted(3, ["111x04ad", "000xKxtZ"]);
    let parsed = |data: &str| Record::from_json(data.into()).unwrap();
    // The seed of the store, and the one that is none: that control is to be caught.
    for (known, expected) in [(None, 2), (Some(0), 3)] {
        let place = Place::new();
        let id = place.create_record(&parsed(&old));
        let path = place.store.path(&id);
        if let Some(seed) = known {
            let cap = fs::read(&path).unwrap().len() / 2;
            let first = seeded_slot(seed, id.digest().as_str(), true, 1, cap, &old);
            put(&place, &id, &file(first, no_slot(cap)));
        }
        place.commit(&id, &record_of_size(2, 6000));
        let mut mixture = fs::read(&path).unwrap();
        place.commit(&id, &parsed(&new));
        // As if the process had died when it had written one page over the oldest record.
        mixture[..4096].copy_from_slice(&fs::read(&path).unwrap()[..4096]);
        put(&place, &id, &mixture);
        let found = (place.read_n(&id), place.locked_n(&id));
        assert_eq!(found, (Some(expected), Some(expected)), "seed {known:?}");
    }
}

/// A file whose second slot holds the newer record, 8, and its first the one before, 7.
fn two_slots(digest: &str, cap: usize) -> Vec<u8> {
    file(
        slot(digest, true, 7, cap, &data(7)),
        slot(digest, false, 8, cap, &data(8)),
    )
}

/// Puts bytes into a session's file. A new file each time: ext4 flushes one that was truncated.
fn put(place: &Place, id: &SessionId, bytes: &[u8]) {
    let path = place.store.path(id);
    if place.exists(id) {
        fs::remove_file(&path).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

/// Old, new, or damaged: set aside, and a new session for the visitor. Never anything else.
#[track_caller]
fn is_old_new_or_damaged(place: &Place, id: &SessionId, what: &str) {
    let original = fs::read(place.store.path(id)).unwrap();
    let read = place.read_n(id);
    let locked = place.locked_n(id);
    assert_eq!(read, locked, "{what}");
    assert!(matches!(locked, None | Some(7 | 8)), "{what}: {locked:?}");
    let aside = place.file(&format!("{}.corrupt", id.digest()));
    assert_eq!(place.exists(id), locked.is_some(), "{what}");
    assert_eq!(aside.exists(), locked.is_none(), "{what}");
    if locked.is_none() {
        assert_eq!(fs::read(&aside).unwrap(), original, "{what}");
        fs::remove_file(aside).unwrap();
    }
}

#[test]
fn a_file_cut_at_any_length_is_old_new_or_damaged() {
    for cap in [512, 1024] {
        let place = Place::new();
        let id = place.create(0);
        let whole = two_slots(id.digest().as_str(), cap);
        for length in 0..whole.len() {
            put(&place, &id, &whole[..length]);
            is_old_new_or_damaged(&place, &id, &format!("{length} of {} bytes", whole.len()));
        }
    }
}

#[test]
fn a_new_file_whose_maker_was_killed_while_he_wrote_it_is_shown_to_nobody() {
    let place = Place::new();
    let id = place.create(1);
    let digest = id.digest();
    let cut_off = |generation: u64| {
        let first = slot(digest.as_str(), true, generation, 4096, &data(1));
        let whole = file(first, no_slot(4096));
        let shown = (0..whole.len()).filter(|length| {
            put(&place, &id, &whole[..*length]);
            let mut is_shown_as_damaged = false;
            let mut visit = |_: &SessionDigest, found: Result<Stored>| {
                is_shown_as_damaged |= found.is_err();
                ControlFlow::Continue(())
            };
            let listed = place.store.for_each(&mut visit, SystemTime::now());
            listed.unwrap();
            is_shown_as_damaged
        });
        shown.count()
    };
    assert_eq!(cut_off(1), 0);
    // A session that was there before is damaged.
    assert!(cut_off(3) > 4000);
}

#[test]
fn a_file_with_any_byte_changed_is_old_new_or_damaged() {
    let place = Place::new();
    let id = place.create(0);
    let whole = two_slots(id.digest().as_str(), 512);
    for at in 0..whole.len() {
        for change in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            put(&place, &id, &bytes);
            is_old_new_or_damaged(&place, &id, &format!("byte {at} ^ {change:#x}"));
        }
    }
}

#[test]
fn a_large_file_with_a_changed_byte_is_old_new_or_damaged() {
    // Above 16 KiB only headers and the current record are read.
    let place = Place::new();
    let id = place.create(0);
    let whole = two_slots(id.digest().as_str(), 16 << 10);
    let near_slots = (0..200).chain((16 << 10) - 2..(16 << 10) + 200);
    for at in near_slots {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        put(&place, &id, &bytes);
        is_old_new_or_damaged(&place, &id, &format!("byte {at}"));
    }
}

#[test]
fn a_file_copied_over_another_sessions_name_is_damaged() {
    let place = Place::new();
    let (mine, other) = (place.create(1), place.create(2));
    fs::copy(place.store.path(&other), place.store.path(&mine)).unwrap();
    assert_eq!(place.read_n(&mine), None);
    assert_eq!(place.locked_n(&mine), None);
    assert!(place.file(&format!("{}.corrupt", mine.digest())).exists());
    assert_eq!(place.locked_n(&other), Some(2));
}

#[test]
fn a_damaged_session_is_set_aside_and_the_file_set_aside_before_gives_way() {
    let place = Place::new();
    let id = place.create(1);
    let aside = place.file(&format!("{}.corrupt", id.digest()));
    fs::write(&aside, "left by a process that died").unwrap();
    fs::write(place.store.path(&id), "damaged").unwrap();
    assert_eq!(place.locked_n(&id), None);
    assert_eq!(fs::read(&aside).unwrap(), b"damaged");
    assert!(!place.exists(&id));
}

/// A file is refused with this error, and left as it is, whatever is done to it.
#[track_caller]
fn is_refused_and_untouched(place: &Place, id: &SessionId, says: &str) -> SweepReport {
    let path = place.store.path(id);
    place.set_modified(id, ago(100 * IDLE));
    let (before, time) = (fs::read(&path).unwrap(), place.modified(id));
    let now = SystemTime::now();
    let session = id.digest();
    let mut listed = None;
    let mut visit = |_: &SessionDigest, found: Result<Stored>| {
        listed = found.err();
        ControlFlow::Continue(())
    };
    place.store.for_each(&mut visit, now).unwrap();
    for error in [
        place.store.read(&session, now).err(),
        place.store.peek(&session, now).err(),
        place.store.lock(&session, DEADLINE, now).err(),
        listed,
    ] {
        let error = error.expect("an error");
        assert!(matches!(error, Error::Format { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let report = place.sweep(now);
    assert_eq!((report.deleted, report.live), (0, 1));
    let after = (fs::read(&path).unwrap(), place.modified(id));
    assert_eq!(after, (before, time));
    // It is locked by nobody afterwards.
    assert!(fs::File::open(&path).unwrap().try_lock().is_ok());
    report
}

#[test]
fn a_later_version_is_refused_without_harm() {
    let place = Place::new();
    let later = r#"{"v":2,"anything":["else"]}"#;
    let id = place.plant(|digest| file(slot(digest, true, 1, 512, later), no_slot(512)));
    is_refused_and_untouched(&place, &id, "version 2");
}

#[test]
fn a_file_from_before_the_seed_is_refused_without_harm_until_it_is_uninstalled() {
    let place = Place::with(&[("maxSessions", "2")]);
    let id = SessionId::parse(FIXTURE_ID).unwrap();
    let name = format!("{}.json", id.digest());
    let bytes = fs::read(fixtures().join("unseeded").join(&name)).unwrap();
    let mut torn = bytes.clone();
    torn[..69].fill(b' ');
    assert!(place.store.install().is_empty());
    for bytes in [&bytes, &torn, &bytes[..700]] {
        fs::write(place.file(&name), bytes).unwrap();
        let report = is_refused_and_untouched(&place, &id, "stop all programs of that version");
        assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
    }
    // The least recently used session of all goes when the store is full, but not this one.
    place.create_many(5);
    assert!(place.exists(&id));
    assert!(place.store.uninstall().errors.is_empty());
    assert!(!place.exists(&id));
}

#[test]
fn a_whole_slot_that_holds_no_record_is_damaged() {
    for text in [
        "[]",
        "null",
        r#"{"v":1}"#,
        r#"{"v":1,"created":1,"values":[]}"#,
        "not json",
    ] {
        let place = Place::new();
        let id = place.plant(|digest| file(slot(digest, true, 1, 512, text), no_slot(512)));
        let aside = place.file(&format!("{}.corrupt", id.digest()));
        let found = (place.read_n(&id), place.locked_n(&id), aside.exists());
        assert_eq!(found, (None, None, true), "{text}");
    }
}

#[test]
fn any_json_text_of_the_right_meaning_is_a_record() {
    let place = Place::new();
    let text = r#"{ "values": {"": {"n": 9}}, "created": 5, "v": 1, "later": [1] }"#;
    let id = place.plant(|digest| file(slot(digest, true, 1, 512, text), no_slot(512)));
    assert_eq!((place.read_n(&id), place.locked_n(&id)), (Some(9), Some(9)));
}

#[test]
fn the_highest_generation_is_followed_by_a_new_file() {
    let place = Place::new();
    let id = place.plant(|digest| {
        file(
            slot(digest, true, u64::MAX, 512, &data(1)),
            slot(digest, false, u64::MAX - 1, 512, &data(0)),
        )
    });
    place.commit(&id, &record(2));
    assert_eq!((place.read_n(&id), place.locked_n(&id)), (Some(2), Some(2)));
}

#[test]
fn two_records_of_one_generation_are_one_of_the_two() {
    let place = Place::new();
    let id = place.plant(|digest| {
        file(
            slot(digest, true, 3, 512, &data(7)),
            slot(digest, false, 3, 512, &data(8)),
        )
    });
    assert_eq!(place.locked_n(&id), place.read_n(&id));
    place.commit(&id, &record(9));
    assert_eq!((place.read_n(&id), place.locked_n(&id)), (Some(9), Some(9)));
}

#[test]
fn a_length_beyond_the_slot_is_damaged_and_costs_no_memory() {
    let place = Place::new();
    let id = place.plant(|digest| {
        let text = String::from_utf8(slot(digest, true, 1, 512, &data(1))).unwrap();
        let length = format!("\"n\":{:10}", data(1).len());
        let bytes = text.replace(&length, "\"n\":9999999999").into_bytes();
        file(bytes, no_slot(512))
    });
    assert_eq!((place.read_n(&id), place.locked_n(&id)), (None, None));
}

#[test]
fn no_id_is_written_anywhere() {
    let place = Place::with(&[("maxSessions", "10")]);
    let id = place.create(1);
    place.commit(&id, &Record::new(SystemTime::now()));
    place.sweep(SystemTime::now());
    for name in place.names() {
        assert!(!name.contains(id.secret()));
        let bytes = fs::read(place.file(&name)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(id.secret()));
    }
}

/// What the lines between two fences of the format's page say.
fn fenced(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = page.split(&fence).skip(1);
    let blocks = parts.map(|part| part.split("```").next().unwrap().trim_end().to_owned());
    blocks.collect()
}

#[test]
fn the_page_about_the_format_gives_the_right_checksums() {
    let page = include_str!("../../docs/format.md");
    let json = fenced(page, "json");
    let first = (
        &[b'0'; 40][..],
        0x0123_4567_89ab_cdef,
        1,
        "cb324717d1cf12ae",
    );
    let second = (FIXTURE_ID, 0xfedc_ba98_7654_3210, 3, "8f5aaeb585b1e9e6");
    for ((id, seed, generation, hash), data) in [first, second].into_iter().zip(&json[1..]) {
        let digest = SessionId::parse(id).unwrap().digest();
        let bytes = seeded_slot(seed, digest.as_str(), true, generation, 512, data);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(&format!(r#""h":"{hash}""#)), "{text}");
        for shown in [hash, digest.as_str(), &format!("{seed:016x}")] {
            assert!(page.contains(shown), "{shown}");
        }
        let (n, g) = (format!("{:10}", data.len()), format!("{generation:20}"));
        for field in [n, g] {
            let shown = format!("`{}`", field.replace(' ', "·"));
            assert!(page.contains(&shown), "{field}");
        }
    }
}

#[test]
fn the_php_lines_of_the_page_give_its_second_checksum() {
    let php = fenced(include_str!("../../docs/format.md"), "php").remove(0);
    let mut command = std::process::Command::new("php");
    let Ok(output) = command.args(["-r", &php]).output() else {
        not_installed("php");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "8f5aaeb585b1e9e6");
}

#[test]
fn the_jq_line_of_the_page_prints_a_session() {
    let page = include_str!("../../docs/format.md");
    let place = Place::new();
    let id = place.create(1);
    for n in 2..5 {
        let line = fenced(page, "sh").remove(0);
        let line = line.replace("NAME.json", place.store.path(&id).to_str().unwrap());
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        if output.status.code() == Some(127) {
            not_installed("jq");
            return;
        }
        let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed["values"][""]["n"], n - 1);
        place.commit(&id, &record(n));
    }
}
