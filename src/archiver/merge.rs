//! Joins the pieces of a day that is over into one, and later removes what it replaced.
//!
//! A joined piece has the first offset of those that it replaces and a higher version. So it counts from the moment on at which it is
//! there, and a crash at any step leaves each offset in one piece that counts. What no longer counts stays for an hour, for readers
//! that have begun with it, and is removed after the joined piece was read back.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::books::{Effective, effective};
use super::{ArchiveError, PIECE_BYTES};
use crate::model::Clock;
use crate::piece::{Directory, PieceKey, PieceWriter, verify};
use crate::piece_store::{Created, Listed, PieceStore, StoreError};

/// How often the store is listed.
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
/// The last piece of a day is written when the day is over: an hour later, if nothing is in the way.
const DAY_ENDS_LATER_MS: u64 = 2 * 3_600_000;
/// A reader that began before the merge reads the replaced pieces for so long.
const REPLACED_STAYS_MS: u64 = 3_600_000;

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Merged {
    /// Pieces that were written.
    pub written: u64,
    /// Pieces that they replace.
    pub replaced: u64,
    /// Replaced pieces that were removed.
    pub removed: u64,
}

impl Merged {
    /// Adds what another step did.
    pub(crate) fn add(&mut self, other: Self) {
        self.written += other.written;
        self.replaced += other.replaced;
        self.removed += other.removed;
    }
}

/// See the head of this file. Memory: one piece.
pub(crate) struct Merger {
    store: PieceStore,
    clock: Arc<dyn Clock>,
    /// One piece of each place and day that is to be looked at.
    due: VecDeque<PieceKey>,
    looked: Option<Duration>,
    /// Hashes of the files of places and days where nothing is left to do: a day of more than one piece.
    settled: HashSet<u64>,
}

type Piece = (Listed, Directory);

impl Merger {
    /// Has looked at nothing yet.
    pub(crate) fn new(store: PieceStore, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, due: VecDeque::new(), looked: None, settled: HashSet::new() }
    }

    /// Whether [`Merger::step`] has something to do.
    pub(crate) fn is_due(&self) -> bool {
        let now = self.clock.monotonic();
        !self.due.is_empty() || self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_EVERY)
    }

    /// Does one thing: lists the store, or writes one piece, or removes what one place and day has replaced.
    pub(crate) async fn step(&mut self) -> Result<Merged, ArchiveError> {
        match self.due.pop_front() {
            Some(key) => match self.tend(key).await {
                // Another archiver removed it. The next look sees what is there.
                Err(ArchiveError::Store(StoreError::Missing { .. })) => Ok(Merged::default()),
                tended => tended,
            },
            None => {
                // Also if it fails: the next attempt has time.
                self.looked = Some(self.clock.monotonic());
                self.look().await?;
                Ok(Merged::default())
            }
        }
    }

    async fn look(&mut self) -> Result<(), ArchiveError> {
        self.store.remove_leftovers().await?;
        let now_ms = self.clock.wall_ms();
        let mut days: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        for piece in self.store.all_pieces().await? {
            let ends_ms = piece.key.day_ends_ms();
            if ends_ms.is_some_and(|end| end.saturating_add(DAY_ENDS_LATER_MS) <= now_ms) {
                days.entry(piece.key.folder()).or_default().push(piece);
            }
        }
        let of_several = days.into_values().filter(|pieces| pieces.len() > 1);
        let (settled, open): (Vec<_>, Vec<_>) =
            of_several.partition(|pieces| self.settled.contains(&hash(pieces)));
        // What is no longer there is forgotten.
        self.settled = settled.iter().map(hash).collect();
        self.due.extend(open.into_iter().filter_map(|mut pieces| Some(pieces.pop()?.key)));
        Ok(())
    }

    /// Looks at one place and day.
    async fn tend(&mut self, key: PieceKey) -> Result<Merged, ArchiveError> {
        let mut listed = self.store.pieces(&key.place.topic).await?;
        listed.retain(|piece| piece.key.place == key.place);
        let is_of_day = |piece: &Listed| piece.key.day == key.day;
        let files = hash(listed.iter().filter(|piece| is_of_day(piece)));
        let pieces = self.around(listed, &key.day).await?;
        let parts = effective(&pieces);
        let of_day = |part: &Effective<'_>| is_of_day(part.piece);
        if let Some((before_ms, run)) = run(&parts, of_day) {
            let merged = self.merge(before_ms, run).await?;
            // There may be more.
            self.due.push_back(key);
            return Ok(merged);
        }
        let replaced = pieces.iter().filter(|piece| is_of_day(&piece.0) && is_replaced(piece, &parts));
        let replaced: Vec<_> = replaced.collect();
        let mut merged = Merged::default();
        if replaced.is_empty() {
            self.settled.insert(files);
        } else if self.may_go(&replaced, &parts).await? {
            for (piece, _) in replaced {
                self.store.remove(&piece.key).await?;
                merged.removed += 1;
            }
        }
        Ok(merged)
    }

    /// Of all pieces of a place those of that day, and those that may have offsets in common with them: an archiver that stood still for
    /// long may have written beyond its day, and another one on any day what this one noted as lost.
    async fn around(&self, pieces: Vec<Listed>, day: &str) -> Result<Vec<Piece>, StoreError> {
        let days: BTreeSet<String> = pieces.iter().map(|piece| piece.key.day.clone()).collect();
        let before = days.iter().rfind(|other| day > other.as_str());
        let after = days.iter().find(|other| day < other.as_str());
        let near = [before, after];
        let (of_day, mut others): (Vec<_>, Vec<_>) =
            pieces.into_iter().partition(|piece| piece.key.day == day);
        let mut found = self.store.directories(of_day).await?;
        let from = found.iter().map(|(_, directory)| directory.from).min().unwrap_or(0);
        let to = found.iter().map(|(_, directory)| directory.to).max().unwrap_or(0);
        others.retain(|piece| near.contains(&Some(&piece.key.day)) || (from..to).contains(&piece.key.from));
        found.extend(self.store.directories(others).await?);
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    /// Writes one piece in the place of several.
    async fn merge(&self, before_ms: u64, run: &[Effective<'_>]) -> Result<Merged, ArchiveError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(Merged::default());
        };
        let version = run.iter().map(|part| part.piece.key.version).max().unwrap_or(0);
        let mut key = first.piece.key.clone();
        (key.from, key.version) = (first.from, version.saturating_add(1));
        let failed = |cause: String| ArchiveError::Piece {
            topic: key.place.topic.clone(),
            queue: key.place.queue.clone(),
            cause,
        };
        let mut writer = PieceWriter::new(key.place.clone(), first.from, before_ms);
        for part in run {
            writer.take_over(self.store.take(&part.piece.key, part.directory, part.from, part.to).await?);
        }
        let to = last.to;
        let made = tokio::task::spawn_blocking(move || {
            let (_, bytes) = writer.finish(to).map_err(|error| error.to_string())?;
            verify(&bytes).map_err(|damage| damage.to_string())?;
            Ok(bytes)
        });
        let bytes = made.await.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
        match self.store.create(&key, bytes.into()).await? {
            Created::Ours => {
                tracing::info!(piece = %key, pieces = run.len(), "pieces of a day were merged");
                Ok(Merged { written: 1, replaced: run.len() as u64, removed: 0 })
            }
            // Another archiver was first. The next look sees what it wrote.
            Created::Another => Ok(Merged::default()),
        }
    }

    /// Whether those that count in their place are old enough and whole.
    async fn may_go(&self, replaced: &[&Piece], parts: &[Effective<'_>]) -> Result<bool, ArchiveError> {
        let now_ms = self.clock.wall_ms();
        let counts = |part: &&Effective<'_>| {
            replaced.iter().any(|(_, directory)| part.from < directory.to && directory.from < part.to)
        };
        let counting: Vec<_> = parts.iter().filter(counts).collect();
        for part in &counting {
            let stored_ms = self.store.stored_ms(&part.piece.key).await?;
            if now_ms.saturating_sub(stored_ms) < REPLACED_STAYS_MS {
                return Ok(false);
            }
        }
        for part in counting {
            self.store.verify(&part.piece.key).await?;
        }
        Ok(true)
    }
}

