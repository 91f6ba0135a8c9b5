//! An hour of mixed traffic over nginx and Apache, CGI and FastCGI on the same sessions, while programs
//! are killed and stopped, the disk fills, servers restart and clean-ups run.
//!
//! ```sh
//! cargo bench --bench soak                                  # an hour
//! SOAK_SECONDS=300 SOAK_PLOT=soak.svg cargo bench --bench soak
//! SOAK_SECONDS=60 SOAK_CONTROL=leak cargo bench --bench soak   # must fail; so must `loss`
//! ```
//!
//! It needs nginx and Apache, and as root it also fills and remounts the sessions' file system. The samples
//! are written to `target/soak/samples.csv`; `SOAK_PLOT` names a file for a picture of them. It ends
//! with a verdict, and fails when something was lost, rose, or failed without a fault to excuse it.

#[path = "soak/mod.rs"]
mod soak;

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use soak::gauge::table;
use soak::plot::svg;
use soak::run::{Control, Soak};
use soak::verdict::{judge, quarters};

const HOUR: u64 = 3600;

fn main() -> ExitCode {
    if !env::args().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` starts benchmarks too, and has no time for them.
        println!("to soak: cargo bench --bench soak");
        return ExitCode::SUCCESS;
    }
    let seconds = env::var("SOAK_SECONDS").ok();
    let seconds = seconds.map_or(HOUR, |text| text.parse().expect("SOAK_SECONDS: a number"));
    let control = match env::var("SOAK_CONTROL").as_deref() {
        Err(_) => Control::Nothing,
        Ok("leak") => Control::Leak,
        Ok("loss") => Control::Loss,
        Ok(other) => panic!("SOAK_CONTROL = {other}: leak or loss"),
    };
    let soak = Soak {
        duration: Duration::from_secs(seconds),
        threads: 12,
        pause: Duration::from_millis(100),
        fault_every: Duration::from_secs(8),
        sample_every: Duration::from_secs((seconds / 40).clamp(1, 10)),
        timeout: "2",
        control,
    };
    let outcome = soak.run();

    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("soak");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("samples.csv"), table(&outcome.samples)).unwrap();
    if let Some(file) = env::var_os("SOAK_PLOT") {
        fs::write(file, svg(&outcome.samples)).unwrap();
    }
    println!("{} requests in {seconds} s", outcome.requests);
    for (name, number) in &outcome.faults {
        println!("{number:6} times {name}");
    }
    let (early, late) = quarters(&outcome.samples, |sample| sample.memory_kib);
    println!("memory of the responder: {early} KiB in the second quarter, {late} KiB in the last");
    let (early, late) = quarters(&outcome.samples, |sample| sample.records as u64);
    println!("session files: {early} and {late}");
    let (early, late) = quarters(&outcome.samples, |sample| sample.descriptors as u64);
    println!("descriptors: {early} and {late}");
    let reasons = judge(&outcome);
    for reason in &reasons {
        println!("wrong: {reason}");
    }
    println!(
        "{}",
        if reasons.is_empty() {
            "level, and nothing lost"
        } else {
            "FAILED"
        }
    );
    ExitCode::from(u8::from(!reasons.is_empty()))
}
