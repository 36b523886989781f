//! The table of classes, and what stands around it in docs/BENCHMARKS.md.

use std::fmt::Write;
use std::time::Duration;

use crate::outcome::{Outcome, P99_MS, Trial};

/// Processors that other programs may take before the page says so.
const QUIET: f64 = 0.2;

type Figure = (&'static str, fn(&Outcome) -> String);

const FIGURES: [Figure; 21] = [
    ("lines said", |of| count(of.lines)),
    ("deliveries", |of| count(of.heard)),
    ("deliveries a second", |of| count((of.heard as f64 / of.usage.lesson.as_secs_f64()) as usize)),
    ("publish to receipt, p50", |of| ms(of.latency.p50_ms)),
    ("p90", |of| ms(of.latency.p90_ms)),
    ("p99", |of| ms(of.latency.p99_ms)),
    ("max", |of| ms(of.latency.max_ms)),
    ("missing", |of| count(of.missing)),
    ("duplicates", |of| count(of.duplicates)),
    ("out of order", |of| count(of.out_of_order)),
    ("without its id, or unreadable", |of| count(of.strange)),
    ("refused, or not acknowledged", |of| count(of.not_accepted)),
    ("members cut off", |of| count(of.cut_off.len())),
    ("server, processors busy", |of| cores(of, of.usage.server_cpu)),
    ("server, processor time for a delivery", |of| {
        format!("{:.0} us", of.usage.server_cpu.as_secs_f64() * 1e6 / of.heard.max(1) as f64)
    }),
    ("server, peak resident memory", |of| mb(of.usage.server_peak_rss_mb)),
    ("load tool, processors busy", |of| cores(of, of.usage.tool_cpu)),
    ("load tool, peak resident memory", |of| mb(of.usage.tool_peak_rss_mb)),
    ("load tool, a line left late by at most", |of| ms(of.left_late.as_secs_f64() * 1000.0)),
    ("everything else on the machine, processors busy", |of| cores(of, of.usage.others_cpu)),
    ("everybody in the room after", |of| {
        format!("{:.1} s + {:.1} s", of.usage.joining.as_secs_f64(), of.usage.noticing.as_secs_f64())
    }),
];

const NOTES: [&str; 5] = [
    "Each class has a `roombridge dev --auth required` of its own, in an empty folder, and 1 teacher beside the students. All \
     are in one room; each has a token from the login and one connection, subscribed with QoS 1. 10 students say 2 lines a \
     second each, at random moments.",
    "A delivery is one line to one member. Every line must reach every member once (by `rbId`) and in its sender's order; \
     the 99th percentile of all deliveries must stay below 200 ms.",
    "A latency is from the PUBLISH of the student to the receipt by the member, through RocketMQ and the classroom's \
     judgement. Sender and receiver have one clock.",
    "Server and load tool share the machine; processors busy is processor time by the kernel over the time of the lesson.",
    "Everybody in the room: login, CONNECT and SUBACK in waves of 50, then until the classroom counts everybody.",
];

/// Figures down, classes across.
pub fn table(trials: &[Trial]) -> String {
    let mut text = String::from("| students |");
    for trial in trials {
        let _ = write!(text, " {} |", count(trial.students));
    }
    text.push_str("\n|---|");
    text.push_str(&"--:|".repeat(trials.len()));
    row(&mut text, "holds", trials, |trial| if trial.holds() { "yes" } else { "NO" }.to_owned());
    for (name, figure) in FIGURES {
        row(&mut text, name, trials, |trial| trial.outcome.as_ref().map_or("-".to_owned(), figure));
    }
    text.push('\n');
    text
}

fn row(text: &mut String, name: &str, trials: &[Trial], cell: impl Fn(&Trial) -> String) {
    let _ = write!(text, "\n| {name} |");
    for trial in trials {
        let _ = write!(text, " {} |", cell(trial));
    }
}

/// The part of docs/BENCHMARKS.md. `trials`: smallest class first.
pub fn section(trials: &[Trial], machine: &str) -> String {
    let largest = trials.iter().rev().find(|trial| trial.holds());
    let verdict = largest.map_or_else(
        || "No class that was tried held.".to_owned(),
        |trial| {
            format!(
                "**{} students in one room hold** on this machine, the largest class of those tried that did: every line \
                 to everybody, p99 below {P99_MS:.0} ms.",
                count(trial.students)
            )
        },
    );
    let mut text = format!("## How large a class holds\n\n{verdict}\n\n{}\n", table(trials));
    for note in NOTES {
        let _ = writeln!(text, "* {note}");
    }
    for trial in trials {
        let why = match &trial.outcome {
            Err(error) => Some(format!("came to no lesson: {error}")),
            Ok(outcome) => outcome.cut_off.first().map(|first| format!("lost members, first {first}")),
        };
        if let Some(why) = why {
            let _ = writeln!(text, "* The class of {} {why}.", count(trial.students));
        }
    }
    if let Some(busiest) = trials.iter().filter_map(Trial::others_busy).reduce(f64::max)
        && busiest > QUIET
    {
        let _ = writeln!(
            text,
            "* **Not a quiet machine**: other programs took up to {busiest:.2} processors, so larger classes may hold."
        );
    }
    let _ = writeln!(text, "* {machine}");
    text
}

fn cores(of: &Outcome, cpu: Duration) -> String {
    format!("{:.2}", cpu.as_secs_f64() / of.usage.lesson.as_secs_f64())
}

fn ms(value: f64) -> String {
    format!("{value:.1} ms")
}

fn mb(value: f64) -> String {
    format!("{value:.0} MB")
}

fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
