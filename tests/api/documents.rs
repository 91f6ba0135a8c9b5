//! The documents: the rows of docs/seeds.md and docs/internals/faults.md, of which none is missing and each names tests
//! that exist; the keys in docs/configuration.md; the links between all documents.

use testkit::prelude::*;

/// How many rows each older system has, by its letter.
const PROMISES: [(char, usize); 4] = [('K', 16), ('C', 23), ('W', 10), ('L', 28)];
const CLASSES: [&str; 21] = [
    "A1", "A2", "A3", "B1", "B2", "B3", "B4", "C", "D", "E", "F1", "F2", "F3", "F4", "G1", "G2",
    "H1", "H2", "H3", "I", "J",
];
/// The number of traps of Rust.
const TRAPS: usize = 13;

/// Every block of commands in the documents, by words in it, with the test or the script that runs it; or, after
/// `not run: `, the reason.
const COMMANDS: &str = "\
README.md | cargo run -- serve | a_checkout_needs_no_configuration
README.md | cgi-session new ../hello | a_new_project_builds_passes_its_own_test_and_counts
README.md | curl -si | a_new_project_builds_passes_its_own_test_and_counts
README.md | a2enmod cgid | the_readmes_steps_put_a_new_program_behind_apache
CONTRIBUTING.md | cargo test --workspace | .ci/run
CONTRIBUTING.md | FASTCGI_REQUESTS | not run: each takes minutes or hours
CONTRIBUTING.md | SCREENSHOTS | not run: it changes the checkout
CONTRIBUTING.md | .ci/public-api | .ci/run
docs/deploy.md | packaging/build deb | .ci/run
docs/deploy.md | a2enmod cgid | the_steps_put_a_site_behind_apache_and_leave_the_readers_own_site_alone
docs/deploy.md | --socket-group www-data | the_units_as_installed_are_sound_and_the_clean_up_does_its_work
docs/deploy.md | cd ~/public_html/cgi-bin | the_steps_for_shared_hosting_need_no_root_and_no_environment
docs/deploy.md | cgi-session-guard.service | the_units_as_installed_are_sound_and_the_clean_up_does_its_work
docs/deploy.md | cgi-session-cleanup.timer | the_units_as_installed_are_sound_and_the_clean_up_does_its_work
docs/engines.md | --features redis,tls | not run: tests have the same tools built, and servers of their own
docs/format.md | jq | the_jq_line_of_the_page_prints_a_session
docs/guide.md | return-basket | the_program_of_the_guide_returns_a_basket
docs/operation.md | # back up | the_commands_of_operation_keep_every_session_and_its_times
docs/operation.md | # restore | the_commands_of_operation_keep_every_session_and_its_times
docs/operation.md | # move | the_commands_of_operation_keep_every_session_and_its_times
docs/operation.md | # switch | the_commands_of_operation_keep_every_session_and_its_times
docs/performance.md | cargo bench | not run: each takes an hour
packaging/tarball.md | cgi-session check | packaging/check
packaging/tarball.md | systemctl enable | the_steps_of_the_archive_install_it_for_the_whole_machine
docs/internals/attacks.md | -- --list | not run: each takes minutes or hours
";

fn page(name: &str) -> String {
    fs::read_to_string(repository("docs").join(name)).unwrap()
}

/// The only row that begins with this.
#[track_caller]
fn row<'p>(page: &'p str, first: &str) -> &'p str {
    let start = format!("| {first} ");
    let mut rows = page.lines().filter(|line| line.starts_with(&start));
    let row = rows.next().unwrap_or_else(|| panic!("no row {first}"));
    assert!(rows.next().is_none(), "{first} has two rows");
    row
}

/// The text of all programs below a directory of the repository.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|end| end == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

fn all_sources() -> String {
    let directories = ["src", "tests", "bin", "engines", "campaigns"];
    directories.map(|it| sources(&repository(it))).concat()
}

