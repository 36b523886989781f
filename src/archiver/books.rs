//! Which piece counts for which offsets, and whether the books of a queue balance.

use crate::piece::{Directory, Lost, Place};
use crate::piece_store::Listed;

/// A piece, and the part of its range for which it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective<'a> {
    /// The piece.
    pub piece: &'a Listed,
    /// Its directory.
    pub directory: &'a Directory,
    /// The first offset for which it counts.
    pub from: u64,
    /// The offset after the last one.
    pub to: u64,
}

/// The books of one queue of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlaceBooks {
    /// Which queue.
    pub place: Place,
    /// Files, those included that no longer count.
    pub pieces: u64,
    /// Of these files.
    pub bytes: u64,
    /// The first offset that was archived.
    pub from: u64,
    /// The offset after the last one.
    pub to: u64,
    /// Messages.
    pub lines: u64,
    /// Messages that the settings left out.
    pub skipped: u64,
    /// Messages that were erased.
    pub erased: u64,
    /// Ranges that RocketMQ no longer had.
    pub lost: Vec<Lost>,
    /// Ranges that no piece has, from the first offset to the last.
    pub gaps: Vec<(u64, u64)>,
    /// Ranges that more than one piece has.
    pub overlaps: Vec<(u64, u64)>,
}

/// Of the pieces of one place, the parts that count, in the order of their offsets: for each offset the highest version that has
/// it, then the lowest first offset. Whatever a crash, a merge or a second archiver left behind, the answer is one.
pub(crate) fn effective<'a>(pieces: &'a [(Listed, Directory)]) -> Vec<Effective<'a>> {
    let mut borders: Vec<u64> =
        pieces.iter().flat_map(|(_, directory)| [directory.from, directory.to]).collect();
    borders.sort_unstable();
    borders.dedup();
    let mut parts: Vec<Effective<'a>> = Vec::new();
    for range in borders.windows(2) {
        let [from, to] = range else { continue };
        let has = |directory: &Directory| directory.from <= *from && *to <= directory.to;
        let best = pieces
            .iter()
            .filter(|(_, directory)| has(directory))
            .min_by_key(|(piece, _)| (std::cmp::Reverse(piece.key.version), piece.key.from));
        let Some((piece, directory)) = best else { continue };
        match parts.last_mut() {
            Some(last) if last.to == *from && last.piece == piece => last.to = *to,
            Some(_) | None => parts.push(Effective { piece, directory, from: *from, to: *to }),
        }
    }
    parts
}

/// The books of one place. Of a piece that counts in part only, the lost ranges are counted and not the lines, which only a look into
/// it could tell.
pub(crate) fn books_of(place: Place, pieces: &[(Listed, Directory)]) -> PlaceBooks {
    let parts = effective(pieces);
    let mut books = PlaceBooks {
        place,
        pieces: pieces.len() as u64,
        bytes: pieces.iter().map(|(piece, _)| piece.bytes).sum(),
        from: parts.first().map_or(0, |part| part.from),
        to: parts.last().map_or(0, |part| part.to),
        lines: 0,
        skipped: 0,
        erased: 0,
        lost: Vec::new(),
        gaps: Vec::new(),
        overlaps: overlaps(pieces),
    };
    let mut next = books.from;
    for part in &parts {
        if part.from > next {
            books.gaps.push((next, part.from));
        }
        next = part.to;
        let lost = part.directory.lost.iter().filter_map(|lost| {
            let (from, to) = (lost.from.max(part.from), lost.to.min(part.to));
            (from < to).then_some(Lost { from, to, cause: lost.cause })
        });
        books.lost.extend(lost);
        if (part.from, part.to) == (part.directory.from, part.directory.to) {
            books.lines += part.directory.lines;
            books.skipped += part.directory.skipped();
            books.erased += part.directory.erased;
        }
    }
    books
}

/// A merged piece has the range of those that it replaces; only pieces of one version must not have the same.
fn overlaps(pieces: &[(Listed, Directory)]) -> Vec<(u64, u64)> {
    let mut sorted: Vec<_> =
        pieces.iter().map(|(piece, directory)| (piece.key.version, directory.from, directory.to)).collect();
    sorted.sort_unstable();
    let mut found = Vec::new();
    for pair in sorted.windows(2) {
        let [(version, _, to), (other, from, end)] = pair else { continue };
        if version == other && from < to {
            found.push((*from, *to.min(end)));
        }
    }
    found
}
