//! `cgi-session config`: every effective setting, and where it came from.

use std::path::Path;

use cgi_session::{Config, printable};
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
    let settings = Config::keys().map(|key| {
        let value = config.get(key).unwrap_or_default();
        (key, value, config.origin(key).to_string())
    });
    if arguments.json {
        let entry = |(key, value, origin): (&str, String, String)| {
            (key.to_owned(), json!({ "value": value, "origin": origin }))
        };
        let object: Map<String, Value> = settings.map(entry).collect();
        report::output_json(&Value::from(object));
    } else {
        report::output(&table(settings));
    }
    Ok(())
}

fn table(settings: impl Iterator<Item = (&'static str, String, String)>) -> String {
    let shown = |(key, value, origin): (_, String, String)| {
        let value = match value.as_str() {
            "" => "(none)".to_owned(),
            value => printable(value),
        };
        (key, value, printable(&origin))
    };
    let rows: Vec<(&str, String, String)> = settings.map(shown).collect();
    let keys = rows.iter().map(|row| row.0.len()).max();
    let values = rows.iter().map(|row| row.1.chars().count()).max();
    let (keys, values) = (keys.unwrap_or_default(), values.unwrap_or_default());
    let line = |(key, value, origin)| format!("{key:<keys$}  {value:<values$}  {origin}\n");
    rows.into_iter().map(line).collect()
}
