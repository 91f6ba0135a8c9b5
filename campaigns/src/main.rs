//! What takes longer than a test. Each campaign tries sessions in many cases, with real processes, and must
//! notice stores that are broken on purpose: one that does not would prove nothing.

mod campaign;
mod cluster;
mod engines;
mod faults;
mod histories;
mod operation;
mod power;
mod process;
mod requests;
mod scene;
mod schedules;
mod soak;
mod storm;
mod subject;
mod tracer;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;

use campaign::{Campaign, Run};

const CAMPAIGNS: [Campaign; 9] = [
    histories::CAMPAIGN,
    schedules::CAMPAIGN,
    faults::CAMPAIGN,
    power::CAMPAIGN,
    storm::CAMPAIGN,
    soak::CAMPAIGN,
    engines::CAMPAIGN,
    engines::switch_over::CAMPAIGN,
    cluster::CAMPAIGN,
];

/// Tries sessions for longer than a test does.
///
/// First come the negative controls, stores that are broken on purpose: each must be noticed. Then the
/// cases share the seconds. The last line says what was tried. Exit code 0: no violation; 1: violations,
/// printed with the seed that repeats them; 2: usage.
#[derive(Parser)]
#[command(name = "campaigns")]
struct Options {
    /// The campaign, one of --list.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// How long the cases are tried together; the controls come on top.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: Option<u64>,
    /// Draws what happens; default: the time.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The most rounds of a case, where a campaign counts rounds.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    rounds: u64,
    /// Only the cases and controls of this store.
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// List the campaigns, or the cases of the one that is named.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    if let Some(task) = process::Task::find() {
        return task.perform();
    }
    let options = Options::parse();
    let named = |campaign: &&Campaign| options.name.as_deref() == Some(campaign.name);
    let Some(campaign) = CAMPAIGNS.iter().find(named) else {
        let is_known = options.name.is_none();
        for it in &CAMPAIGNS {
            println!("{:<11} {} ({} s)", it.name, it.about, it.seconds);
        }
        return ExitCode::from(if is_known { 0 } else { 2 });
    };
    if options.list {
        print!("{}", campaign.listing());
        return ExitCode::SUCCESS;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let run = Run {
        time: Duration::from_secs(options.seconds.unwrap_or(campaign.seconds)),
        seed: options
            .seed
            .unwrap_or_else(|| now.map_or(0, |now| now.as_secs() << 20)),
        rounds: options.rounds,
        store: options.store,
    };
    ExitCode::from(u8::from(!campaign.run(&run)))
}
