//! What the user's limits say about one more append.

use std::path::{Path, PathBuf};

use super::{Depth, SpoolSettings};
use crate::model::WhenFull;
use crate::storage;

/// A full spool counts as open again when one of so many parts of its limits is free: a twentieth.
const SOME_ROOM: u64 = 20;

pub(super) struct Limits {
    settings: SpoolSettings,
    folder: PathBuf,
}

impl Limits {
    pub(super) fn new(settings: SpoolSettings) -> Self {
        let folder = match settings.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => Path::new(".").to_owned(),
        };
        Self { settings, folder }
    }

    pub(super) fn when_full(&self) -> WhenFull {
        self.settings.when_full
    }

    pub(super) fn topic_has_room(&self, now_bytes: u64, more_bytes: u64) -> bool {
        now_bytes.saturating_add(more_bytes) <= self.settings.topic_bytes
    }

    /// By how much the spool would be over its limits if `more` came to what is there.
    pub(super) fn excess(&self, now: Depth, more: Depth) -> Depth {
        let over = |now: u64, more: u64, limit: u64| now.saturating_add(more).saturating_sub(limit);
        Depth {
            messages: over(now.messages, more.messages, self.settings.max_messages),
            bytes: over(now.bytes, more.bytes, self.settings.max_bytes),
        }
    }

    /// Whether `more` would not even fit into an empty spool.
    pub(super) fn never_fits(&self, more: Depth) -> bool {
        self.excess(Depth::default(), more) != Depth::default()
    }

    /// Why a full spool must not be called open yet; `None` = it may. It needs some free room, because otherwise it would be
    /// open and full again with every message.
    pub(super) fn why_no_room(&self, now: Depth) -> Option<String> {
        let some = Depth {
            messages: self.settings.max_messages / SOME_ROOM,
            bytes: self.settings.max_bytes / SOME_ROOM,
        };
        if self.excess(now, some) != Depth::default() {
            return Some(self.full_reason(now));
        }
        self.disk_is_low().map(|free| self.low_disk_reason(free))
    }

    /// The free bytes of the disk, if they are too few. If they are not known, they count as enough: the write itself will tell.
    pub(super) fn disk_is_low(&self) -> Option<u64> {
        let free = storage::free_bytes(&self.folder).ok()?;
        (free < self.settings.min_free_bytes).then_some(free)
    }

    pub(super) fn full_reason(&self, now: Depth) -> String {
        format!(
            "it holds {} of {} messages, {} of {} bytes; it takes messages again when some have left",
            now.messages, self.settings.max_messages, now.bytes, self.settings.max_bytes
        )
    }

    pub(super) fn low_disk_reason(&self, free: u64) -> String {
        format!(
            "{}: {free} bytes free, spool.min_free_bytes is {}; make room on the disk",
            self.folder.display(),
            self.settings.min_free_bytes
        )
    }
}
