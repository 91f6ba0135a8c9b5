//! docs/seeds.md names every row once, and only tests that exist.

use std::collections::BTreeMap;
use std::fs;

use testkit::repository;
use testkit::sources::{named_tests, sources};

/// How many rows each system has, by its letter.
const ROWS: [(char, usize); 4] = [('K', 16), ('C', 23), ('W', 10), ('L', 28)];

/// The first column of every row of the tables: `K1`, and how often it stands there.
fn rows(text: &str) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let first = line
            .strip_prefix("| ")
            .and_then(|line| line.split(' ').next());
        let number = first.and_then(|first| first.strip_prefix(['K', 'C', 'W', 'L']));
        if number.is_some_and(|number| number.parse::<usize>().is_ok()) {
            *rows
                .entry(first.unwrap_or_default().to_owned())
                .or_default() += 1;
        }
    }
    rows
}

#[test]
fn every_row_stands_in_the_table_once() {
    let rows = rows(&fs::read_to_string(repository("docs/seeds.md")).unwrap());
    for (system, count) in ROWS {
        for number in 1..=count {
            let row = format!("{system}{number}");
            assert_eq!(rows.get(&row), Some(&1), "{row}");
        }
    }
    assert_eq!(
        rows.len(),
        ROWS.iter().map(|(_, count)| count).sum::<usize>()
    );
}

#[test]
fn every_test_that_the_table_names_exists() {
    let table = fs::read_to_string(repository("docs/seeds.md")).unwrap();
    let sources = sources(&repository("tests")) + &sources(&repository("bin/tests"));
    let mut named = 0;
    for name in named_tests(&table) {
        assert!(sources.contains(&format!("fn {name}(")), "{name}");
        named += 1;
    }
    assert!(named > 60, "{named} tests are named");
}

#[test]
fn every_test_of_a_row_is_named_by_the_table() {
    let table = fs::read_to_string(repository("docs/seeds.md")).unwrap();
    let sources = sources(&repository("tests/seeds"));
    let names = sources.lines().filter_map(|line| {
        let name = line.trim_start().strip_prefix("fn ")?;
        name.split('(').next()
    });
    let is_of_row = |name: &&str| {
        let number = name.strip_prefix(['k', 'c', 'w', 'l']).unwrap_or_default();
        number
            .split('_')
            .next()
            .is_some_and(|number| number.parse::<u8>().is_ok())
    };
    let mut found = 0;
    for name in names.filter(is_of_row) {
        // In the row whose number it bears, and not just anywhere.
        let (row, _) = name.split_once('_').unwrap();
        let (system, number) = row.split_at(1);
        let number: u8 = number.parse().unwrap();
        let start = format!("| {}{number} ", system.to_uppercase());
        let row = table.lines().find(|line| line.starts_with(&start));
        let is_named = row.is_some_and(|row| row.contains(&format!("`{name}`")));
        assert!(is_named, "{name} is not in the row {start}");
        found += 1;
    }
    assert!(found > 60, "{found} tests of rows");
}
