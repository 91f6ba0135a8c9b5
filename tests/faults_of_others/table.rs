//! docs/reliability.md has a row for every class of faults and for every trap of Rust, and each names tests
//! that exist where it says.

use std::fs;

use testkit::repository;
use testkit::sources::{named_tests, sources};

const CLASSES: [&str; 21] = [
    "A1", "A2", "A3", "B1", "B2", "B3", "B4", "C", "D", "E", "F1", "F2", "F3", "F4", "G1", "G2",
    "H1", "H2", "H3", "I", "J",
];
/// The number of traps of Rust.
const TRAPS: usize = 13;

fn page() -> String {
    fs::read_to_string(repository("docs/reliability.md")).unwrap()
}

/// The only row that begins with this.
#[track_caller]
fn row<'p>(page: &'p str, first: &str) -> &'p str {
    let mut rows = page
        .lines()
        .filter(|line| line.starts_with(&format!("| {first} ")));
    let row = rows.next().unwrap_or_else(|| panic!("no row {first}"));
    assert!(rows.next().is_none(), "{first} has two rows");
    row
}

/// Looks for the tests of a row, each in the file that stands before it.
#[track_caller]
fn proves(row: &str) {
    let proof = row.rsplit('|').nth(1).unwrap();
    let (mut file, mut proofs) = (String::new(), 0);
    for quoted in proof.split('`').skip(1).step_by(2) {
        if quoted.contains('/') {
            file =
                fs::read_to_string(repository(quoted)).unwrap_or_else(|e| panic!("{quoted}: {e}"));
        } else if named_tests(&format!("`{quoted}`")).next().is_some() {
            assert!(
                file.contains(&format!("fn {quoted}(")),
                "{quoted} is not where it is said to be"
            );
            proofs += 1;
        }
    }
    assert!(proofs > 0, "nothing proves {row}");
}

#[test]
fn every_class_of_faults_has_a_row_whose_tests_exist() {
    let page = page();
    for class in CLASSES {
        proves(row(&page, class));
    }
}

#[test]
fn every_trap_of_rust_has_a_row_whose_tests_exist() {
    let page = page();
    for trap in 1..=TRAPS {
        proves(row(&page, &format!("T{trap}")));
    }
}

#[test]
fn every_test_of_a_class_is_named_in_its_row() {
    let (page, sources) = (page(), sources(&repository("tests/faults_of_others")));
    let names = sources
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("fn "));
    let names = names.filter_map(|name| name.split('(').next());
    let mut found = 0;
    for name in names {
        let class = name.split('_').next().unwrap_or_default().to_uppercase();
        if CLASSES.contains(&class.as_str()) && name.matches('_').count() >= 3 && class != "A" {
            assert!(
                row(&page, &class).contains(&format!("`{name}`")),
                "{name} is not in row {class}"
            );
            found += 1;
        }
    }
    assert!(found > 12, "{found} tests of classes");
}
