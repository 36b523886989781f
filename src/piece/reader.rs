//! Reads a piece: first the tail, then the directory, then the frames of the rooms that are wanted.

use std::collections::BTreeSet;
use std::ops::Range;

use memchr::memmem::Finder;
use serde::Deserialize;

use super::damage::Damage;
use super::directory::{Directory, FramePart};
use super::frame::{TAIL_BYTES, Tail, decompress, is_head_of, lines_end};
use super::line::Line;
use crate::model::StoredMessage;

/// Where the directory of a piece with so many bytes and that tail lies.
pub(crate) fn directory_range(tail: &[u8; TAIL_BYTES], piece_bytes: u64) -> Result<Range<u64>, Damage> {
    let tail = Tail::read(tail, piece_bytes)?;
    Ok(tail.offset..tail.offset + tail.bytes)
}

/// Reads a directory out of its bytes.
pub(crate) fn directory_of(
    bytes: &[u8],
    tail: &[u8; TAIL_BYTES],
    piece_bytes: u64,
) -> Result<Directory, Damage> {
    if crc32fast::hash(bytes) != Tail::read(tail, piece_bytes)?.crc {
        return Err(Damage::DirectoryBytes);
    }
    let json = decompress(bytes).map_err(|error| Damage::Directory(error.to_string()))?;
    let directory: Directory =
        serde_json::from_slice(&json).map_err(|error| Damage::Directory(error.to_string()))?;
    directory.check()
}

/// The messages of one frame, in the order of their lines. `bytes`: the frame, compressed; `number`: its index.
#[cfg(test)]
pub(crate) fn messages_of(
    bytes: &[u8],
    frame: &FramePart,
    number: usize,
) -> Result<Vec<StoredMessage>, Damage> {
    read_lines(&raw_of(bytes, frame, number)?, number, |_, message| Ok(message))
}

/// The lines of one frame, decompressed.
pub(super) fn raw_of(bytes: &[u8], frame: &FramePart, number: usize) -> Result<Vec<u8>, Damage> {
    if crc32fast::hash(bytes) != frame.crc {
        return Err(Damage::FrameBytes(number));
    }
    decompress(bytes).map_err(|error| Damage::Frame { frame: number, cause: error.to_string() })
}

/// Each line with its line feed, and its number from 0.
pub(super) fn lines_of(raw: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = raw;
    let next = move || {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at_checked(end)?;
        rest = behind;
        (!line.is_empty()).then_some(line)
    };
    std::iter::from_fn(next).enumerate()
}

/// What a line says of its place, without the message.
#[derive(Debug, Deserialize)]
pub(crate) struct LinePlace {
    /// Offset in the queue.
    pub queue_offset: u64,
    /// Store time, milliseconds since 1970-01-01 UTC.
    pub stored_ms: u64,
}

