//! `roombridge archive`: copies what RocketMQ holds into the archive, and shows and proves what the archive has.

mod merge;
mod rebuild;
mod status;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::output::{Report, aside};
use super::target::{Target, TargetArgs};
use super::{FAILED, in_file, start_log};
use crate::app::{archived_topics, archiver, indexer_parts};
use crate::archiver::{self, effective, overlaps};
use crate::config::{ArchiveConfig, Config, ProcessEnvironment};
use crate::indexer;
use crate::lifecycle::Lifecycle;
use crate::piece::{Directory, Place};
use crate::piece_store::{Listed, PieceStore, StoreError};
use crate::rocketmq::RocketMqReader;
use crate::service_manager;
use crate::telemetry::{Metrics, Readiness};

const EXAMPLES: &str = "\
Examples:
  roombridge archive status                 what the archive has of each queue, and what RocketMQ has beyond it
  roombridge archive flush                  copy now what RocketMQ has, and do not wait for the hour
  roombridge archive verify                 read every piece and prove that nothing is missing or changed
  roombridge archive merge                  join the pieces of each day that is over into one, and do not wait for the bridge
  roombridge archive files | xargs zstdcat  every archived message as one line of JSON
  roombridge archive rebuild-index          make the index anew, from archive and RocketMQ
  roombridge archive run -c config/roombridge.toml    archive in a process of its own

A bridge with archive.dir, and `roombridge dev`, archive by themselves. Several archivers may work on one folder: one of
them writes each piece.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ArchiveArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Archive until a signal comes, in a process of its own beside a bridge without archive.dir.
    Run(RunArgs),
    /// Copy now what RocketMQ has and the archive has not.
    Flush(FlushArgs),
    /// Join the pieces of each day that is over, and remove what was joined more than an hour ago. A running archiver does both
    /// by itself.
    Merge(merge::MergeArgs),
    /// Show for each queue what the archive has, what it left out, what was lost, and how far RocketMQ is ahead.
    Status(status::StatusArgs),
    /// Read every piece, compare every checksum, and add up the books of each queue. Ends with 1 if anything is wrong.
    Verify(verify::VerifyArgs),
    /// Print the files that count, in order: what was merged or written twice stands there once.
    Files(FilesArgs),
    /// Remove the index and make it anew. Stop the bridge, or `archive run`, that writes it; everything can be read meanwhile.
    RebuildIndex(rebuild::RebuildArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration file; it must set archive.dir.
    #[arg(long, short, env = "ROOMBRIDGE_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct FlushArgs {
    /// Print one JSON object: pieces, bytes, lines, left_out, lost, withheld (messages that RocketMQ hands out to nobody).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Args)]
struct FilesArgs {
    /// Only of this RocketMQ topic.
    #[arg(long)]
    topic: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn run(arguments: ArchiveArgs) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Run(arguments) => run_archiver(arguments).await,
        Command::Flush(arguments) => flush(arguments).await,
        Command::Merge(arguments) => merge::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Verify(arguments) => verify::run(arguments).await,
        Command::Files(arguments) => files(arguments).await,
        Command::RebuildIndex(arguments) => rebuild::run(arguments).await,
    }
}

async fn run_archiver(arguments: RunArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config, &ProcessEnvironment)?;
    start_log(&config.log)?;
    let lifecycle = Lifecycle::new(config.shutdown.drain);
    lifecycle.listen_for_signals()?;
    let target = Target { config };
    let archiver = make_archiver(&target).map_err(|error| in_file(error, &arguments.config))?;
    let metrics = Arc::new(Metrics::new(&[]).context("could not set the metrics up")?);
    let reader = Arc::new(target.reader()?);
    if let Some(parts) = indexer_parts(&target.config, Arc::new(target.rules()?), reader)? {
        let indexing = indexer::run(parts, metrics.clone(), lifecycle.drain.clone());
        lifecycle.spawn("the indexer", indexing);
    }
    // It has no loop that moves messages, so the process answers for itself.
    let (_, stop_notice) = service_manager::tell_ready(&lifecycle, target.config.shutdown.drain);
    // Nobody asks this process whether it is ready; the log says the same.
    let told = (metrics, Arc::new(Readiness::default()));
    archiver::run(archiver, told, lifecycle.drain.clone(), lifecycle.stop_now.clone()).await;
    stop_notice.said().await;
    Ok(ExitCode::SUCCESS)
}

