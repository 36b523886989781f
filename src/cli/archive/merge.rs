//! `roombridge archive merge`: joins the pieces of each day that is over, now.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::{archive_of, open_existing};
use crate::archiver::{Merged, Merger};
use crate::cli::output::{Report, progress_bar};
use crate::cli::target::TargetArgs;
use crate::model::SystemClock;

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// Print one JSON object: written, replaced, removed.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub(super) async fn run(arguments: MergeArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.on_disk()?;
    let store = open_existing(archive_of(&target.config)?)?;
    let mut merger = Merger::new(store, Arc::new(SystemClock::default()));
    let bar = progress_bar("merging  {msg}");
    let (mut merged, mut failed) = (Merged::default(), None);
    while merger.is_due() {
        match merger.step().await {
            Ok(done) => merged.add(done),
            // The other days have their turn all the same.
            Err(error) => _ = failed.get_or_insert(error),
        }
        bar.set_message(format!("{} pieces written, {} removed", merged.written, merged.removed));
        bar.tick();
    }
    bar.finish_and_clear();
    let mut report = Report::default();
    if arguments.json {
        report.line(serde_json::to_string(&merged)?);
    } else {
        let Merged { written, replaced, removed } = merged;
        report.line(format_args!(
            "{written} pieces written in the place of {replaced}, {removed} replaced ones removed"
        ));
    }
    match failed {
        Some(error) => Err(error.into()),
        None => report.end(ExitCode::SUCCESS),
    }
}
