//! The bytes around the lines: zstd frames, the skippable frame with the directory, and the tail that says where it begins.
//!
//! Every program that reads `.zst` passes over a skippable frame. So a piece is one valid file of JSON Lines, and still says at
//! its end where each room lies.

use std::io;

use super::damage::Damage;

/// A frame is closed when its lines have so many bytes, or before.
pub(super) const FRAME_BYTES: usize = 64 << 10;
/// A line may be as large as RocketMQ's largest message, in base64, with its properties.
const MAX_FRAME_BYTES: usize = 64 << 20;
/// More rooms than a queue can hold messages in memory would be needed for so large a directory.
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;
/// 9 would save 3 to 9 % of the bytes, and take five times as long.
const LEVEL: i32 = 3;
/// The first of the 16 magic numbers of skippable frames (RFC 8878), little-endian.
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// Magic number and length.
const SKIPPABLE_HEAD_BYTES: usize = 8;
const TAIL_MAGIC: &[u8; 8] = b"RBPIECE1";

/// The last bytes of every piece.
pub(crate) const TAIL_BYTES: usize = 32;

/// Where the directory lies: its first byte, its length, and the checksum of its compressed bytes. Numbers are little-endian; what
/// is not used is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    pub offset: u64,
    pub bytes: u64,
    pub crc: u32,
}

impl Tail {
    fn write(&self) -> [u8; TAIL_BYTES] {
        let mut tail = [0; TAIL_BYTES];
        let parts: [&[u8]; 5] = [
            &self.offset.to_le_bytes(),
            &self.bytes.to_le_bytes(),
            &self.crc.to_le_bytes(),
            &[0; 4],
            TAIL_MAGIC,
        ];
        for (byte, part) in tail.iter_mut().zip(parts.concat()) {
            *byte = part;
        }
        tail
    }

    /// `piece_bytes`: the length of the whole piece, which the directory must end with.
    pub(super) fn read(tail: &[u8; TAIL_BYTES], piece_bytes: u64) -> Result<Self, Damage> {
        let number =
            |at: usize| tail.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let crc = tail.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let (Some(offset), Some(bytes), Some(crc)) = (number(0), number(8), crc) else {
            return Err(Damage::Tail);
        };
        let found = Self { offset, bytes, crc };
        let end = offset.checked_add(bytes).and_then(|end| end.checked_add(TAIL_BYTES as u64));
        let is_whole = found.write() == *tail
            && end == Some(piece_bytes)
            && offset >= SKIPPABLE_HEAD_BYTES as u64
            && bytes <= MAX_DIRECTORY_BYTES;
        if is_whole { Ok(found) } else { Err(Damage::Tail) }
    }
}

/// Makes frames, one after the other: to begin anew with each would cost as much as the frame.
pub(super) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(super) fn new() -> io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.include_contentsize(true)?;
        Ok(Self(compressor))
    }

    /// One frame, with a checksum.
    pub(super) fn compress(&mut self, raw: &[u8]) -> io::Result<Vec<u8>> {
        self.0.compress(raw)
    }
}

/// One zstd frame, with a checksum.
pub(crate) fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    Compressor::new()?.compress(raw)
}

/// Never makes more than [`MAX_FRAME_BYTES`] of it, whatever it says.
pub(super) fn decompress(frame: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::decompress(frame, MAX_FRAME_BYTES)
}

/// Appends the skippable frame with the directory and the tail.
pub(super) fn append_directory(piece: &mut Vec<u8>, directory: &[u8]) {
    let length = (directory.len() + TAIL_BYTES) as u32;
    piece.extend_from_slice(&SKIPPABLE);
    piece.extend_from_slice(&length.to_le_bytes());
    let tail =
        Tail { offset: piece.len() as u64, bytes: directory.len() as u64, crc: crc32fast::hash(directory) };
    piece.extend_from_slice(directory);
    piece.extend_from_slice(&tail.write());
}

/// What stands before the directory, and what its length is, must be what the tail says.
pub(super) fn is_head_of(head: &[u8], tail: &Tail) -> bool {
    let length = u32::try_from(tail.bytes + TAIL_BYTES as u64).unwrap_or(u32::MAX);
    head == [SKIPPABLE, length.to_le_bytes()].concat()
}

/// Where the lines end.
pub(super) fn lines_end(tail: &Tail) -> u64 {
    tail.offset - SKIPPABLE_HEAD_BYTES as u64
}

/// All frames of a file, one after the other.
#[cfg(test)]
pub(crate) fn decompress_all(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).unwrap_or_default()
}
