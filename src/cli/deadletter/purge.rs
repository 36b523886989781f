//! `roombridge deadletter purge`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::letters::local_store;
use super::output::{Report, aside};
use super::{ChosenLetters, FAILED, TargetArgs};
use crate::archive::visible;
use crate::spool::{LocalDeadLetters, SpoolError};

#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    chosen: ChosenLetters,
    /// Print one JSON object: purged (a number), not_found (ids).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) fn run(arguments: &PurgeArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.target.on_disk()?.config;
    let (mut purged, mut not_found) = (0, Vec::new());
    match local_store(&config)? {
        Some(local) if arguments.chosen.all => purged = local.purge(None)?,
        Some(local) => {
            for id in &arguments.chosen.ids {
                match purge_one(&local, id)? {
                    0 => not_found.push(id.as_str()),
                    count => purged += count,
                }
            }
        }
        None => not_found.extend(arguments.chosen.ids.iter().map(String::as_str)),
    }
    let mut report = Report::default();
    if arguments.json {
        report.line(json!({"purged": purged, "not_found": not_found}));
    } else {
        report.line(format_args!("{purged} purged"));
        for id in &not_found {
            aside(format_args!(
                "{} is not in the local store; what lies in RocketMQ leaves with its retention",
                visible(id)
            ));
        }
    }
    report.end(if not_found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Removes all letters of this id: a message that became a dead letter twice has two.
fn purge_one(local: &LocalDeadLetters, id: &str) -> Result<u64, SpoolError> {
    let mut purged = 0;
    while let Some(stored) = local.get(id)? {
        match local.remove(&[stored.number])? {
            0 => break,
            count => purged += count,
        }
    }
    Ok(purged)
}
