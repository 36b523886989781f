//! `roombridge deadletter resend`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::letters::{FoundLetter, Sources};
use super::output::{Report, aside};
use super::resend::{Resender, Resent};
use super::{ChosenLetters, FAILED, TargetArgs};
use crate::archive::visible;

#[derive(Debug, Args)]
pub(crate) struct ResendArgs {
    #[command(flatten)]
    chosen: ChosenLetters,
    /// Print one JSON object for each letter: id, stored (true or false), and topic or reason.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Default)]
struct ResendCounts {
    stored: BTreeSet<String>,
    still_dead: BTreeSet<String>,
}

impl ResendCounts {
    fn has_all(&self, chosen: &ChosenLetters) -> bool {
        !chosen.all && chosen.ids.iter().all(|id| self.stored.contains(id))
    }
}

pub(crate) async fn run(arguments: ResendArgs) -> anyhow::Result<ExitCode> {
    let sources = Sources::open_both(&arguments.target).await?;
    let mut counts = ResendCounts::default();
    let mut report = Report::default();
    let ended = resend_chosen(&sources, &arguments, &mut counts, &mut report).await;
    if !arguments.json {
        aside(format_args!("{} sent again, {} still dead", counts.stored.len(), counts.still_dead.len()));
    }
    ended?;
    let mut failed = !counts.still_dead.is_empty();
    for id in &arguments.chosen.ids {
        if !counts.stored.contains(id) && !counts.still_dead.contains(id) {
            aside(format_args!("no dead letter {}", visible(id)));
            failed = true;
        }
    }
    report.end(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

async fn resend_chosen(
    sources: &Sources,
    arguments: &ResendArgs,
    counts: &mut ResendCounts,
    report: &mut Report,
) -> anyhow::Result<()> {
    let resender = Resender::new(&sources.config, sources.rocketmq()?)?;
    let mut letters = sources.letters();
    while let Some(found) = match letters.next_local()? {
        Some(found) => Some(found),
        // All chosen letters were found and sent, so RocketMQ need not be searched.
        None if counts.has_all(&arguments.chosen) => None,
        None => letters.next_in_rocketmq().await?,
    } {
        let id = &found.letter.id;
        if !arguments.chosen.has(id) {
            continue;
        }
        if !counts.stored.contains(id) {
            match resend_one(&resender, &found).await? {
                Resent::Stored(topic) => {
                    report.line(outcome_line(arguments.json, id, Ok(&topic)));
                    counts.still_dead.remove(id);
                    counts.stored.insert(id.clone());
                }
                Resent::StillDead(reason) => {
                    report.line(outcome_line(arguments.json, id, Err(&reason)));
                    counts.still_dead.insert(id.clone());
                    continue;
                }
            }
        }
        // Removed only now: after a crash before this line the letter is sent again, with the same id.
        if let (Some(local), Some(number)) = (sources.local(), found.local_number) {
            local.remove(&[number])?;
        }
    }
    Ok(())
}

async fn resend_one(resender: &Resender, found: &FoundLetter) -> anyhow::Result<Resent> {
    if found.damaged {
        return Ok(Resent::StillDead("its payload is damaged on the disk".to_owned()));
    }
    resender.resend(&found.letter).await
}

fn outcome_line(json: bool, id: &str, ended: Result<&str, &str>) -> String {
    match (json, ended) {
        (true, Ok(topic)) => json!({"id": id, "stored": true, "topic": topic}).to_string(),
        (true, Err(reason)) => json!({"id": id, "stored": false, "reason": reason}).to_string(),
        (false, Ok(topic)) => format!("{}  stored in {topic}", visible(id)),
        (false, Err(reason)) => format!("{}  still dead: {}", visible(id), visible(reason)),
    }
}
