//! A piece of the archive: one immutable file with what a range of offsets of one message queue held.
//!
//! `docs/ARCHIVE.md` documents the format for other programs: zstd frames of JSON Lines, and a directory at the end.
//!
//! Promises: a message that was written is read back as it was stored; the same messages give the same bytes; each offset of the
//! range is a line, skipped, erased or lost, and a piece whose books do not balance is not read; no changed byte stays unseen.
//! Must never: do IO, read a clock, or trust a length that it reads.

mod damage;
mod directory;
mod frame;
mod key;
mod line;
mod reader;
mod taken;
mod writer;

pub(crate) use damage::Damage;
pub(crate) use directory::{Directory, FramePart, Lost, RoomPart};
#[cfg(test)]
pub(crate) use frame::decompress_all;
pub(crate) use frame::{TAIL_BYTES, compress};
pub(crate) use key::{PieceKey, Place, claims_of, day_of};
pub(crate) use line::{CLOCKS_DIFFER_MS, STORED_LATE_MS, at_ms, line_of, said_ms};
#[cfg(test)]
pub(crate) use reader::messages_of;
pub(crate) use reader::{LinePlace, directory_of, directory_range, each_line, message_of, verify};
pub(crate) use taken::Taken;
pub(crate) use writer::PieceWriter;

#[cfg(test)]
mod tests;
