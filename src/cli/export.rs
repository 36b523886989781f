//! `roombridge export`: writes messages into files of the user.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::INCOMPLETE;
use super::history::RangeArgs;
use super::lesson_choice::LessonArgs;
use super::missing::MissingJson;
use super::output::{Report, Stdout, aside, progress_bar};
use super::target::{Sources, Target, TargetArgs};
use super::times::moment_ms;
use crate::app::archived_topics;
use crate::archive::{HistoryError, ReadProgress, StoredMessages, withheld_of};
use crate::export::{
    AllAsked, ExportError, ExportFolder, Exported, Lines, LinesFile, Settings, export_all, export_room,
    file_stem,
};
use crate::model::QueueName;
use crate::piece::Place;
use crate::piece_store::PieceStore;

const EXAMPLES: &str = "\
Examples:
  roombridge export 123456 | jq .body                              a room, as lines of JSON
  roombridge export 123456 --lesson last --out lesson.jsonl.zst    into a file, compressed because of its name
  roombridge export --all --since 2026-11-01 --out exported/       everything; again later, and what is new is added

A line has the fields of docs/ARCHIVE.md, schema 1, and holds all that RocketMQ stored. Copies with one id are all there.
An export overwrites nothing.

With --all each run adds parts to the folder: DIR/part-000001/2026-11-20.jsonl has the lines of a day (UTC), and
manifest.json beside it says which offsets of which queue the part holds. A run that is killed leaves whole parts, and
the next one goes on behind them.

JSON fields (--json): lines, private_left_out, first_at_ms, last_at_ms, file, bytes, and where anything is missing not_handed_out,
lost, kept_from_ms, away as of `roombridge history`; with --all: parts, files, lines, bytes, left_out, absent (offsets without a
message), in_all (parts in the folder), away, not_handed_out, lost (messages that were gone before they were archived, of those
that this run came by). The exit code is 4 if anything is missing.";

const BAR: &str = "exporting  {bar:40} {percent:>3} %  {elapsed}  {eta} left";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The room, as it stands in the MQTT topic.
    #[arg(required_unless_present = "all")]
    room: Option<String>,
    /// Everything that is archived or in RocketMQ, of all rooms and of none, into a folder (--out) that grows with each run.
    #[arg(long, conflicts_with_all = ["room", "from", "to", "kind", "lesson"], requires = "out")]
    all: bool,
    /// With --all: begin the folder with what was said then; written like --from. Later runs go on where the last one ended.
    #[arg(long, value_name = "TIME", value_parser = moment_ms, requires = "all", allow_hyphen_values = true)]
    since: Option<u64>,
    /// With --all: compress the files.
    #[arg(long, requires = "all")]
    zstd: bool,
    /// A file, compressed if its name ends in .zst, or a folder. Without it, the lines go to standard output.
    #[arg(long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// For operators: also what one client alone was told (kind p2p). Nobody else in the room has seen that.
    #[arg(long)]
    private: bool,
    /// Print a summary as one JSON object.
    #[arg(long, requires = "out")]
    json: bool,
    #[command(flatten)]
    lesson: LessonArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn run(arguments: ExportArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let sources = target.sources()?;
    match (&arguments.room, &arguments.out) {
        (Some(room), _) => one_room(&arguments, &target, &sources, room).await,
        (None, Some(folder)) => everything(&arguments, &target, &sources, folder).await,
        (None, None) => bail!("name a room, or --all with a folder in --out"),
    }
}

#[derive(Serialize)]
struct RoomSummary {
    lines: u64,
    private_left_out: u64,
    first_at_ms: Option<u64>,
    last_at_ms: Option<u64>,
    file: PathBuf,
    bytes: u64,
    #[serde(flatten)]
    missing: MissingJson,
}

async fn one_room(
    arguments: &ExportArgs,
    target: &Target,
    sources: &Sources,
    room: &str,
) -> anyhow::Result<ExitCode> {
    let mut query = arguments.range.of_room(target, room)?;
    arguments.lesson.narrow(&mut query, target, sources, room, false).await?;
    // Refused before anything is read.
    let file = match &arguments.out {
        Some(out) => {
            let path = file_in(out, room);
            Some((LinesFile::create(&path)?, path))
        }
        None => None,
    };
    let mut messages = StoredMessages::of_query(sources.reader(), query).await?;
    for broker in messages.away() {
        aside(format_args!("RocketMQ broker {broker} is away: what it holds of this is missing"));
    }
    let bar = progress_bar(BAR);
    let mut show = |progress| show(&bar, progress);
    let Some((mut lines, path)) = file else {
        let mut lines = StdoutLines(BufWriter::new(Stdout));
        let exported = export_room(&mut messages, arguments.private, &mut lines, &mut show).await;
        bar.finish_and_clear();
        let exported = exported?;
        lines.0.flush()?;
        tell_private(exported.private_left_out);
        if exported.lines == 0 {
            aside(format_args!("nothing found for {room}"));
        }
        return tell_missing(&messages).await;
    };
    let exported = export_room(&mut messages, arguments.private, &mut lines, &mut show).await;
    bar.finish_and_clear();
    let Exported { lines: count, private_left_out, span_ms } = exported?;
    let bytes = lines.finish()?;
    tell_private(private_left_out);
    let mut report = Report::default();
    if arguments.json {
        let (first_at_ms, last_at_ms) = span_ms.unzip();
        let missing = MissingJson::of(&messages.missing().await?, messages.away());
        let file = path;
        let summary =
            RoomSummary { lines: count, private_left_out, first_at_ms, last_at_ms, file, bytes, missing };
        report.line(serde_json::to_string(&summary)?);
    } else {
        report.line(format_args!("{count} lines, {bytes} bytes in {}", path.display()));
    }
    report.end(tell_missing(&messages).await?)
}

