//! `roombridge archive status`: what the archive has of each queue, and how far RocketMQ is ahead.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{archive_of, are_of_one_place, open_existing, pieces};
use crate::app::archived_topics;
use crate::archiver::{PlaceBooks, exact_books};
use crate::cli::output::{Report, aside};
use crate::cli::target::{Target, TargetArgs};
use crate::model::{FailureKind, QueueName};
use crate::pipeline::ports::{ReadError, Reader};
use crate::rocketmq::RocketMqReader;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print one JSON object for each queue: topic, broker, queue_id, generation, from, to, lines, left_out, erased, lost,
    /// pieces, bytes, behind (null if RocketMQ does not say), handed_out (false: RocketMQ gives what is behind to nobody). A queue without a piece has null for generation, from and to.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Default, Serialize)]
struct Row {
    topic: String,
    broker: String,
    queue_id: i32,
    generation: Option<u32>,
    from: Option<u64>,
    to: Option<u64>,
    lines: u64,
    left_out: u64,
    erased: u64,
    lost: u64,
    pieces: u64,
    bytes: u64,
    /// Messages that RocketMQ has and the archive has not; `None`: RocketMQ does not say.
    behind: Option<u64>,
    /// Whether anybody may read the queue in RocketMQ.
    handed_out: bool,
}

pub(super) async fn run(arguments: StatusArgs) -> anyhow::Result<ExitCode> {
    let target = match arguments.target.find().await {
        Ok(target) => target,
        // The archive is read without RocketMQ, too.
        Err(_) => arguments.target.on_disk()?,
    };
    let store = open_existing(archive_of(&target.config)?)?;
    let reader = target.reader()?;
    let mut rows = Vec::new();
    let pieces = pieces(&store, None).await?;
    let mut places = pieces.chunk_by(are_of_one_place).peekable();
    while let Some(pieces) = places.next() {
        let Some((piece, _)) = pieces.first() else { continue };
        let place = &piece.key.place;
        let next = places.peek().and_then(|next| next.first()).map(|(next, _)| &next.key.place);
        let is_newest = next.is_none_or(|next| (&next.topic, &next.queue) != (&place.topic, &place.queue));
        let books = exact_books(&store, place.clone(), pieces).await?;
        let behind = if is_newest { behind(&reader, &books).await } else { Some(0) };
        rows.push(row(&books, behind));
    }
    let is_silent = add_without_pieces(&target, &reader, &mut rows).await?;
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
                row.topic,
                or_dash(row.generation),
                or_dash(row.to),
                row.lines,
                row.left_out,
                row.lost,
                row.pieces,
                row.bytes
            ));
        }
    }
    if rows.iter().all(|row| row.pieces == 0) {
        aside(
            "nothing is archived yet: a piece is written after archive.cut_every_s, or now by `roombridge archive flush`",
        );
    }
    let withheld = rows.iter().filter(|row| !row.handed_out && row.behind != Some(0));
    for Row { topic, broker, queue_id, .. } in withheld {
        aside(format_args!(
            "what is behind of topic {topic}, queue {broker}/{queue_id} RocketMQ hands out to nobody: the topic has fewer read queues than \
             before (mqadmin updateTopic -r), or may not be read (brokerPermission, mqadmin updateTopicPerm)"
        ));
    }
    if is_silent || rows.iter().any(|row| row.behind.is_none()) {
        aside(
            "RocketMQ does not answer for all of it, so it is not known how far the archive is behind, or which queues have no piece yet",
        );
    }
    report.end(ExitCode::SUCCESS)
}

async fn behind(reader: &RocketMqReader, books: &PlaceBooks) -> Option<u64> {
    let (_, end) = reader.offsets(&books.place.topic, &books.place.queue).await.ok()?;
    Some(end.saturating_sub(books.to))
}

/// Adds the queues that are to be archived and have no piece yet. True: RocketMQ does not say which they are.
async fn add_without_pieces(
    target: &Target,
    reader: &RocketMqReader,
    rows: &mut Vec<Row>,
) -> anyhow::Result<bool> {
    let mut is_silent = false;
    for topic in archived_topics(&target.config, &target.rules()?) {
        // What RocketMQ hands out to nobody waits, too.
        let asked =
            async { Ok::<_, ReadError>((reader.queues(&topic).await?, reader.withheld(&topic).await?)) };
        let (mut queues, withheld) = match asked.await {
            Ok(found) => found,
            Err(error) if error.kind == FailureKind::TopicMissing => continue,
            Err(_) => {
                is_silent = true;
                continue;
            }
        };
        let withheld = BTreeSet::from_iter(withheld.into_iter().map(|withheld| withheld.queue));
        queues.extend(withheld.iter().cloned());
        for queue in queues {
            let handed_out = !withheld.contains(&queue);
            let QueueName { broker, id } = queue;
            let is_it = |row: &&mut Row| row.topic == topic && *row.broker == *broker && row.queue_id == id;
            // Of several generations the last one.
            if let Some(row) = rows.iter_mut().filter(is_it).last() {
                row.handed_out = handed_out;
                continue;
            }
            let offsets = reader.offsets(&topic, &QueueName { broker: broker.clone(), id }).await.ok();
            let waiting = offsets.map(|(first, end)| end.saturating_sub(first));
            rows.push(Row {
                topic: topic.clone(),
                broker: broker.to_string(),
                queue_id: id,
                behind: waiting,
                handed_out,
                ..Row::default()
            });
        }
    }
    Ok(is_silent)
}

fn or_dash<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn row(books: &PlaceBooks, behind: Option<u64>) -> Row {
    Row {
        topic: books.place.topic.clone(),
        broker: books.place.queue.broker.to_string(),
        queue_id: books.place.queue.id,
        generation: Some(books.place.generation),
        from: Some(books.from),
        to: Some(books.to),
        lines: books.lines,
        left_out: books.skipped,
        erased: books.erased,
        lost: books.lost.iter().map(|lost| lost.to - lost.from).sum(),
        pieces: books.pieces,
        bytes: books.bytes,
        behind,
        handed_out: true,
    }
}
