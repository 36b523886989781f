//! `roombridge archive rebuild-index`: makes the index anew, from archive and RocketMQ.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::{archive_of, open_existing};
use crate::app::indexer_parts;
use crate::cli::output::{Report, progress_bar};
use crate::cli::target::TargetArgs;
use crate::indexer::{Indexer, Progress};

const BAR: &str = "indexing  {bar:40} {pos} of {len}  {per_sec}  {eta}";

#[derive(Debug, Args)]
pub(super) struct RebuildArgs {
    /// Print one JSON object: rows, seconds.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Serialize)]
struct Rebuilt {
    rows: u64,
    seconds: f64,
}

pub(super) async fn run(arguments: RebuildArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    open_existing(archive_of(&target.config)?)?;
    let parts = indexer_parts(&target.config, Arc::new(target.rules()?), Arc::new(target.reader()?))?;
    let mut report = Report::default();
    let Some(parts) = parts else { return report.end(ExitCode::SUCCESS) };
    let mut indexer = Indexer::new(parts);
    let started = Instant::now();
    let bar = progress_bar(BAR);
    let mut rows = 0;
    let mut show = |progress: Progress| {
        rows = progress.rows;
        bar.set_length(progress.total);
        bar.set_position(progress.rows);
    };
    indexer.remove().await?;
    let done = indexer.round(&mut show).await;
    bar.finish_and_clear();
    done?;
    indexer.close().await;
    let rebuilt = Rebuilt { rows, seconds: started.elapsed().as_secs_f64() };
    report.line(match arguments.json {
        true => serde_json::to_string(&rebuilt)?,
        false => format!("{} messages indexed in {:.1} s", rebuilt.rows, rebuilt.seconds),
    });
    report.end(ExitCode::SUCCESS)
}
