//! The table of today's build alone: each figure with the aim beside it.

use std::fmt::{self, Write};

#[derive(Clone, Copy, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for comparison.
    None,
}

#[derive(serde::Serialize)]
pub struct Row {
    stage: &'static str,
    figure: String,
    value: f64,
    unit: &'static str,
    aim: Aim,
    met: Option<bool>,
}

#[derive(Default, serde::Serialize)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub fn add(
        &mut self,
        stage: &'static str,
        figure: impl Into<String>,
        value: f64,
        unit: &'static str,
        aim: Aim,
    ) {
        let met = met(aim, value);
        self.rows.push(Row { stage, figure: figure.into(), value, unit, aim, met });
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from("| stage | figure | measured | aim | |\n|---|---|---|---|---|\n");
        let mut stage = "";
        for row in &self.rows {
            let shown = if stage == row.stage { "" } else { row.stage };
            stage = row.stage;
            let met = match row.met {
                Some(true) => "ok",
                Some(false) => "MISSED",
                None => "",
            };
            let _ = writeln!(
                text,
                "| {shown} | {} | {} {} | {} | {met} |",
                row.figure,
                number(row.value),
                row.unit,
                row.aim
            );
        }
        text
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aim::AtLeast(least) => write!(out, "at least {}", number(*least)),
            Aim::AtMost(most) => write!(out, "at most {}", number(*most)),
            Aim::None => Ok(()),
        }
    }
}

/// Nothing where there is no aim.
pub fn met(aim: Aim, value: f64) -> Option<bool> {
    match aim {
        Aim::AtLeast(least) => Some(value >= least),
        Aim::AtMost(most) => Some(value <= most),
        Aim::None => None,
    }
}

/// Three digits are all that such measurements are worth.
pub fn number(value: f64) -> String {
    if value.abs() >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        grouped
    } else if value.fract() == 0.0 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else if value.abs() < 0.1 {
        format!("{value:.3}")
    } else {
        format!("{value:.2}")
    }
}