/// What a page names as a test: a sentence with underscores, between backquotes.
fn named_tests(page: &str) -> impl Iterator<Item = &str> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(move |name| name.bytes().all(is_word) && name.matches('_').count() >= 3)
}

/// The names of the tests in a file or a folder, with the part that may be the name of a row.
fn tests_of(place: &str) -> Vec<(String, String)> {
    let place = repository(place);
    let sources = fs::read_to_string(&place).unwrap_or_else(|_| sources(&place));
    let names = sources.lines();
    let names = names.filter_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next());
    let sentences = names.filter(|name| name.matches('_').count() >= 3);
    sentences
        .map(|name| {
            let first = name.split('_').next().unwrap();
            (first.to_uppercase(), name.to_owned())
        })
        .collect()
}

#[test]
fn every_promise_of_the_older_systems_has_a_row_and_its_tests_are_in_it() {
    let page = page("seeds.md");
    for (system, count) in PROMISES {
        for number in 1..=count {
            row(&page, &format!("{system}{number}"));
        }
        let more = format!("| {system}{} ", count + 1);
        assert!(!page.contains(&more), "{more}");
    }
    for (first, name) in tests_of("tests/api/seeds.rs") {
        let number = first.strip_prefix(['K', 'C', 'W', 'L']);
        let number = number.and_then(|number| number.parse::<u8>().ok());
        if let (Some(number), Some(system)) = (number, first.chars().next()) {
            let row = row(&page, &format!("{system}{number}"));
            assert!(row.contains(&format!("`{name}`")), "{name} is not in {row}");
        }
    }
}

#[test]
fn every_class_of_faults_and_every_trap_of_rust_has_a_row_with_a_test() {
    let page = page("internals/faults.md");
    let classes = CLASSES.map(str::to_owned).into_iter();
    for first in classes.chain((1..=TRAPS).map(|trap| format!("T{trap}"))) {
        let proof = row(&page, &first).rsplit('|').nth(1).unwrap();
        let is_proved = named_tests(proof).next().is_some();
        assert!(is_proved, "nothing proves {first}");
    }
    for (first, name) in tests_of("tests/api/other_systems") {
        if CLASSES.contains(&&*first) {
            let is_named = row(&page, &first).contains(&format!("`{name}`"));
            assert!(is_named, "{name} is not in row {first}");
        }
    }
}

#[test]
fn every_test_that_a_page_names_exists() {
    let (sources, mut named) = (all_sources(), 0);
    for page in ["seeds.md", "internals/attacks.md", "internals/faults.md"].map(page) {
        for name in named_tests(&page) {
            assert!(sources.contains(&format!("fn {name}(")), "{name}");
            named += 1;
        }
    }
    assert!(named > 120, "{named} tests are named");
}

#[test]
fn every_key_of_the_configuration_has_a_row_with_its_default() {
    let page = page("configuration.md");
    let (_, table) = page.split_once("## Keys\n").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| {
        row.split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect()
    };
    let mut written: Vec<_> = rows
        .map(|row| {
            let cells: Vec<String> = cells(row);
            (cells[1].clone(), cells[3].clone())
        })
        .collect();
    let mut known: Vec<_> = Config::keys()
        .map(|key| {
            let default = Config::new().get(key).unwrap();
            let shown = if default.is_empty() { "–" } else { &default };
            (key.to_owned(), shown.to_owned())
        })
        .collect();
    written.sort();
    known.sort();
    assert_eq!(written, known);
}

#[test]
fn every_feature_of_the_library_has_a_row_in_its_documentation() {
    let manifest = fs::read_to_string(repository("Cargo.toml")).unwrap();
    let (_, features) = manifest.split_once("\n[features]\n").unwrap();
    let features = features.split("\n\n").next().unwrap().lines();
    let page = fs::read_to_string(repository("src/lib.rs")).unwrap();
    let mut found = 0;
    for line in features.filter(|line| !line.starts_with('#')) {
        let (feature, _) = line.split_once(" = ").unwrap();
        if feature != "default" {
            assert!(
                page.contains(&format!("\n//! | `{feature}` | ")),
                "{feature}"
            );
            found += 1;
        }
    }
    assert!(found >= 5, "{found} features");
}

