//! Reads pieces frame by frame, and keeps a little of what was read.
//!
//! The lines of a piece lie room by room, and readers want them by offset. So a reading goes through the frames that may hold what is
//! wanted, and keeps the lines of the lowest offsets as a window, within a bound; the next window is another reading. Frames are
//! decompressed on the threads for blocking work.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::bounded::Bounded;
use super::trouble::Trouble;
use crate::piece::{Damage, Directory, FramePart, LinePlace, PieceKey, RoomPart, each_line, message_of};
use crate::piece_store::{Listed, PieceStore, StoreError};
use crate::pipeline::ports::{InOrder, Named};

/// All directories that are kept, in bytes of memory, about.
const DIRECTORIES_BYTES: usize = 16 << 20;
/// All windows that are kept, in bytes of their lines.
pub(super) const WINDOWS_BYTES: usize = 32 << 20;
/// Frames that lie side by side are read together, up to so many compressed bytes.
const RUN_BYTES: u64 = 256 << 10;
/// So many compressed bytes are read on the thread of who asks: that takes about a millisecond.
const SMALL_RUN_BYTES: u64 = 32 << 10;
/// What a line needs in memory besides its bytes.
const LINE_OVERHEAD_BYTES: usize = 64;

/// A piece, and what of its range counts: the offsets before `to`.
#[derive(Clone)]
pub(super) struct Part {
    pub piece: Listed,
    pub directory: Arc<Directory>,
    pub to: u64,
}

impl Part {
    pub(super) fn has_lost(&self, offset: u64) -> bool {
        self.directory.lost.iter().any(|lost| (lost.from..lost.to).contains(&offset))
    }
}

/// The lines with the offsets from `from` up to, but not including, `to` of one piece; of one room, if it was read for that.
pub(super) struct Window {
    from: u64,
    pub to: u64,
    /// The highest store time before `from`, as far as the lines that were read tell.
    before_ms: u64,
    lines: BTreeMap<u64, WindowLine>,
}

struct WindowLine {
    eff_ms: u64,
    json: Box<[u8]>,
}

impl Window {
    fn bytes(&self) -> usize {
        self.lines.values().map(|line| line.json.len() + LINE_OVERHEAD_BYTES).sum()
    }

    /// The messages from that offset on, in order; each is made when it is asked for.
    pub(super) fn messages(&self, from: u64) -> impl Iterator<Item = Result<InOrder, String>> {
        self.lines
            .range(from..)
            .map(|(_, line)| message_of(&line.json).map(|message| InOrder { eff_ms: line.eff_ms, message }))
    }

    /// The highest store time before that offset, as far as the lines that were read tell.
    pub(super) fn before_ms(&self, offset: u64) -> u64 {
        self.lines.range(..offset).next_back().map_or(self.before_ms, |(_, line)| line.eff_ms)
    }
}

type WindowKey = (PieceKey, Option<String>);

/// Cheap questions to the pieces of a store. They never change, so what is kept stays right.
pub(super) struct Pieces {
    store: PieceStore,
    directories: Mutex<Bounded<PieceKey, Arc<Directory>>>,
    windows: Mutex<Bounded<WindowKey, Arc<Window>>>,
}

impl Pieces {
    pub(super) fn new(store: PieceStore) -> Self {
        Self {
            store,
            directories: Mutex::new(Bounded::new(DIRECTORIES_BYTES)),
            windows: Mutex::new(Bounded::new(WINDOWS_BYTES)),
        }
    }

    /// All pieces of a topic.
    pub(super) async fn list(&self, topic: &str) -> Result<Vec<Listed>, StoreError> {
        self.store.pieces(topic).await
    }

    pub(super) async fn directory(&self, piece: &Listed) -> Result<Arc<Directory>, StoreError> {
        if let Some(directory) = lock(&self.directories).get(&piece.key) {
            return Ok(directory);
        }
        let directory = Arc::new(self.store.directory(piece).await?);
        let rooms =
            directory.rooms.iter().map(|part| size_of_val(part) + part.room.as_ref().map_or(0, String::len));
        let bytes = rooms.sum::<usize>() + directory.frames.len() * size_of::<FramePart>() + 512;
        lock(&self.directories).put(piece.key.clone(), directory.clone(), bytes);
        Ok(directory)
    }

    /// A window that begins at that offset or before and ends behind it. `room`: its lines are enough; `max_bytes`: bound of the window.
    pub(super) async fn window(
        &self,
        part: &Part,
        room: Option<&str>,
        from: u64,
        max_bytes: usize,
    ) -> Result<Arc<Window>, Trouble> {
        // Where a clock was set back, the place of a line depends on lines of other rooms.
        let room = room.filter(|_| part.directory.store_time_rises);
        let key = (part.piece.key.clone(), room.map(str::to_owned));
        if let Some(window) = lock(&self.windows).get(&key)
            && (window.from..window.to).contains(&from)
        {
            return Ok(window);
        }
        let frames = frames_of(&part.directory, |in_room| room.is_none() || in_room.room.as_deref() == room);
        let mut gathered = Gathered::new(from..part.directory.to, max_bytes);
        gathered.before_ms = part.directory.store_time_before_ms;
        let gathered = self.read(part, frames, gathered).await?;
        let window = Arc::new(gathered.window());
        lock(&self.windows).put(key, window.clone(), window.bytes());
        Ok(window)
    }

