//! RocketMQ's format of a stored message, as a pull hands it out.
//!
//! Numbers are big-endian: total size 4 bytes, magic number 4, checksum of the body 4, queue 4, flag 4, offset in the queue 8,
//! offset in the log 8, system flag 4, time of birth 8, the producer's address 8 or 20, store time 8, the broker's address 8
//! or 20, number of deliveries 4, offset of its transaction 8; then body, topic and properties, each behind its length. Source:
//! `MessageDecoder` and `MessageSysFlag` of Apache RocketMQ 5.5.0.
//!
//! Promises: bytes that are no message are an error, whatever they are; a body is not copied unless it was compressed.
//! Must never: trust a length, or decompress more than a stated size.

use std::borrow::Cow;
use std::io::{self, Read};

use bytes::{Buf, Bytes};

use crate::model::{QueueName, StoredMessage, StoredProperties};

const MAGIC: u32 = 0xdaa3_20a7;
/// The length of the topic has two bytes instead of one.
const MAGIC_LONG_TOPIC: u32 = 0xdaa3_20ab;
/// Bits of the system flag.
const COMPRESSED: i32 = 1;
const PRODUCER_HAS_IPV6: i32 = 1 << 4;
const BROKER_HAS_IPV6: i32 = 1 << 5;
/// Separators of properties: name, U+0001, value, U+0002.
const NAME_END: char = '\u{1}';
const VALUE_END: char = '\u{2}';
/// As much as a frame may hold. A compressed body may say anything of its size.
const MAX_BODY_BYTES: usize = 64 << 20;
/// How LZ4's format of files and streams begins.
const LZ4_FRAME: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The bytes are no message.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it ends too early")]
    Short,
    #[error("it begins with {0:#010x}, as no message does")]
    Magic(u32),
    #[error("its topic is no UTF-8")]
    Topic,
    #[error("its body is compressed in an unknown way ({0})")]
    Compression(i32),
    #[error("its body cannot be decompressed: {0}")]
    Body(io::Error),
}

impl From<bytes::TryGetError> for Unreadable {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

/// Takes the message at the front. `queue`: where it was pulled from; the message names only its number.
pub(crate) fn take_message(bytes: &mut Bytes, queue: &QueueName) -> Result<StoredMessage, Unreadable> {
    let total_bytes = bytes.clone().try_get_u32()? as usize;
    if total_bytes > bytes.len() {
        return Err(Unreadable::Short);
    }
    let frame = bytes.split_to(total_bytes);
    let mut rest = frame.get(4..).ok_or(Unreadable::Short)?;
    let magic = rest.try_get_u32()?;
    if magic != MAGIC && magic != MAGIC_LONG_TOPIC {
        return Err(Unreadable::Magic(magic));
    }
    // Checksum and queue.
    take(&mut rest, 8)?;
    let flag = rest.try_get_i32()?;
    let queue_offset = rest.try_get_i64()?;
    rest.try_get_i64()?;
    let system_flag = rest.try_get_i32()?;
    let address_bytes = |bit| if system_flag & bit == 0 { 8 } else { 20 };
    let born_ms = rest.try_get_i64()?;
    take(&mut rest, address_bytes(PRODUCER_HAS_IPV6))?;
    let stored_ms = rest.try_get_i64()?;
    take(&mut rest, address_bytes(BROKER_HAS_IPV6))?;
    // Number of deliveries and offset of the transaction.
    take(&mut rest, 12)?;
    let length = rest.try_get_u32()?;
    let body = take(&mut rest, length as usize)?;
    let length = if magic == MAGIC { rest.try_get_u8()?.into() } else { rest.try_get_u16()? };
    let topic = str::from_utf8(take(&mut rest, length.into())?).map_err(|_| Unreadable::Topic)?;
    let length = rest.try_get_u16()?;
    let properties = properties_of(take(&mut rest, length.into())?);
    let own = |name: &str| properties.get(name).unwrap_or_default().to_owned();
    Ok(StoredMessage {
        topic: topic.to_owned(),
        tag: own("TAGS"),
        keys: own("KEYS"),
        queue: queue.clone(),
        queue_offset: not_negative(queue_offset),
        stored_ms: not_negative(stored_ms),
        born_ms: not_negative(born_ms),
        flag,
        properties,
        body: match system_flag & COMPRESSED {
            0 => frame.slice_ref(body),
            _ if body.is_empty() => Bytes::new(),
            _ => decompressed(body, system_flag >> 8 & 7)?,
        },
    })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Unreadable> {
    rest.split_off(..length).ok_or(Unreadable::Short)
}

fn not_negative(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A part without a name or without a value is none.
fn properties_of(bytes: &[u8]) -> StoredProperties {
    // The check alone is faster than the search for what to replace.
    let text = str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    let pairs = text.split(VALUE_END).filter_map(|pair| pair.split_once(NAME_END));
    pairs.filter(|(name, value)| !name.is_empty() && !value.is_empty()).collect()
}

/// `kind`: 1 = LZ4, 2 = Zstandard, 3 = zlib, and so is every message of RocketMQ 4.x, which says 0.
fn decompressed(body: &[u8], kind: i32) -> Result<Bytes, Unreadable> {
    let whole = match kind {
        0 | 3 => read_whole(flate2::read::ZlibDecoder::new(body)),
        1 if body.starts_with(&LZ4_FRAME) => read_whole(lz4_flex::frame::FrameDecoder::new(body)),
        1 => lz4_block(body),
        2 => zstd::Decoder::new(body).and_then(read_whole),
        kind => return Err(Unreadable::Compression(kind)),
    };
    whole.map(Bytes::from).map_err(Unreadable::Body)
}

fn read_whole(body: impl Read) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    body.take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut whole)?;
    if whole.len() > MAX_BODY_BYTES { Err(too_large()) } else { Ok(whole) }
}

/// As the Rust client writes LZ4: the length in four little-endian bytes, then one block.
fn lz4_block(mut body: &[u8]) -> io::Result<Vec<u8>> {
    let length = body.try_get_u32_le()? as usize;
    if length > MAX_BODY_BYTES {
        return Err(too_large());
    }
    lz4_flex::block::decompress(body, length).map_err(io::Error::other)
}

fn too_large() -> io::Error {
    io::Error::other(format!("it would be larger than {MAX_BODY_BYTES} bytes"))
}

#[cfg(test)]
mod tests;
