//! `roombridge archive verify`: proves that no byte of the archive was changed and that nothing is missing between its pieces.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Piece, archive_of, are_of_one_place, open_existing};
use crate::archiver::books_of;
use crate::cli::FAILED;
use crate::cli::output::{Report, progress_bar};
use crate::cli::target::TargetArgs;

const BAR: &str = "reading  {bar:40} {bytes} of {total_bytes}  {eta}";

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Print one JSON object: pieces, bytes, lines, left_out, erased, lost, problems.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    pieces: u64,
    bytes: u64,
    lines: u64,
    left_out: u64,
    erased: u64,
    lost: u64,
    /// Each a sentence.
    problems: Vec<String>,
}

pub(super) async fn run(arguments: VerifyArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.on_disk()?;
    let store = open_existing(archive_of(&target.config)?)?;
    let listed = store.all_pieces().await?;
    let bar = progress_bar(BAR);
    bar.set_length(listed.iter().map(|piece| piece.bytes).sum());
    let mut summary = Summary::default();
    let mut whole = Vec::new();
    for piece in listed {
        bar.inc(piece.bytes);
        let directory = match store.verify(&piece.key).await {
            Ok(directory) => directory,
            Err(error) => {
                summary.problems.push(error.to_string());
                continue;
            }
        };
        if directory.place() != piece.key.place || directory.from != piece.key.from {
            summary.problems.push(format!("{} holds another range than its name says", piece.key));
            continue;
        }
        whole.push((piece, directory));
    }
    for pieces in whole.chunk_by(are_of_one_place) {
        add(&mut summary, pieces);
    }
    bar.finish_and_clear();
    tell(&summary, arguments.json)
}

fn add(summary: &mut Summary, pieces: &[Piece]) {
    let Some((piece, _)) = pieces.first() else { return };
    let books = books_of(piece.key.place.clone(), pieces);
    let of = format!(
        "topic {}, queue {}, generation {}",
        books.place.topic, books.place.queue, books.place.generation
    );
    for (from, to) in &books.gaps {
        summary.problems.push(format!("{of}: no piece has the offsets from {from} up to {to}"));
    }
    for (from, to) in &books.overlaps {
        summary
            .problems
            .push(format!("{of}: two pieces have the offsets from {from} up to {to}; the first one counts"));
    }
    summary.pieces += books.pieces;
    summary.bytes += books.bytes;
    summary.lines += books.lines;
    summary.left_out += books.skipped;
    summary.erased += books.erased;
    summary.lost += books.lost.iter().map(|lost| lost.to - lost.from).sum::<u64>();
}

fn tell(summary: &Summary, json: bool) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    if json {
        report.line(serde_json::to_string(summary)?);
    } else {
        for problem in &summary.problems {
            report.line(problem);
        }
        report.line(format_args!(
            "{} pieces, {} bytes: {} lines, {} left out, {} erased, {} lost",
            summary.pieces, summary.bytes, summary.lines, summary.left_out, summary.erased, summary.lost
        ));
        let verdict = match summary.problems.len() {
            0 => "every byte is as it was written, and the books balance".to_owned(),
            count => format!("{count} problems"),
        };
        report.line(verdict);
    }
    report.end(if summary.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
