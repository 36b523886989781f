//! What is known of a topic: its queues, those of before it was made anew included, and which piece counts for an offset.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::pieces::{Part, Pieces};
use super::trouble::Trouble;
use crate::model::QueueName;
use crate::piece::Place;
use crate::piece_store::Listed;
use crate::pipeline::ports::Withheld;

/// What is known of a topic, by the names that its queues have here.
#[derive(Default)]
pub(super) struct Topic {
    pub queues: BTreeMap<QueueName, Arc<Queue>>,
    pub away: Vec<String>,
}

impl Topic {
    /// Takes out what the archive has; whether anything is left.
    pub(super) fn is_left_of(&self, withheld: &mut Withheld) -> bool {
        let of_queue = self.queues.values().filter(|queue| queue.place.queue == withheld.queue);
        let newest = of_queue.max_by_key(|queue| queue.place.generation);
        // A seam beyond its end is that of an earlier queue of that name.
        let seam = newest.map(|newest| newest.seam).filter(|seam| *seam <= withheld.offsets.end);
        withheld.offsets.start = withheld.offsets.start.max(seam.unwrap_or(0));
        !withheld.offsets.is_empty()
    }
}

/// One queue of one generation.
pub(super) struct Queue {
    pub place: Place,
    /// By rising first offsets and versions.
    pub pieces: Vec<Listed>,
    /// From this offset on RocketMQ answers.
    pub seam: u64,
    /// The highest store time before the seam.
    pub store_time_ms: u64,
    /// Names the message before the seam, if it is known.
    pub last: Option<String>,
    /// Whether RocketMQ has it too, and from the seam on answers for it.
    pub is_live: bool,
}

/// What the archive has at an offset.
pub(super) enum Found {
    Part(Part),
    /// No piece has the offsets before this one.
    Gap(u64),
}

impl Queue {
    /// A queue that was never archived.
    pub(super) fn live(place: Place) -> Self {
        Self { place, pieces: Vec::new(), seam: 0, store_time_ms: 0, last: None, is_live: true }
    }

    /// Asks the last pieces where the queue ends. `pieces`: all of that place.
    pub(super) async fn archived(
        place: Place,
        mut pieces: Vec<Listed>,
        reader: &Pieces,
    ) -> Result<Self, Trouble> {
        pieces.sort_by_key(|piece| (piece.key.from, piece.key.version));
        // Of each version the last one: a merged piece begins earlier than those that it replaces, and may reach as far.
        let last_of_version: BTreeMap<u32, &Listed> =
            pieces.iter().map(|piece| (piece.key.version, piece)).collect();
        let mut queue =
            Self { place, pieces: Vec::new(), seam: 0, store_time_ms: 0, last: None, is_live: false };
        for piece in last_of_version.into_values() {
            let directory = reader.directory(piece).await;
            let directory = directory.map_err(|error| Trouble::of_store(&queue.place.topic, &error))?;
            if directory.to >= queue.seam {
                queue.seam = directory.to;
                queue.store_time_ms = directory.store_time_ms;
                queue.last = directory.last.clone();
            }
        }
        queue.pieces = pieces;
        Ok(queue)
    }

    pub(super) fn archived_from(&self) -> Option<u64> {
        self.pieces.first().map(|piece| piece.key.from)
    }

    /// The piece that counts for that offset, which is archived: the highest version that has it. Where two of one version overlap, one
    /// that has not lost it; both have the same there.
    pub(super) async fn found_at(&self, offset: u64, reader: &Pieces) -> Result<Found, Trouble> {
        let begun = self.pieces.iter().filter(|piece| piece.key.from <= offset);
        let mut last_of_version: BTreeMap<Reverse<u32>, &Listed> = BTreeMap::new();
        last_of_version.extend(begun.clone().map(|piece| (Reverse(piece.key.version), piece)));
        // Only where pieces overlap, another one than the last of its version may reach further.
        let mut others: Vec<&Listed> = begun.collect();
        others.sort_by_key(|piece| (Reverse(piece.key.version), Reverse(piece.key.from)));
        for piece in last_of_version.into_values().chain(others) {
            let Some(part) = self.part_at(offset, piece, reader).await? else { continue };
            if !part.has_lost(offset) {
                return Ok(Found::Part(part));
            }
            return Ok(Found::Part(self.not_lost(offset, &part, reader).await?.unwrap_or(part)));
        }
        Ok(Found::Gap(self.after(offset).map(|next| next.key.from).fold(self.seam, u64::min)))
    }

    /// The piece, up to where another one counts, or may have what this one has lost. `None`: it ends before the offset.
    async fn part_at(&self, offset: u64, piece: &Listed, reader: &Pieces) -> Result<Option<Part>, Trouble> {
        let directory = reader.directory(piece).await;
        let directory = directory.map_err(|error| Trouble::of_store(&self.place.topic, &error))?;
        if offset >= directory.to {
            return Ok(None);
        }
        let replaced = self.after(offset).filter(|next| next.key.version > piece.key.version);
        let borders = directory.lost.iter().flat_map(|lost| [lost.from, lost.to]);
        let borders = borders.filter(|border| *border > offset).chain(replaced.map(|next| next.key.from));
        let to = borders.fold(directory.to, u64::min);
        Ok(Some(Part { piece: piece.clone(), directory, to }))
    }

    /// Another piece of the same version that has what this one has lost at that offset.
    async fn not_lost(&self, offset: u64, lost: &Part, reader: &Pieces) -> Result<Option<Part>, Trouble> {
        let of_version = self.pieces.iter().rev().filter(|piece| {
            piece.key.version == lost.piece.key.version && piece.key.from <= offset && **piece != lost.piece
        });
        for piece in of_version {
            let found = self.part_at(offset, piece, reader).await?;
            if let Some(part) = found.filter(|part| !part.has_lost(offset)) {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// What the piece of that part has lost, and no other one has.
    pub(super) async fn lost_in(&self, part: &Part, reader: &Pieces) -> Result<Vec<Range<u64>>, Trouble> {
        let mut lost = Vec::new();
        for range in &part.directory.lost {
            let mut at = range.from;
            while at < range.to {
                let next = match self.not_lost(at, part, reader).await? {
                    Some(other) => other.to.min(range.to),
                    None => {
                        let end = self.after(at).map(|next| next.key.from).fold(range.to, u64::min);
                        lost.push(at..end);
                        end
                    }
                };
                at = next;
            }
        }
        Ok(lost)
    }

    fn after(&self, offset: u64) -> impl Iterator<Item = &Listed> {
        self.pieces.iter().filter(move |piece| piece.key.from > offset)
    }

    /// Where to begin for messages that were stored at that time or later: at the first offset of the last piece that begins on an
    /// earlier day.
    pub(super) fn begin_for(&self, day: &str) -> u64 {
        let earlier = self.pieces.iter().filter(|piece| piece.key.day.as_str() < day);
        earlier.map(|piece| piece.key.from).next_back().or(self.archived_from()).unwrap_or(0)
    }
}
