//! The command line: one file per subcommand, thin.
//!
//! Must never: decide what becomes of a message, or print a secret.

mod archive;
mod check;
mod class_api;
mod deadletter;
#[cfg(feature = "embedded")]
mod dev;
mod explain;
mod export;
mod found;
mod history;
mod keyboard;
mod lag;
mod lesson;
mod lesson_choice;
#[cfg(test)]
mod messages;
mod missing;
mod notice;
mod output;
mod replay;
mod run;
mod spool;
mod target;
mod times;
mod token;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use lesson_choice::Ambiguous;

use crate::binding::RuleError;
use crate::config::{ConfigError, LogConfig, ProcessEnvironment, ignored_variables};
use crate::telemetry;

/// Exit codes, documented in `--help` and the README.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const STOPPED_EARLY: u8 = 3;
const INCOMPLETE: u8 = 4;

const AFTER_HELP: &str = "\
Exit codes:
  0  done; for `run` and `dev`: everything that came in is acknowledged (what is in the spool is on this disk)
  1  failed; stderr says why
  2  wrong usage or configuration
  3  stopped before everything was acknowledged (deadline, second signal, or MQTT broker away); the rest comes
     again; the last line of the log says how many messages are left, and where
  4  shown, but a part is missing: lost, no longer kept, or on a broker that is away; stderr says what

First steps:
  roombridge dev                                  everything in one process, nothing else needed
  roombridge run --config config/roombridge.toml  the bridge beside your own brokers";

/// Keeps a live classroom's MQTT messages in RocketMQ: nothing that it acknowledged is lost, and every room can be replayed.
#[derive(Debug, Parser)]
#[command(name = "roombridge", version, about, after_help = AFTER_HELP, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge beside an MQTT broker and RocketMQ.
    Run(run::RunArgs),
    /// Run everything in this process: MQTT broker, RocketMQ and the bridge.
    #[cfg(feature = "embedded")]
    Dev(dev::DevArgs),
    /// Check a configuration; with --connect also the MQTT broker and RocketMQ.
    Check(check::CheckArgs),
    /// Show what becomes of messages on an MQTT topic: binding, RocketMQ topic, tag, keys, slot, properties.
    Explain(explain::ExplainArgs),
    /// Show what was said in a room.
    History(history::HistoryArgs),
    /// Play a room again, at its own pace or faster, on the terminal or on MQTT.
    Replay(replay::ReplayArgs),
    /// Find lines by their words.
    Search(found::SearchArgs),
    /// Show every room: when it spoke first and last, lines, people, lessons.
    Rooms(found::RoomsArgs),
    /// Show the lessons of a room.
    Lessons(found::LessonsArgs),
    /// Write messages into files: a room, or everything into a folder that grows.
    Export(export::ExportArgs),
    /// Keep what RocketMQ holds for years: copy, show and prove the archive.
    Archive(archive::ArchiveArgs),
    /// Show which messages wait for RocketMQ on the local disk, or send them.
    Spool(spool::SpoolArgs),
    /// List, show, send again or throw away messages that could not be stored where they belong.
    #[command(name = "deadletter")]
    DeadLetter(deadletter::DeadLetterArgs),
    /// Send a notice to everyone in a room.
    Notice(notice::NoticeArgs),
    /// Mark where a lesson of a room begins and ends.
    Lesson(lesson::LessonArgs),
    /// Make a token for the classroom, or show what a token says.
    Token(token::TokenArgs),
    /// Show how far consumer groups are behind.
    Lag(lag::LagArgs),
    /// Print a completion script for a shell; source it, or install it.
    Completion { shell: clap_complete::Shell },
}

/// Parses the arguments, runs the command, prints its error, and says how it ended.
pub fn main() -> ExitCode {
    let arguments = without_empty_variables(Arguments::command()).try_get_matches();
    let code = match arguments.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => run_to_its_end(arguments.command),
        Err(answer) => show_answer(&answer),
    };
    telemetry::flush();
    code
}

