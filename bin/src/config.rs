//! `cgi-session config`: every effective setting, and where it came from.

use std::path::Path;

use cgi_session::{Config, Origin, printable};
use serde_json::{Map, Value, json};

use crate::report::{self, Ended};

const EXAMPLES: &str = "\
Examples:
  cgi-session config
  cgi-session config --config /srv/site/cgi-session.ini
  cgi-session config --json | jq -r .timeout.value

A password is shown as ***. The third column says where a value comes from: `default`, the file and
line, or the variable of the environment. `(none)` is no value. Exit status: 0, or 78 with one line on
stderr when the configuration cannot be used.";

/// Show every setting and where it comes from
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Write one JSON object: each key with its value and origin
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    let config = Config::find_with(file, &[])?;
    let settings: Vec<Setting> = Config::keys().map(|key| setting(&config, key)).collect();
    report::output(&if arguments.json {
        object(&settings)
    } else {
        table(&settings)
    });
    Ok(())
}

struct Setting {
    key: &'static str,
    value: String,
    origin: Origin,
}

fn setting(config: &Config, key: &'static str) -> Setting {
    Setting {
        key,
        value: config.get(key).unwrap_or_default(),
        origin: config.origin(key),
    }
}

fn object(settings: &[Setting]) -> String {
    let entry = |setting: &Setting| {
        let origin = setting.origin.to_string();
        let value = json!({ "value": setting.value, "origin": origin });
        (setting.key.to_owned(), value)
    };
    let object: Map<String, Value> = settings.iter().map(entry).collect();
    format!("{}\n", Value::Object(object))
}

fn table(settings: &[Setting]) -> String {
    let rows: Vec<_> = settings
        .iter()
        .map(|setting| {
            let value = match setting.value.as_str() {
                "" => "(none)".to_owned(),
                value => printable(value),
            };
            (setting.key, value, printable(&setting.origin.to_string()))
        })
        .collect();
    let widest = |length: fn(&(&str, String, String)) -> usize| {
        rows.iter().map(length).max().unwrap_or_default()
    };
    let (keys, values) = (
        widest(|row| row.0.len()),
        widest(|row| row.1.chars().count()),
    );
    let line = |(key, value, origin): &(&str, String, String)| {
        format!("{key:<keys$}  {value:<values$}  {origin}\n")
    };
    let lines: Vec<_> = rows.iter().map(line).collect();
    lines.concat()
}
