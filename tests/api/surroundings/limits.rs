//! What a program may not have: long files, descriptors, memory.

use super::visitor::{End, Visitor, newcomer};
use testkit::prelude::*;

/// Comes back under each of these conditions; how often a request ended how.
#[track_caller]
fn under(conditions: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let site = Site::new();
    let mut visitor = Visitor::begin(&site);
    let mut ends = BTreeMap::new();
    for prepare in conditions {
        // From a small file, and from a large one.
        for length in [10, 30_000] {
            let files = site.files();
            let found = [
                visitor.count(&prepare),
                visitor.rename(40_000 - length, &prepare),
                newcomer(&site, &prepare),
            ];
            let came = usize::from(found[2] == End::Served);
            if !found.contains(&End::Died) {
                assert_eq!(site.files().len(), files.len() + came, "{prepare}");
            }
            for end in found {
                *ends.entry(format!("{end:?}")).or_default() += 1;
            }
            visitor.goes_on();
            assert_eq!(visitor.rename(length, ""), End::Served);
        }
    }
    ends
}

/// Lengths of files in the shell's blocks of 512 bytes.
fn lengths() -> impl Iterator<Item = u64> {
    [0, 1, 2, 3, 8, 64, 118, 119, 120, 240].into_iter()
}

#[test]
fn where_files_may_not_grow_an_error_is_a_page_and_the_old_state_stays() {
    // SIGXFSZ would end a program that does not ignore it.
    for ignoring in ["", "trap '' XFSZ; "] {
        let ends =
            under(lengths().map(|blocks| format!("{ignoring}ulimit -f {blocks}; ulimit -c 0")));
        holds(format!("{ends:?}"), "Served*Refused(500)");
        assert!(!ends.contains_key("Died"), "{ends:?}");
    }
}

#[test]
fn with_any_number_of_descriptors_a_request_is_served_or_refused() {
    let ends = under((3..=12).map(|number| format!("ulimit -n {number}")));
    holds(format!("{ends:?}"), "Served*Refused(503)");
}

#[test]
fn with_any_amount_of_memory_a_request_is_served_or_refused_or_dies() {
    let ends = under((1..=10).map(|step| format!("ulimit -c 0; ulimit -v {}", step * 4000)));
    holds(format!("{ends:?}"), "Served*Died");
}