    /// The first offset from `from` on whose message was stored at that time or later.
    pub(super) async fn offset_at(
        &self,
        part: &Part,
        from: u64,
        stored_ms: u64,
    ) -> Result<Option<u64>, Trouble> {
        let gathered = Gathered { stored_from_ms: stored_ms, ..Gathered::new(from..part.to, 0) };
        let gathered = self.read(part, frames_of(&part.directory, |_| true), gathered).await?;
        Ok(gathered.lines.first_key_value().map(|(offset, _)| *offset))
    }

    /// The messages at these offsets, which the part has; first in the frames where the directory says that they are.
    pub(super) async fn named(
        &self,
        part: &Part,
        room: &str,
        named: &[Named],
    ) -> Result<Vec<InOrder>, Trouble> {
        let is_in_time = |part: &RoomPart| {
            named.iter().any(|named| (part.at_min_ms..=part.at_max_ms).contains(&named.at_ms))
        };
        let is_likely = |part: &RoomPart| part.room.as_deref() == Some(room) && is_in_time(part);
        let mut picked = Picked {
            wanted: named.iter().map(|named| (named.offset, named.eff_ms)).collect(),
            found: BTreeMap::new(),
        };
        picked = self.read(part, frames_of(&part.directory, is_likely), picked).await?;
        if !picked.wanted.is_empty() {
            // A message of another program may say that it is of another room than the one that hears it.
            picked = self.read(part, frames_of(&part.directory, |part| !is_likely(part)), picked).await?;
        }
        let message = |(eff_ms, json): (u64, Box<[u8]>)| match message_of(&json) {
            Ok(message) => Ok(InOrder { eff_ms, message }),
            Err(cause) => Err(Trouble::unreadable(&part.piece.key, &cause)),
        };
        picked.found.into_values().map(message).collect()
    }

    /// Reads the frames in the order in which they lie, some at a time.
    async fn read<T: Gather>(&self, part: &Part, frames: Vec<Frame>, mut gathered: T) -> Result<T, Trouble> {
        let mut frames = frames.into_iter().peekable();
        while let Some(first) = frames.next() {
            let mut run = vec![first];
            while let (Some(last), Some(next)) = (run.last(), frames.peek())
                && last.part.range().is_some_and(|range| range.end == next.part.offset)
                && run.iter().map(|frame| frame.part.bytes).sum::<u64>() + next.part.bytes <= RUN_BYTES
            {
                run.extend(frames.next());
            }
            gathered = self.read_run(part, run, gathered).await?;
        }
        Ok(gathered)
    }

    /// Frames that lie side by side.
    async fn read_run<T: Gather>(&self, part: &Part, run: Vec<Frame>, mut gathered: T) -> Result<T, Trouble> {
        let key = &part.piece.key;
        let from = run.first().map_or(0, |frame| frame.part.offset);
        let to = run.last().and_then(|frame| frame.part.range()).map_or(from, |range| range.end);
        if to > part.piece.bytes {
            return Err(Trouble::damaged(key, &Damage::Frames));
        }
        let bytes = self
            .store
            .range(key, from..to)
            .await
            .map_err(|error| Trouble::of_store(&key.place.topic, &error))?;
        let read = move || -> Result<T, Damage> {
            for frame in &run {
                gathered.take_frame(frame, &bytes_of(&bytes, frame, from))?;
            }
            Ok(gathered)
        };
        if to - from <= SMALL_RUN_BYTES {
            return read().map_err(|damage| Trouble::damaged(key, &damage));
        }
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(gathered)) => Ok(gathered),
            Ok(Err(damage)) => Err(Trouble::damaged(key, &damage)),
            Err(error) => Err(Trouble::unreadable(key, &error.to_string())),
        }
    }
}

/// Takes the lines that are wanted out of frames.
pub(super) trait Gather: Send + 'static {
    fn take_frame(&mut self, frame: &Frame, bytes: &Bytes) -> Result<(), Damage>;
}

/// One frame, and which of its lines are looked at.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub part: FramePart,
    pub number: usize,
    pub lines: Range<usize>,
}

impl Frame {
    pub(super) fn each_line(
        &self,
        bytes: &[u8],
        take: &mut dyn FnMut(&LinePlace, &[u8]),
    ) -> Result<(), Damage> {
        each_line(bytes, &self.part, self.number, self.lines.clone(), take)
    }
}

/// The frames with lines of rooms that are wanted; where every room is, the whole frames.
fn frames_of(directory: &Directory, is_wanted: impl Fn(&RoomPart) -> bool) -> Vec<Frame> {
    let mut lines: BTreeMap<usize, Range<usize>> = BTreeMap::new();
    for part in directory.rooms.iter().filter(|part| is_wanted(part)) {
        let (first, count) = (part.first_line as usize, part.lines as usize);
        let found = lines.entry(part.frame as usize).or_insert(first..first);
        *found = found.start.min(first)..found.end.max(first.saturating_add(count));
    }
    let frame = |(number, lines): (usize, Range<usize>)| {
        Some(Frame { part: directory.frames.get(number)?.clone(), number, lines })
    };
    lines.into_iter().filter_map(frame).collect()
}