fn make_archiver(target: &Target) -> anyhow::Result<archiver::Archiver> {
    let archive = archive_of(&target.config)?;
    let topics = archived_topics(&target.config, &target.rules()?);
    let reader: RocketMqReader = target.reader()?;
    Ok(archiver(&target.config, archive, topics, Arc::new(reader))?)
}

async fn flush(arguments: FlushArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let mut archiver = make_archiver(&target)?;
    let (round, failed) = archiver.round(true).await;
    let mut report = Report::default();
    if arguments.json {
        report.line(serde_json::to_string(&round)?);
    } else {
        report.line(format_args!("{} messages archived in {} pieces", round.lines, round.pieces));
        for (kind, count) in &round.left_out {
            report.line(format_args!("{count} messages of kind {kind} left out"));
        }
        for (cause, count) in &round.lost {
            report.line(format_args!("{count} messages were gone already ({cause})"));
        }
        if let Some(count @ 1..) = round.withheld {
            report.line(format_args!(
                "{count} messages not archived, because RocketMQ hands them out to nobody; `roombridge archive status` says where"
            ));
        }
    }
    let code = if failed.is_some() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
    match failed {
        Some(error) => Err(error.into()),
        None => report.end(code),
    }
}

async fn files(arguments: FilesArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.on_disk()?;
    let archive = archive_of(&target.config)?;
    let store = open_existing(archive)?;
    let mut report = Report::default();
    let pieces = pieces(&store, arguments.topic.as_deref()).await?;
    if let (Some(topic), true) = (&arguments.topic, pieces.is_empty()) {
        aside(format_args!("the archive has no piece of topic {topic}"));
    }
    for pieces in pieces.chunk_by(are_of_one_place) {
        let mut before = None;
        if let Some((piece, _)) = pieces.first() {
            tell_overlaps(&piece.key.place, pieces);
        }
        for part in effective(pieces) {
            if before.replace(&part.piece.key) != Some(&part.piece.key) {
                report.line(store.address(&part.piece.key));
            }
        }
    }
    report.end(ExitCode::SUCCESS)
}

fn archive_of(config: &Config) -> anyhow::Result<&ArchiveConfig> {
    match &config.archive {
        Some(archive) => Ok(archive),
        None => bail!("there is no archive: set archive.dir in the configuration"),
    }
}

/// A folder that is missing is a mistake, and is not made.
fn open_existing(archive: &ArchiveConfig) -> anyhow::Result<PieceStore> {
    if archive.bucket.is_none() && !archive.dir.is_dir() {
        bail!(
            "there is no archive in {}: nothing was archived yet, or archive.dir is wrong",
            archive.dir.display()
        );
    }
    Ok(PieceStore::open(archive)?)
}

type Piece = (Listed, Directory);

/// So often the store is listed again, because a piece was removed since.
const LIST_AGAIN: u32 = 5;

/// Programs that read whole files would see these lines twice.
fn tell_overlaps(of: &Place, pieces: &[Piece]) {
    for (from, to) in overlaps(&effective(pieces)) {
        aside(format_args!(
            "two of these files have the offsets {from} to {to} of {}; those of the first count",
            of_queue(of)
        ));
    }
}

/// In words.
fn of_queue(place: &Place) -> String {
    format!("topic {}, queue {}, generation {}", place.topic, place.queue, place.generation)
}

/// All pieces with their directories; those of one queue and generation stand together, see [`are_of_one_place`].
async fn pieces(store: &PieceStore, only_topic: Option<&str>) -> Result<Vec<Piece>, StoreError> {
    let mut attempts = 0;
    loop {
        let listed = match only_topic {
            Some(topic) => store.pieces(topic).await?,
            None => store.all_pieces().await?,
        };
        match store.directories(listed).await {
            // An archiver removed what it had joined since it was listed.
            Err(StoreError::Missing { .. }) if attempts < LIST_AGAIN => attempts += 1,
            done => return done,
        }
    }
}

fn are_of_one_place((one, _): &Piece, (other, _): &Piece) -> bool {
    one.key.place == other.key.place
}
