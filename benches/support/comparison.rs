//! Each figure of each candidate in each round, and the ratios between them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::median;
use super::report::{Aim, met, number};
use crate::candidates::Candidate;

/// Today's build is compared with these.
pub const OTHERS: [Candidate; 3] = [Candidate::Baseline, Candidate::Lean, Candidate::Java];

/// Of these all rounds together are shown: one bad round of five must be seen.
pub const LOST: &str = "lost";
pub const DUPLICATES: &str = "duplicates";

#[derive(Default, serde::Serialize)]
pub struct Comparison {
    lines: Vec<Line>,
}

#[derive(serde::Serialize)]
struct Line {
    row: String,
    figure: &'static str,
    unit: &'static str,
    /// One for each round, in their order.
    values: BTreeMap<Candidate, Vec<f64>>,
}

/// What is wanted of the ratio to another candidate.
pub struct RatioAim {
    pub row: &'static str,
    pub figure: &'static str,
    pub to: Candidate,
    pub aim: Aim,
}

impl Comparison {
    /// One figure of one round. What a candidate cannot do, or is not known, is left out.
    pub fn add(
        &mut self,
        row: &str,
        figure: &'static str,
        unit: &'static str,
        candidate: Candidate,
        value: f64,
    ) {
        let known = self.lines.iter().position(|line| line.row == row && line.figure == figure);
        let index = known.unwrap_or_else(|| {
            self.lines.push(Line { row: row.to_owned(), figure, unit, values: BTreeMap::new() });
            self.lines.len() - 1
        });
        self.lines[index].values.entry(candidate).or_default().push(value);
    }

    /// Of today's build to the other; within each round, because the machine may be faster in one than in another.
    pub fn maybe_ratio(&self, row: &str, figure: &str, to: Candidate) -> Option<f64> {
        self.lines.iter().find(|line| line.row == row && line.figure == figure)?.maybe_ratio(to)
    }

    /// Nothing where it was not measured.
    pub fn maybe_middle(&self, row: &str, figure: &str, candidate: Candidate) -> Option<f64> {
        let line = self.lines.iter().find(|line| line.row == row && line.figure == figure)?;
        line.maybe_middle(candidate)
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from("| row | figure |");
        for candidate in crate::candidates::ALL {
            let _ = write!(text, " {} |", candidate.name());
        }
        for other in OTHERS {
            let _ = write!(text, " / {} |", other.name());
        }
        text.push_str("\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n");
        let mut row = "";
        for line in &self.lines {
            let shown = if row == line.row { "" } else { &line.row };
            row = &line.row;
            let unit = if line.unit.is_empty() { String::new() } else { format!(", {}", line.unit) };
            let _ = write!(text, "| {shown} | {}{unit} |", line.figure);
            for candidate in crate::candidates::ALL {
                let _ = write!(text, " {} |", cell(line.maybe_middle(*candidate)));
            }
            for other in OTHERS {
                let _ = write!(text, " {} |", cell(line.maybe_ratio(other)));
            }
            text.push('\n');
        }
        text
    }

    /// The aims, each with the ratio that was measured.
    pub fn aims(&self, aims: &[RatioAim]) -> String {
        let mut text = String::from("| row | figure | to | aim | measured | |\n|---|---|---|---|--:|---|\n");
        for RatioAim { row, figure, to, aim } in aims {
            let ratio = self.maybe_ratio(row, figure, *to);
            let verdict = match ratio.and_then(|ratio| met(*aim, ratio)) {
                Some(true) => "ok",
                Some(false) => "MISSED",
                None => "not measured",
            };
            let _ =
                writeln!(text, "| {row} | {figure} | {} | {aim} | {} | {verdict} |", to.name(), cell(ratio));
        }
        text
    }
}

impl Line {
    fn maybe_middle(&self, candidate: Candidate) -> Option<f64> {
        let values = self.values.get(&candidate)?;
        match self.figure {
            LOST | DUPLICATES => Some(values.iter().sum()),
            _ => Some(median(values.clone())),
        }
    }

    fn maybe_ratio(&self, to: Candidate) -> Option<f64> {
        let (ours, theirs) = (self.values.get(&Candidate::Today)?, self.values.get(&to)?);
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        // There is none to a candidate that lost nothing, or whose cost was too small to be seen.
        Some(median(ratios)).filter(|ratio| ratio.is_finite())
    }
}

fn cell(maybe_value: Option<f64>) -> String {
    maybe_value.map_or_else(|| "-".to_owned(), number)
}
