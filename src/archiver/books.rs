//! Which piece counts for which offsets, and whether the books of a queue balance.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::piece::{Directory, Lost, PieceKey, Place};
use crate::piece_store::{Listed, PieceStore, StoreError};

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

impl Effective<'_> {
    /// Whether it counts for all of its range.
    pub(crate) fn is_whole(&self) -> bool {
        (self.from, self.to) == (self.directory.from, self.directory.to)
    }
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
    /// Ranges of pieces that count, for which another one counts. An archiver that stood still while others worked leaves them;
    /// the next merge of that day removes them.
    pub overlaps: Vec<(u64, u64)>,
}

/// Of the pieces of one place, the parts that count, in the order of their offsets: for each offset the highest version that has
/// it, then one that did not lose it, then the highest first offset. Whatever a crash, a merge or a second archiver left behind, the answer
/// is one. An archiver that stood still takes no offset from those that went on, and RocketMQ may have deleted meanwhile what they have.
pub(crate) fn effective<'a>(pieces: &'a [(Listed, Directory)]) -> Vec<Effective<'a>> {
    let of_lost = |directory: &'a Directory| directory.lost.iter().flat_map(|lost| [lost.from, lost.to]);
    let of_piece =
        |directory: &'a Directory| [directory.from, directory.to].into_iter().chain(of_lost(directory));
    let mut borders: Vec<u64> = pieces.iter().flat_map(|(_, directory)| of_piece(directory)).collect();
    borders.sort_unstable();
    borders.dedup();
    let by = |border: fn(&Directory) -> u64| {
        let mut order: Vec<_> = pieces.iter().enumerate().collect();
        order.sort_by_key(|(_, (_, directory))| border(directory));
        order.into_iter().map(move |(number, (piece, directory))| {
            let order = (Reverse(piece.key.version), Reverse(piece.key.from), number);
            (border(directory), order)
        })
    };
    let mut begins = by(|directory| directory.from).peekable();
    let mut ends = by(|directory| directory.to).peekable();
    // Those that have the range, the best one first.
    let mut having = BTreeSet::new();
    let mut parts: Vec<Effective<'a>> = Vec::new();
    for range in borders.windows(2) {
        let [from, to] = range else { continue };
        while let Some((_, piece)) = begins.next_if(|(begin, _)| begin <= from) {
            having.insert(piece);
        }
        while let Some((_, piece)) = ends.next_if(|(end, _)| end <= from) {
            having.remove(&piece);
        }
        let highest = having.first().map(|(version, _, _)| *version);
        let of_highest = having.iter().take_while(|(version, _, _)| Some(*version) == highest);
        let mut of_highest = of_highest.filter_map(|(_, _, number)| pieces.get(*number));
        let has = |(_, directory): &&(Listed, Directory)| directory.lost_in(*from, *to).next().is_none();
        let Some((piece, directory)) = of_highest.clone().find(has).or_else(|| of_highest.next()) else {
            continue;
        };
        match parts.last_mut() {
            Some(last) if last.to == *from && last.piece == piece => last.to = *to,
            Some(_) | None => parts.push(Effective { piece, directory, from: *from, to: *to }),
        }
    }
    parts
}

/// The books of one place. Of a piece that counts in part only, the lost ranges are counted and not the lines, which only a look into
/// it tells: see [`exact_books`].
pub(super) fn books_of(place: Place, pieces: &[(Listed, Directory)]) -> PlaceBooks {
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
        overlaps: overlaps(&parts),
    };
    let mut next = books.from;
    for part in &parts {
        if part.from > next {
            books.gaps.push((next, part.from));
        }
        next = part.to;
        books.lost.extend(part.directory.lost_in(part.from, part.to));
        if part.is_whole() {
            books.lines += part.directory.lines;
            books.skipped += part.directory.skipped();
            books.erased += part.directory.erased;
        }
    }
    books
}

/// The books of one place; pieces that count in part only are read.
pub(crate) async fn exact_books(
    store: &PieceStore,
    place: Place,
    pieces: &[(Listed, Directory)],
) -> Result<PlaceBooks, StoreError> {
    let mut books = books_of(place, pieces);
    for part in effective(pieces).iter().filter(|part| !part.is_whole()) {
        let taken = store.take(&part.piece.key, part.directory, part.from, part.to).await?;
        let (lines, skipped, erased) = taken.counts();
        books.lines += lines;
        books.skipped += skipped;
        books.erased += erased;
    }
    Ok(books)
}

/// Where pieces that count in part only do not count.
pub(crate) fn overlaps(parts: &[Effective<'_>]) -> Vec<(u64, u64)> {
    let mut of_piece: BTreeMap<&PieceKey, Vec<&Effective<'_>>> = BTreeMap::new();
    for part in parts.iter().filter(|part| !part.is_whole()) {
        of_piece.entry(&part.piece.key).or_default().push(part);
    }
    let mut found = BTreeSet::new();
    for parts in of_piece.into_values() {
        let Some(directory) = parts.first().map(|part| part.directory) else { continue };
        let mut next = directory.from;
        for part in parts {
            found.insert((next, part.from));
            next = part.to;
        }
        found.insert((next, directory.to));
    }
    found.into_iter().filter(|(from, to)| from < to).collect()
}
