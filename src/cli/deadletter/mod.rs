//! `roombridge deadletter`: shows, sends again or throws away messages that could not be stored where they belong.

mod letters;
mod purge;
mod resend;
mod resend_command;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::output::{Stdout, aside};
use super::target::TargetArgs;
use super::times::local_zone;
use super::{FAILED, in_words, output};
use crate::archive::{LetterRecord, LetterSummary, visible};
use letters::Sources;

const EXAMPLES: &str = "\
Examples:
  roombridge deadletter list -c config/roombridge.toml
  roombridge deadletter show 0123456789abcdef-1f
  roombridge deadletter resend --all                  after the cause is gone
  roombridge deadletter purge 0123456789abcdef-1f

Dead letters lie in the RocketMQ topic of [dead_letter]. Those that RocketMQ did not take lie in the local store in
data_dir. All commands work while the bridge runs.

JSON fields: id, place (local or rocketmq; then broker, queue_id, queue_offset), reason, detail, mqtt_topic,
rocketmq_topic, arrived_at, qos, payload_bytes; `show` adds user_properties and payload or payload_base64.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DeadLetterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all dead letters, oldest first, and where each lies.
    List(ListArgs),
    /// Show one dead letter with its payload.
    Show(ShowArgs),
    /// Send dead letters again, with their ids, to where the bindings of today put them.
    ///
    /// When RocketMQ has stored the message, the letter leaves the local store. RocketMQ deletes no single message, so
    /// letters there stay in the list until its retention ends. If you send one twice, readers show the message once,
    /// because they fold copies by id. The command goes on to the last letter even if nobody reads its output any more.
    Resend(resend_command::ResendArgs),
    /// Delete dead letters of the local store. Those in RocketMQ stay until its retention ends.
    Purge(purge::PurgeArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    /// List the local store only, and do not ask RocketMQ.
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The id that `list` shows.
    id: String,
    /// Print one JSON object for each place where it lies.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

// No doc comment: clap would show it as the description of each command that flattens this in.
#[derive(Debug, Args)]
struct ChosenLetters {
    /// The ids that `list` shows.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

impl ChosenLetters {
    fn has(&self, id: &str) -> bool {
        self.all || self.ids.iter().any(|chosen| chosen == id)
    }
}

pub(crate) async fn run(arguments: DeadLetterArgs) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::List(arguments) => list(arguments).await,
        Command::Show(arguments) => show(arguments).await,
        Command::Resend(arguments) => resend_command::run(arguments).await,
        Command::Purge(arguments) => purge::run(&arguments),
    }
}

async fn list(arguments: ListArgs) -> anyhow::Result<ExitCode> {
    let sources = Sources::open(&arguments.target, !arguments.local).await?;
    let mut listed = Vec::new();
    let ended = gather(&sources, &mut listed).await;
    listed.sort_by_key(|summary| summary.arrived_ms);
    let (mut out, zone) = (Stdout, local_zone());
    match (arguments.json, listed.is_empty()) {
        (true, _) => {}
        (false, true) if ended.is_err() => {}
        (false, true) => writeln!(out, "no dead letters")?,
        (false, false) => writeln!(out, "{}", LetterSummary::HEADING)?,
    }
    for summary in &listed {
        summary.write(&mut out, arguments.json, &zone)?;
    }
    out.flush()?;
    // The error comes last, because the letters of the local store are of use even while RocketMQ is away.
    ended.context("the list is not complete")?;
    Ok(ExitCode::SUCCESS)
}

/// Collects the letters without their payloads, which may be large.
async fn gather(sources: &Sources, listed: &mut Vec<LetterSummary>) -> anyhow::Result<()> {
    let mut letters = sources.letters();
    while let Some(found) = letters.next().await? {
        listed.push(LetterSummary::of(&found.letter, found.place));
    }
    Ok(())
}

async fn show(arguments: ShowArgs) -> anyhow::Result<ExitCode> {
    let sources = Sources::open(&arguments.target, true).await?;
    let mut shown = 0;
    let ended = write_all_of(&sources, &arguments, &mut shown).await;
    match ended {
        Err(error) if shown == 0 => Err(error),
        Ok(()) if shown == 0 => {
            aside(format_args!("no dead letter {}", visible(&arguments.id)));
            Ok(ExitCode::from(FAILED))
        }
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            aside(format_args!("it may lie in RocketMQ, too, which cannot be read: {}", in_words(&error)));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn write_all_of(sources: &Sources, arguments: &ShowArgs, shown: &mut u64) -> anyhow::Result<()> {
    let zone = local_zone();
    let mut letters = sources.letters();
    while let Some(found) = letters.next().await? {
        if found.letter.id == arguments.id {
            LetterRecord::of(&found.letter, found.place).write(&mut Stdout, arguments.json, &zone)?;
            *shown += 1;
        }
    }
    Ok(())
}