/// The first pieces that can become one, and the highest store time before them: neighbours without a gap that fit into memory
/// together; or one that another one covers in part. What was merged once is not merged again, unless more has come.
fn run<'p, 'a>(
    parts: &'p [Effective<'a>],
    is_of_day: impl Fn(&Effective<'a>) -> bool,
) -> Option<(u64, &'p [Effective<'a>])> {
    let worth_it = |start: usize, end: usize| {
        parts.get(start).is_some_and(&is_of_day).then(|| worth_it(parts, start, end)).flatten()
    };
    // Where a build of before did not say it, the piece may be as large as any.
    let size = |part: &Effective<'a>| part.directory.raw_bytes.unwrap_or(PIECE_BYTES as u64);
    let (mut start, mut raw_bytes) = (0, 0_u64);
    for (number, part) in parts.iter().enumerate() {
        let before = number.checked_sub(1).and_then(|before| parts.get(before));
        let is_next =
            before.is_some_and(|before| before.to == part.from && is_of_day(before) && is_of_day(part));
        let with_it = raw_bytes.saturating_add(size(part));
        if is_next && with_it <= PIECE_BYTES as u64 {
            raw_bytes = with_it;
            continue;
        }
        if let Some(found) = worth_it(start, number) {
            return Some(found);
        }
        (start, raw_bytes) = (number, size(part));
    }
    worth_it(start, parts.len())
}

fn worth_it<'p, 'a>(
    parts: &'p [Effective<'a>],
    start: usize,
    end: usize,
) -> Option<(u64, &'p [Effective<'a>])> {
    let run = parts.get(start..end)?;
    let first = run.first()?;
    if run.len() < 2 && first.is_whole() {
        return None;
    }
    let before = start.checked_sub(1).and_then(|before| parts.get(before));
    let before_ms = match before.filter(|_| first.from > first.directory.from) {
        Some(before) => before.directory.store_time_ms,
        None => first.directory.store_time_before_ms,
    };
    Some((before_ms, run))
}

fn is_replaced((piece, _): &Piece, parts: &[Effective<'_>]) -> bool {
    parts.iter().all(|part| part.piece.key != piece.key)
}

fn hash<'p>(pieces: impl IntoIterator<Item = &'p Listed>) -> u64 {
    let mut hasher = DefaultHasher::new();
    pieces.into_iter().for_each(|piece| piece.key.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests;