#[test]
fn every_message_in_troubleshooting_is_one_of_the_programs() {
    // A text that goes over several lines of its source is one line.
    let programs = ["src", "bin/src", "engines"].map(|it| sources(&repository(it)));
    let programs = programs.concat();
    let lines: Vec<_> = programs.split("\\\n").map(str::trim_start).collect();
    let (programs, mut found) = (lines.concat(), 0);
    for line in page("troubleshooting.md").lines() {
        let Some(message) = line
            .strip_prefix("| `")
            .and_then(|rest| rest.split('`').next())
        else {
            continue;
        };
        let parts = message.split('…').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            assert!(programs.contains(part), "{part:?} of {message:?}");
            found += 1;
        }
    }
    assert!(found > 20, "{found} messages");
}

#[test]
fn the_index_of_examples_has_each_with_its_lines_and_what_is_to_copy_needs_no_other_file() {
    let index = fs::read_to_string(repository("examples/README.md")).unwrap();
    let to_copy = index.split("\n## ").nth(1).unwrap();
    for directory in ["", "older", "crates/src/bin", "upload/src"] {
        let directory = repository("examples").join(directory);
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "rs") {
                continue;
            }
            let name = path.strip_prefix(repository("examples")).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let row = format!("| [{0}]({0}) | {1} |", name.display(), text.lines().count());
            assert!(index.contains(&row), "no row {row}");
            if to_copy.contains(&row) {
                let mut lines = text.lines();
                let needs_another =
                    lines.any(|it| it.starts_with("mod ") || it.starts_with("#[path"));
                assert!(!needs_another, "{}", name.display());
            }
        }
    }
}

/// Every document of the repository.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in [
        "",
        "docs",
        "docs/internals",
        "docs/measurements",
        "examples",
    ] {
        for entry in fs::read_dir(repository(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// A page without what stands in fenced blocks.
fn prose(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let parts: Vec<_> = text.split("\n```").step_by(2).collect();
    parts.join("\n")
}

#[test]
fn every_command_of_the_documents_is_run_or_said_not_to_be() {
    let sources = all_sources();
    let cells = |row: &'static str| row.split(" | ").collect::<Vec<_>>();
    let mut rows: Vec<_> = COMMANDS.lines().map(cells).collect();
    let tarball = repository("packaging/tarball.md");
    for path in documents().into_iter().chain([tarball]) {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(repository("")).unwrap().to_str().unwrap();
        for block in text.split("\n```").skip(1).step_by(2) {
            let is_commands = block.starts_with("sh\n") || block.starts_with("console\n");
            if !is_commands || name.starts_with("examples") {
                continue;
            }
            let is_it = |row: &Vec<&str>| row[0] == name && block.contains(row[1]);
            let row = rows.iter().position(is_it);
            let row = row.unwrap_or_else(|| panic!("nothing runs {block} of {name}"));
            let by = rows.remove(row)[2];
            let exists = by.starts_with("not run: ")
                || sources.contains(&format!("fn {by}("))
                || repository(by).exists();
            assert!(exists, "{by} of {name}");
        }
    }
    assert!(rows.is_empty(), "rows without a block: {rows:?}");
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(path: &Path) -> Vec<String> {
    let page = prose(path);
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars();
            let kept = kept.filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut followed = 0;
    for path in documents() {
        let page = prose(&path);
        for link in page.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                _ => path.parent().unwrap().join(file),
            };
            let shown = path.display();
            assert!(target.exists(), "{shown} links to {link}");
            let is_there = anchor.is_empty() || anchors(&target).iter().any(|it| it == anchor);
            assert!(is_there, "{shown} links to {link}");
            followed += 1;
        }
    }
    assert!(followed > 80, "{followed} links");
}
