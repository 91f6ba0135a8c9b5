//! [`Contest`]: figures of several programs from the same rounds, and the [`Section`] that shows them.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::chart;
use crate::measured::Outcome;
use crate::measured::spread::Spread;

/// What one program reached in one round.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) figure: f64,
    /// What else there is to say, such as the processor time of a request.
    pub(crate) beside: f64,
    pub(crate) wrong: u64,
}

/// Which figure is the better one.
#[derive(Clone, Copy)]
pub(crate) enum Better {
    Greater,
    Less,
}

/// Programs and their samples by round. The first one is ours.
pub(crate) struct Contest {
    programs: Vec<(String, Vec<Sample>)>,
    better: Better,
    /// Of a figure in the table.
    decimals: usize,
}

/// The columns of a contest's rows.
pub(crate) const PROGRAM: usize = 0;
pub(crate) const FIGURE: usize = 1;
pub(crate) const BESIDE: usize = 2;
/// How many times as good ours is.
pub(crate) const RATIO: usize = 3;
pub(crate) const WRONG: usize = 4;

impl Contest {
    pub(crate) fn new(
        names: &[String],
        samples: Vec<Vec<Sample>>,
        better: Better,
        decimals: usize,
    ) -> Self {
        let programs = names.iter().cloned().zip(samples).collect();
        Contest {
            programs,
            better,
            decimals,
        }
    }

    /// A table of these columns, and a chart.
    pub(crate) fn section(
        &self,
        title: &str,
        columns: &[(&'static str, usize)],
        (chart, chart_title): (&str, String),
    ) -> Section {
        let cells = |row: [String; 5]| columns.iter().map(|(_, at)| row[*at].clone()).collect();
        Section {
            title: title.to_owned(),
            head: columns.iter().map(|(head, _)| *head).collect(),
            rows: self.rows().into_iter().map(cells).collect(),
            charts: vec![Chart {
                name: chart.to_owned(),
                title: chart_title,
                bars: self.bars(),
            }],
        }
    }

    /// For each program its columns.
    pub(crate) fn rows(&self) -> Vec<[String; 5]> {
        let decimals = self.decimals;
        let ours = self.programs.iter().take(1);
        let ours: Vec<&Sample> = ours.flat_map(|(_, samples)| samples).collect();
        let row = |(name, samples): &(String, Vec<Sample>)| {
            let Spread { low, median, high } = spread(samples);
            let beside = Spread::of(samples.iter().map(|sample| sample.beside).collect()).median;
            let wrong: u64 = samples.iter().map(|sample| sample.wrong).sum();
            let ratios = ours
                .iter()
                .zip(samples)
                .map(|(ours, its)| match self.better {
                    Better::Greater => ours.figure / its.figure,
                    Better::Less => its.figure / ours.figure,
                });
            [
                name.clone(),
                format!("{median:.decimals$} ({low:.decimals$}–{high:.decimals$})"),
                format!("{beside:.0}"),
                ratio(Spread::of(ratios.collect()).median),
                wrong.to_string(),
            ]
        };
        self.programs.iter().map(row).collect()
    }

    pub(crate) fn bars(&self) -> Vec<(String, Spread)> {
        let bar = |(name, samples): &(String, Vec<Sample>)| (name.clone(), spread(samples));
        self.programs.iter().map(bar).collect()
    }
}

/// Who answered nothing at all cannot be compared.
fn ratio(ratio: f64) -> String {
    if ratio.is_finite() {
        format!("{ratio:.2}")
    } else {
        "–".to_owned()
    }
}

fn spread(samples: &[Sample]) -> Spread {
    Spread::of(samples.iter().map(|sample| sample.figure).collect())
}

/// A part of the report: a table, and the charts that go with it.
#[derive(Default)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) charts: Vec<Chart>,
}

pub(crate) struct Chart {
    /// The name of its file.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) bars: Vec<(String, Spread)>,
}

impl Section {
    pub(crate) fn draw(&self, directory: &Path) -> Outcome<()> {
        fs::create_dir_all(directory)?;
        for chart in &self.charts {
            let path = directory.join(format!("{}.svg", chart.name));
            fs::write(path, chart::svg(&chart.title, &chart.bars))?;
        }
        Ok(())
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        writeln!(f, "| {} |", self.head.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.head.len()))?;
        let rows = self.rows.iter();
        let rows: Vec<_> = rows.map(|row| format!("| {} |", row.join(" | "))).collect();
        write!(f, "{}", rows.join("\n"))
    }
}
