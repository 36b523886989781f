//! The ratios that are committed, and whether those of now are as good.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::comparison::{Comparison, OTHERS};
use super::report::number;
use crate::candidates::Candidate;

/// Says how the file comes about.
const HEAD: &str = "\
# What `make bench-quick` measured: today's build, divided by another candidate in the same run. It fails when a ratio
# is worse than here by more than the tolerance. `make bench-quick ACCEPT=1` writes the ratios anew and keeps the tolerances.
";
/// Of a ratio that is new: on a busy machine the same build differs by about half of it from run to run.
const TOLERANCE: f64 = 0.3;

/// Figures that a look of 3 minutes can tell, each with whether more is better.
const WATCHED: [(&str, &str, bool); 3] = [
    ("drain, 200 B", "stored", true),
    ("drain, 200 B", "processor time a message", false),
    ("steady, 1,000 msg/s", "processor time a message", false),
];

#[derive(serde::Serialize, serde::Deserialize)]
struct Committed {
    ratio: Vec<Ratio>,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Ratio {
    row: String,
    figure: String,
    to: Candidate,
    ratio: f64,
    /// How much worse it may be, as a share of it.
    tolerance: f64,
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ratios.toml")
}

fn committed() -> Vec<Ratio> {
    let text = std::fs::read_to_string(file()).expect("benches/ratios.toml can be read");
    toml::from_str::<Committed>(&text).expect("benches/ratios.toml holds ratios").ratio
}

/// Prints each ratio beside the committed one; true if none is worse than it may be.
pub fn are_as_good(comparison: &Comparison) -> bool {
    let mut text = String::from(
        "| row | figure | to | committed | now | at the worst | |\n|---|---|---|--:|--:|--:|---|\n",
    );
    let (mut all_good, mut compared) = (true, 0);
    for Ratio { row, figure, to, ratio, tolerance } in committed() {
        let more_is_better = WATCHED.iter().any(|(r, f, better)| *r == row && *f == figure && *better);
        let worst = if more_is_better { ratio * (1.0 - tolerance) } else { ratio * (1.0 + tolerance) };
        let (now, verdict) = match comparison.maybe_ratio(&row, &figure, to) {
            None if to.is_here() => {
                all_good = false;
                (
                    "-".to_owned(),
                    "NOT MEASURED: benches/ratios.toml names a row or figure that does not exist".to_owned(),
                )
            }
            None => {
                ("-".to_owned(), "not compared: the baseline is not built (make bench builds it)".to_owned())
            }
            Some(now) => {
                compared += 1;
                let off = (now / ratio - 1.0) * 100.0;
                let good = if more_is_better { now >= worst } else { now <= worst };
                all_good &= good;
                (number(now), format!("{}, {off:+.0} %", if good { "ok" } else { "WORSE" }))
            }
        };
        let _ = writeln!(
            text,
            "| {row} | {figure} | {} | {} | {now} | {} | {verdict} |",
            to.name(),
            number(ratio),
            number(worst)
        );
    }
    println!("{text}");
    assert!(
        compared > 0,
        "benches/ratios.toml holds no ratio that can be measured here; `make bench-quick ACCEPT=1` writes them"
    );
    if !all_good {
        println!(
            "Ratios are worse than benches/ratios.toml lets them be. Run it once more on a quiet machine. If the change \
             is meant, `make bench-quick ACCEPT=1` writes the new ratios; commit the file with the reason."
        );
    }
    all_good
}

/// Writes the ratios of now. Those to a candidate that is not here stay as they are.
pub fn accept(comparison: &Comparison) {
    let earlier = if file().exists() { committed() } else { Vec::new() };
    let mut ratio = Vec::new();
    for (row, figure, _) in WATCHED {
        for to in OTHERS {
            let known =
                earlier.iter().find(|known| known.row == row && known.figure == figure && known.to == to);
            let tolerance = known.map_or(TOLERANCE, |known| known.tolerance);
            match comparison.maybe_ratio(row, figure, to) {
                Some(now) => ratio.push(Ratio {
                    row: row.to_owned(),
                    figure: figure.to_owned(),
                    to,
                    ratio: (now * 1000.0).round() / 1000.0,
                    tolerance,
                }),
                None => ratio.extend(known.cloned()),
            }
        }
    }
    let ratios = toml::to_string(&Committed { ratio }).expect("ratios are TOML");
    std::fs::write(file(), format!("{HEAD}\n{ratios}")).expect("benches/ratios.toml can be written");
}