/// The bytes of a frame in those of its run, which begin at `from`; none if it lies elsewhere.
fn bytes_of(run: &Bytes, frame: &Frame, from: u64) -> Bytes {
    let start = frame.part.offset.saturating_sub(from) as usize;
    let end = start.saturating_add(frame.part.bytes as usize);
    if end <= run.len() { run.slice(start..end) } else { Bytes::new() }
}

/// The lines of some offsets.
struct Picked {
    /// Offsets that are not found yet, each with its place in the order.
    wanted: BTreeMap<u64, u64>,
    found: BTreeMap<u64, (u64, Box<[u8]>)>,
}

impl Gather for Picked {
    fn take_frame(&mut self, frame: &Frame, bytes: &Bytes) -> Result<(), Damage> {
        frame.each_line(bytes, &mut |place, json| {
            if let Some(eff_ms) = self.wanted.remove(&place.queue_offset) {
                self.found.insert(place.queue_offset, (eff_ms, json.into()));
            }
        })
    }
}

/// The lines of the lowest offsets of a range, as many as there is room for; at least one.
struct Gathered {
    offsets: Range<u64>,
    max_bytes: usize,
    bytes: usize,
    /// Only messages that were stored then or later.
    stored_from_ms: u64,
    before_ms: u64,
    lines: BTreeMap<u64, WindowLine>,
}

impl Gathered {
    fn new(offsets: Range<u64>, max_bytes: usize) -> Self {
        Self { offsets, max_bytes, bytes: 0, stored_from_ms: 0, before_ms: 0, lines: BTreeMap::new() }
    }

    fn take(&mut self, place: &LinePlace, json: &[u8]) {
        let LinePlace { queue_offset, stored_ms } = *place;
        if queue_offset < self.offsets.start {
            self.before_ms = self.before_ms.max(stored_ms);
        }
        if !self.offsets.contains(&queue_offset) || stored_ms < self.stored_from_ms {
            return;
        }
        self.bytes += json.len() + LINE_OVERHEAD_BYTES;
        self.lines.insert(queue_offset, WindowLine { eff_ms: stored_ms, json: json.into() });
        while self.bytes > self.max_bytes && self.lines.len() > 1 {
            let Some((last, line)) = self.lines.pop_last() else { break };
            self.offsets.end = last;
            self.bytes -= line.json.len() + LINE_OVERHEAD_BYTES;
        }
    }

    fn window(mut self) -> Window {
        let mut eff_ms = self.before_ms;
        for line in self.lines.values_mut() {
            eff_ms = eff_ms.max(line.eff_ms);
            line.eff_ms = eff_ms;
        }
        let Range { start: from, end: to } = self.offsets;
        Window { from, to, before_ms: self.before_ms, lines: self.lines }
    }
}

impl Gather for Gathered {
    fn take_frame(&mut self, frame: &Frame, bytes: &Bytes) -> Result<(), Damage> {
        frame.each_line(bytes, &mut |place, json| self.take(place, json))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(max_bytes: usize) -> (Window, usize) {
        let mut gathered = Gathered::new(10..100, max_bytes);
        gathered.before_ms = 5;
        let mut most = 0;
        // As rooms lie: each by rising offsets, one after the other.
        for room in 0..10 {
            for line in 0..11 {
                let queue_offset = line * 10 + room;
                let stored_ms = if queue_offset == 9 { 50 } else { queue_offset };
                gathered.take(&LinePlace { queue_offset, stored_ms }, b"0123456789");
                most = most.max(gathered.bytes);
            }
        }
        (gathered.window(), most)
    }

    /// However large a piece is, memory holds one window of it.
    #[test]
    fn a_window_has_the_lowest_offsets_and_no_more_bytes_than_it_may() {
        let line_bytes = 10 + LINE_OVERHEAD_BYTES;
        let (window, most) = gathered(20 * line_bytes);
        assert_eq!((window.from, window.to), (10, 30));
        assert_eq!(window.lines.keys().copied().collect::<Vec<_>>(), (10..30).collect::<Vec<_>>());
        assert!(most <= 21 * line_bytes && window.bytes() <= 20 * line_bytes);
        // A single line is given, however large it is.
        let (window, _) = gathered(1);
        assert_eq!((window.from, window.to, window.lines.len()), (10, 11, 1));
        let (window, _) = gathered(usize::MAX);
        assert_eq!((window.from, window.to, window.lines.len()), (10, 100, 90));
    }

    #[test]
    fn the_highest_store_time_so_far_counts_that_of_lines_before_the_window() {
        let (window, _) = gathered(usize::MAX);
        assert_eq!([10, 50, 51, 99].map(|offset| window.lines[&offset].eff_ms), [50, 50, 51, 99]);
        assert_eq!([10, 51, 100].map(|offset| window.before_ms(offset)), [50, 50, 99]);
    }
}
