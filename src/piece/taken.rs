//! What one piece has of a range, as a merged piece takes it over: lines byte for byte, and the books of all else.

use std::collections::BTreeMap;

use super::damage::Damage;
use super::directory::{Directory, Lost};
use super::line::{Line, Written};
use super::reader::{lines_of, raw_of};

/// Memory: the lines, decompressed.
pub(crate) struct Taken {
    pub(super) lines: Vec<Written>,
    pub(super) skipped: BTreeMap<String, u64>,
    pub(super) erased: u64,
    pub(super) lost: Vec<Lost>,
    /// The highest store time before the end of the range, as far as the piece tells.
    pub(super) store_time_ms: u64,
    /// See [`Directory::store_time_rises`]; that of the whole piece.
    pub(super) store_time_rises: bool,
    /// Names the message before the end of the range, if that is known.
    pub(super) last: Option<String>,
}

impl Taken {
    /// Takes the offsets from `from` up to, but not including, `to` out of a piece. `piece`: all its bytes.
    pub(crate) fn of(piece: &[u8], directory: &Directory, from: u64, to: u64) -> Result<Self, Damage> {
        let mut taken = Self {
            lines: Vec::new(),
            skipped: BTreeMap::new(),
            erased: 0,
            lost: directory.lost_in(from, to).collect(),
            store_time_ms: directory.store_time_before_ms,
            store_time_rises: directory.store_time_rises,
            last: None,
        };
        for (number, frame) in directory.frames.iter().enumerate() {
            let range = frame.range().map(|range| range.start as usize..range.end as usize);
            let bytes = range.and_then(|range| piece.get(range)).ok_or(Damage::Frames)?;
            let raw = raw_of(bytes, frame, number)?;
            for (line, json) in lines_of(&raw) {
                let wrong = |cause: String| Damage::Line { frame: number, line, cause };
                let parsed: Line<'_> =
                    serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
                if !(from..to).contains(&parsed.queue_offset) {
                    continue;
                }
                if parsed.queue_offset + 1 == to {
                    taken.last = parsed.message().map(|message| message.name());
                }
                taken.store_time_ms = taken.store_time_ms.max(parsed.stored_ms);
                let written = Written::of_line(&parsed, json);
                taken.lines.push(written.ok_or_else(|| wrong(format!("{:?} is no time", parsed.at)))?);
            }
        }
        if to == directory.to {
            taken.store_time_ms = taken.store_time_ms.max(directory.store_time_ms);
            taken.last = directory.last.clone();
        }
        taken.count_the_rest(directory, from, to)?;
        Ok(taken)
    }

    /// Lines, skipped and erased messages.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.lines.len() as u64, self.skipped.values().sum(), self.erased)
    }

    /// Names the message before the end of the range, if that is known.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// What is no line and not lost was left out or erased; of a part of a piece only the sum is known.
    fn count_the_rest(&mut self, directory: &Directory, from: u64, to: u64) -> Result<(), Damage> {
        if (from, to) == (directory.from, directory.to) {
            self.skipped = directory.skipped.clone();
            self.erased = directory.erased;
            return Ok(());
        }
        let lost: u64 = self.lost.iter().map(|lost| lost.to - lost.from).sum();
        let rest = (to - from).checked_sub(lost + self.lines.len() as u64).ok_or(Damage::Books)?;
        self.erased = rest.min(directory.erased);
        let skipped = rest - self.erased;
        if skipped > 0 {
            let reasons: Vec<_> = directory.skipped.keys().map(String::as_str).collect();
            self.skipped.insert(reasons.join(" or "), skipped);
        }
        Ok(())
    }
}
