//! `roombridge archive verify`: proves that no byte of the archive was changed and that nothing is missing between its pieces.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{LIST_AGAIN, Piece, archive_of, are_of_one_place, of_queue, open_existing};
use crate::archiver::exact_books;
use crate::cli::FAILED;
use crate::cli::output::{Report, progress_bar};
use crate::cli::target::TargetArgs;
use crate::piece::Directory;
use crate::piece_store::{Listed, PieceStore, StoreError};

const BAR: &str = "reading  {bar:40} {bytes} of {total_bytes}  {eta}";

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Print one JSON object: pieces, bytes, lines, left_out, erased, lost, problems, overlaps.
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
    /// Sentences, too: what an archiver that stood still wrote twice. Nothing is wrong with it, and a merge removes it.
    overlaps: Vec<String>,
}

pub(super) async fn run(arguments: VerifyArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.on_disk()?;
    let store = open_existing(archive_of(&target.config)?)?;
    let bar = progress_bar(BAR);
    let mut summary = Summary::default();
    let whole = read_all(&store, &mut summary, &bar).await?;
    for pieces in whole.chunk_by(are_of_one_place) {
        add(&store, &mut summary, pieces).await?;
    }
    bar.finish_and_clear();
    tell(&summary, arguments.json)
}

/// Those that are as their names say; the others are problems.
async fn read_all(
    store: &PieceStore,
    summary: &mut Summary,
    bar: &ProgressBar,
) -> Result<Vec<Piece>, StoreError> {
    let mut read: BTreeMap<Listed, Directory> = BTreeMap::new();
    let mut attempts = 0;
    'listing: loop {
        let listed = store.all_pieces().await?;
        bar.set_length(listed.iter().map(|piece| piece.bytes).sum());
        // Those that an archiver has joined and removed meanwhile.
        read.retain(|piece, _| listed.binary_search(piece).is_ok());
        summary.problems.clear();
        for piece in listed.into_iter().filter(|piece| !read.contains_key(piece)).collect::<Vec<_>>() {
            bar.inc(piece.bytes);
            match store.verify(&piece.key).await {
                Ok(directory) if directory.place() == piece.key.place && directory.from == piece.key.from => {
                    read.insert(piece, directory);
                }
                Ok(_) => {
                    summary.problems.push(format!("{} holds another range than its name says", piece.key));
                }
                Err(StoreError::Missing { .. }) if attempts < LIST_AGAIN => {
                    attempts += 1;
                    continue 'listing;
                }
                Err(error) => summary.problems.push(error.to_string()),
            }
        }
        return Ok(read.into_iter().collect());
    }
}

async fn add(store: &PieceStore, summary: &mut Summary, pieces: &[Piece]) -> Result<(), StoreError> {
    let Some((piece, _)) = pieces.first() else { return Ok(()) };
    let books = exact_books(store, piece.key.place.clone(), pieces).await?;
    let of = of_queue(&books.place);
    for (from, to) in &books.gaps {
        summary.problems.push(format!("{of}: no piece has the offsets from {from} up to {to}"));
    }
    for (from, to) in &books.overlaps {
        let text =
            format!("{of}: two pieces have the offsets from {from} up to {to}; the one that counts is read");
        summary.overlaps.push(text);
    }
    let lost = books.lost.iter().map(|lost| lost.to - lost.from).sum::<u64>();
    let missing: u64 = books.gaps.iter().map(|(from, to)| to - from).sum();
    if books.lines + books.skipped + books.erased + lost + missing != books.to - books.from {
        summary.problems.push(format!("{of}: lines, left out, erased and lost messages are not its range"));
    }
    summary.pieces += books.pieces;
    summary.bytes += books.bytes;
    summary.lines += books.lines;
    summary.left_out += books.skipped;
    summary.erased += books.erased;
    summary.lost += lost;
    Ok(())
}

fn tell(summary: &Summary, json: bool) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    if json {
        report.line(serde_json::to_string(summary)?);
    } else {
        for problem in &summary.problems {
            report.line(problem);
        }
        for overlap in &summary.overlaps {
            report.line(format_args!("note: {overlap}"));
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
