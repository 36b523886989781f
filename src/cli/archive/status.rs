//! `roombridge archive status`: what the archive has of each queue, and how far RocketMQ is ahead.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{archive_of, are_of_one_place, open_existing, pieces};
use crate::archiver::{PlaceBooks, books_of};
use crate::cli::output::{Report, aside};
use crate::cli::target::{Target, TargetArgs};
use crate::pipeline::ports::Reader;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print one JSON object for each queue: topic, broker, queue_id, generation, from, to, lines, left_out, erased, lost,
    /// pieces, bytes, behind (null if RocketMQ does not say).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Serialize)]
struct Row {
    topic: String,
    broker: String,
    queue_id: i32,
    generation: u32,
    from: u64,
    to: u64,
    lines: u64,
    left_out: u64,
    erased: u64,
    lost: u64,
    pieces: u64,
    bytes: u64,
    /// Messages that RocketMQ has and the archive has not; `None`: RocketMQ does not say.
    behind: Option<u64>,
}

pub(super) async fn run(arguments: StatusArgs) -> anyhow::Result<ExitCode> {
    let target = match arguments.target.find().await {
        Ok(target) => target,
        // The archive is read without RocketMQ, too.
        Err(_) => arguments.target.on_disk()?,
    };
    let store = open_existing(archive_of(&target.config)?)?;
    let mut rows = Vec::new();
    let pieces = pieces(&store, None).await?;
    let mut places = pieces.chunk_by(are_of_one_place).peekable();
    while let Some(pieces) = places.next() {
        let Some((piece, _)) = pieces.first() else { continue };
        let place = &piece.key.place;
        let next = places.peek().and_then(|next| next.first()).map(|(next, _)| &next.key.place);
        let is_newest = next.is_none_or(|next| (&next.topic, &next.queue) != (&place.topic, &place.queue));
        let books = books_of(place.clone(), pieces);
        let behind = if is_newest { behind(&target, &books).await } else { Some(0) };
        rows.push(row(&books, behind));
    }
    let mut report = Report::default();
    if !arguments.json {
        report.line(format_args!(
            "{:<24} {:<20} {:>4} {:>12} {:>12} {:>10} {:>9} {:>9} {:>7} {:>12}",
            "TOPIC", "QUEUE", "GEN", "UP TO", "LINES", "LEFT OUT", "LOST", "BEHIND", "PIECES", "BYTES"
        ));
    }
    for row in &rows {
        if arguments.json {
            report.line(serde_json::to_string(row)?);
        } else {
            let behind = row.behind.map_or_else(|| "?".to_owned(), |behind| behind.to_string());
            let queue = format!("{}/{}", row.broker, row.queue_id);
            report.line(format_args!(
                "{:<24} {queue:<20} {:>4} {:>12} {:>12} {:>10} {:>9} {behind:>9} {:>7} {:>12}",
                row.topic, row.generation, row.to, row.lines, row.left_out, row.lost, row.pieces, row.bytes
            ));
        }
    }
    if rows.is_empty() {
        aside(
            "nothing is archived yet: a piece is written after archive.cut_every_s, or now by `roombridge archive flush`",
        );
    }
    if rows.iter().any(|row| row.behind.is_none()) {
        aside("RocketMQ does not answer, so it is not known how far the archive is behind");
    }
    report.end(ExitCode::SUCCESS)
}

async fn behind(target: &Target, books: &PlaceBooks) -> Option<u64> {
    let reader = target.reader().ok()?;
    let (_, end) = reader.offsets(&books.place.topic, &books.place.queue).await.ok()?;
    Some(end.saturating_sub(books.to))
}

fn row(books: &PlaceBooks, behind: Option<u64>) -> Row {
    Row {
        topic: books.place.topic.clone(),
        broker: books.place.queue.broker.to_string(),
        queue_id: books.place.queue.id,
        generation: books.place.generation,
        from: books.from,
        to: books.to,
        lines: books.lines,
        left_out: books.skipped,
        erased: books.erased,
        lost: books.lost.iter().map(|lost| lost.to - lost.from).sum(),
        pieces: books.pieces,
        bytes: books.bytes,
        behind,
    }
}