/// Finds the place of a line, whatever else the line says.
struct PlaceFinder(Finder<'static>);

impl PlaceFinder {
    fn new() -> Self {
        Self(Finder::new(r#""queue_offset":"#))
    }

    /// As we write it: the two numbers follow each other. A quote inside of a text has a backslash before it, so what is found is the
    /// field itself. `None`: somebody else wrote the line, or it is no line.
    fn find(&self, json: &[u8]) -> Option<LinePlace> {
        let behind = self.0.find(json)? + self.0.needle().len();
        let (queue_offset, rest) = number(json.get(behind..)?)?;
        let (stored_ms, rest) = number(rest.strip_prefix(br#","stored_ms":"#)?)?;
        rest.starts_with(b",").then_some(LinePlace { queue_offset, stored_ms })
    }
}

/// The number at the beginning, and what stands behind it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    Some((str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// Gives place and JSON of each line of a frame to `take`, in the order in which they lie there. `lines`: only these lines, counted
/// from 0 in the frame. The messages are not made of them, so that to pass over a line costs little.
pub(crate) fn each_line(
    bytes: &[u8],
    frame: &FramePart,
    number: usize,
    lines: Range<usize>,
    take: &mut dyn FnMut(&LinePlace, &[u8]),
) -> Result<(), Damage> {
    let (raw, finder) = (raw_of(bytes, frame, number)?, PlaceFinder::new());
    let all = lines_of(&raw);
    for (line, json) in all.skip(lines.start).take(lines.len()) {
        let place = match finder.find(json) {
            Some(place) => place,
            None => serde_json::from_slice(json).map_err(|error| Damage::Line {
                frame: number,
                line,
                cause: error.to_string(),
            })?,
        };
        take(&place, json);
    }
    Ok(())
}

/// The message of one line that [`each_line`] gave. The error is the cause.
pub(crate) fn message_of(json: &[u8]) -> Result<StoredMessage, String> {
    let parsed: Line<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    parsed.message().ok_or_else(|| "it has no body, or two".to_owned())
}

/// Gives each line of a frame, with its message, to `take`.
fn read_lines<T>(
    raw: &[u8],
    number: usize,
    take: impl Fn(&Line<'_>, StoredMessage) -> Result<T, Damage>,
) -> Result<Vec<T>, Damage> {
    lines_of(raw)
        .map(|(line, json)| {
            let wrong = |cause: String| Damage::Line { frame: number, line, cause };
            let parsed: Line<'_> = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
            let message = parsed.message().ok_or_else(|| wrong("it has no body, or two".to_owned()))?;
            take(&parsed, message)
        })
        .collect()
}

/// Reads the whole piece and compares every line with the directory. Each byte is under a checksum.
pub(crate) fn verify(piece: &[u8]) -> Result<Directory, Damage> {
    let (_, tail_bytes) = piece.split_last_chunk::<TAIL_BYTES>().ok_or(Damage::Tail)?;
    let piece_bytes = piece.len() as u64;
    let tail = Tail::read(tail_bytes, piece_bytes)?;
    let part = |range: Range<u64>| piece.get(range.start as usize..range.end as usize).ok_or(Damage::Tail);
    let directory = directory_of(part(tail.offset..tail.offset + tail.bytes)?, tail_bytes, piece_bytes)?;
    let lines_end = lines_end(&tail);
    if !is_head_of(part(lines_end..tail.offset)?, &tail) {
        return Err(Damage::DirectoryBytes);
    }
    let (mut next, mut raw_bytes) = (0, 0);
    let mut offsets = BTreeSet::new();
    for (number, frame) in directory.frames.iter().enumerate() {
        if frame.offset != next {
            return Err(Damage::Frames);
        }
        let range = frame.range().filter(|range| range.end <= lines_end).ok_or(Damage::Frames)?;
        next = range.end;
        raw_bytes += verify_frame(part(range)?, number, &directory, &mut offsets)?;
    }
    if directory.raw_bytes.is_some_and(|said| said != raw_bytes) {
        return Err(Damage::Books);
    }
    if next != lines_end || offsets.len() as u64 != directory.lines {
        return Err(Damage::Frames);
    }
    let is_lost = |offset: &u64| directory.lost.iter().any(|lost| (lost.from..lost.to).contains(offset));
    if offsets.iter().any(|offset| !(directory.from..directory.to).contains(offset) || is_lost(offset)) {
        return Err(Damage::Lines);
    }
    Ok(directory)
}

/// Says how many bytes its lines have.
fn verify_frame(
    bytes: &[u8],
    number: usize,
    directory: &Directory,
    offsets: &mut BTreeSet<u64>,
) -> Result<u64, Damage> {
    let frame = directory.frames.get(number).ok_or(Damage::Frames)?;
    let queue = directory.place().queue;
    let raw = raw_of(bytes, frame, number)?;
    let lines = read_lines(&raw, number, |line, message| {
        let is_of_here = message.topic == directory.topic && message.queue == queue;
        let room = line.room.as_deref().map(str::to_owned);
        if is_of_here { Ok((room, message.queue_offset)) } else { Err(Damage::Lines) }
    })?;
    let parts = directory.rooms.iter().filter(|part| part.frame as usize == number);
    let mut next = 0;
    for part in parts {
        if part.first_line as usize != next {
            return Err(Damage::Lines);
        }
        next += part.lines as usize;
        let mut before = None;
        for (room, offset) in lines.get(part.first_line as usize..next).ok_or(Damage::Lines)? {
            let is_next = before.replace(*offset).is_none_or(|before| before < *offset);
            if *room != part.room || !is_next || !offsets.insert(*offset) {
                return Err(Damage::Lines);
            }
        }
    }
    let is_whole = next == lines.len() && lines.len() as u64 == frame.lines;
    if is_whole { Ok(raw.len() as u64) } else { Err(Damage::Lines) }
}