/// A variable that is set to an empty text counts as not set, also where an argument may come from it.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Starts the log of a command that goes on running, and says which variables are left alone.
fn start_log(config: &LogConfig) -> anyhow::Result<()> {
    telemetry::init(config, &[])?;
    let ignored = ignored_variables(&ProcessEnvironment);
    if !ignored.is_empty() {
        tracing::info!(
            "left alone, because Kubernetes sets them for a Service named roombridge: {}",
            ignored.join(", ")
        );
    }
    Ok(())
}

fn run_to_its_end(command: Command) -> ExitCode {
    let mut builder = match &command {
        // They have one thing to do at a time: a second thread would only have to be woken for each page.
        Command::History(_)
        | Command::Search(_)
        | Command::Rooms(_)
        | Command::Lessons(_)
        | Command::Archive(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::aside(format_args!("error: could not start the runtime: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let ended = runtime.block_on(run(command));
    // A connection to RocketMQ may still wait for an answer. Nothing depends on that, so the process ends without it.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        output::end_of_writing(&error).unwrap_or_else(|| {
            output::aside(format_args!("error: {}", in_words(&error)));
            let configuration =
                error.is::<ConfigError>() || error.is::<RuleError>() || error.is::<Ambiguous>();
            ExitCode::from(if configuration { USAGE } else { FAILED })
        })
    })
}

/// Prints help and version to standard output, and errors about the arguments to standard error.
fn show_answer(answer: &clap::Error) -> ExitCode {
    let shown = answer.print().and_then(|()| output::Stdout.flush());
    match shown {
        Err(error) if !answer.use_stderr() => {
            output::end_of_writing(&output::stdout_error(error).into()).unwrap_or(ExitCode::from(FAILED))
        }
        _ if answer.use_stderr() => ExitCode::from(USAGE),
        _ => ExitCode::SUCCESS,
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments).await,
        #[cfg(feature = "embedded")]
        Command::Dev(arguments) => dev::run(arguments).await,
        Command::Check(arguments) => check::run(arguments).await,
        Command::Explain(arguments) => explain::run(arguments).await,
        Command::History(arguments) => history::run(arguments).await,
        Command::Replay(arguments) => replay::run(arguments).await,
        Command::Search(arguments) => found::search(arguments).await,
        Command::Rooms(arguments) => found::rooms(arguments).await,
        Command::Lessons(arguments) => found::lessons(arguments).await,
        Command::Export(arguments) => export::run(arguments).await,
        Command::Archive(arguments) => archive::run(arguments).await,
        Command::Spool(arguments) => spool::run(arguments).await,
        Command::DeadLetter(arguments) => deadletter::run(arguments).await,
        Command::Notice(arguments) => notice::run(arguments).await,
        Command::Lesson(arguments) => lesson::run(arguments).await,
        Command::Token(arguments) => token::run(arguments),
        Command::Lag(arguments) => lag::run(arguments).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "roombridge", &mut script);
            output::Stdout.write_all(&script)?;
            output::Stdout.flush()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Adds the name of the file to an error of the bindings, which are compiled after the file was read and do not know it.
fn in_file(error: anyhow::Error, file: &Path) -> anyhow::Error {
    if error.is::<RuleError>() { error.context(file.display().to_string()) } else { error }
}

/// The text of an error with its causes. A cause that the text holds already is not repeated.
fn in_words(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    causes.fold(String::new(), |mut words, cause| {
        if !words.contains(&cause) {
            words.push_str(if words.is_empty() { "" } else { ": " });
            words.push_str(&cause);
        }
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_cause_once() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let words = missing.to_string();
        let path = std::path::PathBuf::from("a.toml");
        let holds_its_cause = ConfigError::Unreadable { path, source: missing };
        let said = in_words(&anyhow::Error::from(holds_its_cause).context("the start failed"));
        assert_eq!(said.matches(&words).count(), 1, "{said}");
        assert!(said.starts_with("the start failed: cannot read"), "{said}");
    }
}
