//! How large a class holds: `roombridge dev` with a room full of students, of whom ten chat, measured from outside.
//!
//! Without arguments it first tries 300 students, who must hold, then looks for the most that hold, for ten minutes in
//! all, and writes the table to docs/BENCHMARKS.md; with `--search` it prints it only. `--quick`, or `--students N
//! --seconds S`, tries one class with any build, and prints as well.
//! Promises to end by itself, with all that it started. Must never write figures of an unoptimised build down.

#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/it/support/mod.rs"]
mod harness;
#[path = "class/heard.rs"]
mod heard;
#[path = "class/machine.rs"]
mod machine;
#[path = "support/marked_part.rs"]
mod marked_part;
#[path = "class/member.rs"]
mod member;
#[path = "class/outcome.rs"]
mod outcome;
#[path = "class/page.rs"]
mod page;
#[allow(dead_code, reason = "shared with the other benchmark, which uses all of it")]
#[path = "support/process_usage.rs"]
mod process_usage;
#[path = "class/search.rs"]
mod search;
#[path = "class/trial.rs"]
mod trial;
#[path = "class/wire.rs"]
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use outcome::Trial;
use search::Search;

const FIRST: usize = 300;
/// `dev` has 10,000 places, and some are its own.
const MOST: usize = 9_000;
const LESSON: Duration = Duration::from_secs(60);
const SEARCH: Duration = Duration::from_secs(600);

const QUICK_STUDENTS: usize = 30;
const QUICK: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's own word for a benchmark that has no harness.
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    heard::try_the_instrument();
    marked_part::try_the_marks();
    machine::raise_open_files();
    let held = match words.as_slice() {
        [] => search(|part| marked_part::write("class", part)),
        ["--search"] => search(|_| ()),
        ["--quick"] => one(QUICK_STUDENTS, QUICK),
        ["--students", students, "--seconds", seconds] => match (students.parse(), seconds.parse()) {
            (Ok(students), Ok(seconds)) => one(students, Duration::from_secs(seconds)),
            _ => return usage(),
        },
        _ => return usage(),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: class [--search | --quick | --students N --seconds S]");
    ExitCode::FAILURE
}

fn one(students: usize, lesson: Duration) -> bool {
    let trial = attempt(students, lesson);
    println!("{}", page::table(std::slice::from_ref(&trial)));
    println!("{}", machine::line());
    trial.holds()
}

/// True if the first class held, whatever became of the larger ones.
fn search(write: fn(&str)) -> bool {
    let machine = machine::line();
    let mut trials: Vec<Trial> = Vec::new();
    let search = Search { first: FIRST, most: MOST, budget: SEARCH };
    search.run(|students| {
        let trial = attempt(students, LESSON);
        let held = trial.holds();
        trials.push(trial);
        held
    });
    let first_held = trials.first().is_some_and(Trial::holds);
    trials.sort_by_key(|trial| trial.students);
    let text = page::section(&trials, &machine);
    println!("{text}");
    if cfg!(debug_assertions) {
        say("an unoptimised build: docs/BENCHMARKS.md stays as it is");
    } else {
        write(&text);
    }
    first_held
}

fn attempt(students: usize, lesson: Duration) -> Trial {
    say(&format!("{students} students, {} s", lesson.as_secs()));
    let trial = trial::run(students, lesson);
    say(&trial.in_one_line());
    trial
}

fn say(what: &str) {
    eprintln!("class: {what}");
}
