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
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Greater,
    Less,
}

/// Programs and their samples by round. The first one is ours.
#[derive(Default)]
pub(crate) struct Contest {
    programs: Vec<(String, Vec<Sample>)>,
}

impl Contest {
    pub(crate) fn add(&mut self, program: &str, sample: Sample) {
        match self.programs.iter_mut().find(|(name, _)| name == program) {
            Some((_, samples)) => samples.push(sample),
            None => self.programs.push((program.to_owned(), vec![sample])),
        }
    }

    /// The programs in the order that `names` has them.
    pub(crate) fn sort_like(&mut self, names: &[String]) {
        let place = |name: &String| names.iter().position(|other| other == name);
        self.programs.sort_by_key(|(name, _)| place(name));
    }

    /// For each program: name, figure with quartiles, what is beside it, ratio of ours to it (how many times
    /// as good ours is), and wrong answers.
    pub(crate) fn rows(&self, better: Better, decimals: usize) -> Vec<[String; 5]> {
        let ours = self
            .programs
            .first()
            .map_or(&[][..], |(_, samples)| samples);
        let row = |(name, samples): &(String, Vec<Sample>)| {
            let Spread { low, median, high } = spread(samples);
            let beside = Spread::of(samples.iter().map(|sample| sample.beside).collect()).median;
            let wrong: u64 = samples.iter().map(|sample| sample.wrong).sum();
            let ratios = ours.iter().zip(samples).map(|(ours, its)| match better {
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
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| format!("| {} |", row.join(" | ")))
            .collect();
        write!(f, "{}", rows.join("\n"))
    }
}