/// Says what is not there any more, and the exit code that says so.
async fn tell_missing(messages: &StoredMessages<'_>) -> anyhow::Result<ExitCode> {
    let missing = messages.missing().await?;
    for missing in &missing {
        aside(missing);
    }
    let is_whole = missing.is_empty() && messages.away().next().is_none();
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// In a folder the file is named by the room.
fn file_in(out: &Path, room: &str) -> PathBuf {
    let names_a_folder = out.as_os_str().to_string_lossy().ends_with('/') || out.is_dir();
    if names_a_folder { out.join(format!("{}.jsonl", file_stem(room))) } else { out.to_owned() }
}

fn tell_private(left_out: u64) {
    if left_out > 0 {
        aside(format_args!(
            "{left_out} private lines were left out, which one client alone was told; --private takes them"
        ));
    }
}

struct StdoutLines(BufWriter<Stdout>);

impl Lines for StdoutLines {
    fn write(&mut self, line: &[u8]) -> Result<(), ExportError> {
        self.0.write_all(line).map_err(ExportError::Output)
    }
}

#[derive(Serialize)]
struct AllSummary {
    #[serde(flatten)]
    added: crate::export::Added,
    in_all: u32,
    away: BTreeSet<String>,
    not_handed_out: u64,
    lost: u64,
}

async fn everything(
    arguments: &ExportArgs,
    target: &Target,
    sources: &Sources,
    path: &Path,
) -> anyhow::Result<ExitCode> {
    let topics = topics_of(target).await?;
    let away = away(sources, &topics, arguments.range.is_partial()).await?;
    let not_handed_out = not_handed_out(sources, &topics, arguments.range.is_partial()).await?;
    let places = sources.places(&topics).await?;
    let wanted = Settings { since_ms: arguments.since, private: arguments.private };
    let mut folder = ExportFolder::open(path, wanted, arguments.zstd)?;
    if folder.parts() > 0 && arguments.since > folder.settings().since_ms {
        aside(format_args!("{} was begun earlier, and goes on where its last part ends", path.display()));
    }
    let bar = progress_bar(BAR);
    let asked = AllAsked {
        reader: sources.reader(),
        place_of: &|topic, queue| place_of(&places, topic, queue),
        topics,
        part_bytes: None,
    };
    let added = export_all(asked, &mut folder, &mut |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    let (added, in_all) = (added?, folder.parts());
    let lost = sources.tell_lost();
    let is_whole = away.is_empty() && not_handed_out == 0 && lost == 0;
    let mut report = Report::default();
    if arguments.json {
        report.line(serde_json::to_string(&AllSummary { added, in_all, away, not_handed_out, lost })?);
    } else {
        let crate::export::Added { parts, files, lines, bytes, left_out, absent } = added;
        report.line(format_args!("{lines} lines, {bytes} bytes in {files} files of {parts} new parts"));
        if left_out > 0 {
            report.line(format_args!("{left_out} messages left out: before --since, or private"));
        }
        if absent > 0 {
            report.line(format_args!("{absent} offsets without a message: left out, erased or lost before"));
        }
    }
    report.end(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// All topics that are archived, or were.
async fn topics_of(target: &Target) -> anyhow::Result<Vec<String>> {
    let mut topics = BTreeSet::from_iter(archived_topics(&target.config, &target.rules()?));
    if let Some(archive) = target.existing_archive() {
        let pieces = PieceStore::open(archive)?.all_pieces().await?;
        topics.extend(pieces.into_iter().map(|piece| piece.key.place.topic));
    }
    Ok(topics.into_iter().collect())
}

/// Brokers without which this run is not whole. The next one writes what they have.
async fn away(sources: &Sources, topics: &[String], partial: bool) -> anyhow::Result<BTreeSet<String>> {
    let mut away = BTreeSet::new();
    for topic in topics {
        away.extend(sources.reader().away(topic).await?);
    }
    for broker in &away {
        if !partial {
            bail!(
                "RocketMQ broker {broker} is away: start it; or take --partial, and a later run adds what it has"
            );
        }
        aside(format_args!("RocketMQ broker {broker} is away: a later run adds what it has"));
    }
    Ok(away)
}

/// How many messages RocketMQ has and keeps back. A later run writes them, when the topic has its queues again.
async fn not_handed_out(sources: &Sources, topics: &[String], partial: bool) -> anyhow::Result<u64> {
    let mut messages = 0;
    for topic in topics {
        for withheld in withheld_of(sources.reader(), topic).await? {
            if !partial {
                return Err(HistoryError::Withheld(withheld).into());
            }
            aside(format_args!("{withheld}; a later run adds them"));
            messages += withheld.withheld();
        }
    }
    Ok(messages)
}

fn place_of(places: &BTreeMap<(String, QueueName), Place>, topic: &str, queue: &QueueName) -> Place {
    let first = || Place { topic: topic.to_owned(), queue: queue.clone(), generation: 0 };
    places.get(&(topic.to_owned(), queue.clone())).cloned().unwrap_or_else(first)
}

fn show(bar: &ProgressBar, progress: ReadProgress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}
