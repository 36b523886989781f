//! The frames of the remoting protocol: a request as bytes, and an answer out of bytes.
//!
//! A frame: 4 bytes length of the rest, 1 byte kind of header, 3 bytes length of the header, header, body. We write headers as JSON
//! and read both kinds. Source: `RemotingCommand` and `RocketMQSerializable` of Apache RocketMQ 5.5.0.
//!
//! Promises: a field that is missing, null or of a later version is no error; a length that cannot be is one.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::signature::Keys;

/// RocketMQ's own number of 5.3.1, which the client library says, too.
const VERSION: i32 = 474;
/// One answer holds at most a page of messages (16 MiB) and its header; more is no frame.
const MAX_FRAME_BYTES: usize = 64 << 20;
const LENGTH_BYTES: usize = 4;
/// Its length has three bytes.
const MAX_HEADER_BYTES: usize = 0x00ff_ffff;
const JSON: u8 = 0;
const BINARY: u8 = 1;
/// Bit of `flag`: this frame answers.
const IS_ANSWER: i32 = 1;

/// What is asked: a code of the protocol, the fields of its header, and the body.
pub(crate) struct Request<'a> {
    pub code: i32,
    pub fields: Vec<(&'static str, Cow<'a, str>)>,
    pub body: Bytes,
}

/// What was answered, whatever the code.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub code: i32,
    /// The server's own words; empty if it said nothing.
    pub remark: String,
    /// Not read before somebody asks for one: nobody does of an answer to a send.
    fields: Fields,
    pub body: Bytes,
}

/// The fields of an answer, as they came.
#[derive(Debug, Clone, Default)]
enum Fields {
    #[default]
    Absent,
    /// The whole header.
    Json(Bytes),
    /// Each a name after 2 bytes and a value after 4 bytes of length.
    Binary(Bytes),
}

/// A frame that came in.
#[derive(Debug)]
pub(super) enum Incoming {
    /// With the number of its request.
    Answer(i32, Answer),
    /// Servers ask their clients, too: about transactions and consumer groups, which we do not have.
    Request,
}

/// The bytes are no frame.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes")]
    Length(usize),
    #[error("a header of kind {0}")]
    Kind(u8),
    #[error("a header that ends too early")]
    Short,
    #[error("a header that is no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Answer {
    /// The number in that field, if there is one.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        match self.field(name)? {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn field(&self, name: &str) -> Option<Value> {
        match &self.fields {
            Fields::Absent => None,
            Fields::Json(header) => {
                let JsonFields { ext_fields } = serde_json::from_slice(header).ok()?;
                ext_fields?.remove(name)
            }
            Fields::Binary(fields) => binary_field(fields.clone(), name).ok()?.map(Value::String),
        }
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestHeader<'a> {
    code: i32,
    language: &'static str,
    version: i32,
    opaque: i32,
    flag: i32,
    #[serde(rename = "serializeTypeCurrentRPC")]
    serialize_type: &'static str,
    ext_fields: WrittenFields<'a>,
}

/// A list of names and values, as a JSON object.
struct WrittenFields<'a>(&'a [(&'static str, Cow<'a, str>)]);

impl Serialize for WrittenFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// All of the frame but the body, which follows it on the wire. `keys` sign the request.
pub(super) fn head_of(
    mut request: Request<'_>,
    opaque: i32,
    keys: Option<&Keys>,
) -> Result<Vec<u8>, FrameError> {
    if let Some(keys) = keys {
        keys.sign(&mut request.fields, &request.body);
    }
    let header = RequestHeader {
        code: request.code,
        language: "RUST",
        version: VERSION,
        opaque,
        flag: 0,
        serialize_type: "JSON",
        ext_fields: WrittenFields(&request.fields),
    };
    // Escapes make it longer now and then; the buffer grows then.
    let fields_bytes: usize = request.fields.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut head = Vec::with_capacity(256 + fields_bytes + fields_bytes / 8);
    head.resize(2 * LENGTH_BYTES, 0);
    serde_json::to_writer(&mut head, &header)?;
    let header_bytes = head.len() - 2 * LENGTH_BYTES;
    let rest_bytes = LENGTH_BYTES + header_bytes + request.body.len();
    if rest_bytes > MAX_FRAME_BYTES || header_bytes > MAX_HEADER_BYTES {
        return Err(FrameError::Length(rest_bytes));
    }
    // The highest byte of the header's length is its kind: JSON = 0.
    head[..4].copy_from_slice(&(rest_bytes as u32).to_be_bytes());
    head[4..8].copy_from_slice(&(header_bytes as u32).to_be_bytes());
    Ok(head)
}

/// The next whole frame at the front of the buffer, taken out of it.
pub(super) fn take_frame(buffer: &mut BytesMut) -> Result<Option<Incoming>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let rest_bytes = u32::from_be_bytes(*length) as usize;
    if !(LENGTH_BYTES..=MAX_FRAME_BYTES).contains(&rest_bytes) {
        return Err(FrameError::Length(rest_bytes));
    }
    if buffer.len() < LENGTH_BYTES + rest_bytes {
        // One allocation for a large answer instead of one for each read.
        buffer.reserve(LENGTH_BYTES + rest_bytes - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(LENGTH_BYTES + rest_bytes).freeze();
    frame.advance(LENGTH_BYTES);
    let kind_and_length = frame.get_u32();
    let header_bytes = kind_and_length as usize & MAX_HEADER_BYTES;
    if frame.len() < header_bytes {
        return Err(FrameError::Short);
    }
    let header = frame.split_to(header_bytes);
    let (opaque, flag, answer) = match (kind_and_length >> 24) as u8 {
        JSON => json_header(header, frame)?,
        BINARY => binary_header(header, frame)?,
        kind => return Err(FrameError::Kind(kind)),
    };
    let is_answer = flag & IS_ANSWER != 0;
    Ok(Some(if is_answer { Incoming::Answer(opaque, answer) } else { Incoming::Request }))
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonHeader {
    code: i32,
    opaque: i32,
    #[serde(default)]
    flag: i32,
    remark: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonFields {
    ext_fields: Option<HashMap<String, Value>>,
}

fn json_header(header: Bytes, body: Bytes) -> Result<(i32, i32, Answer), FrameError> {
    let JsonHeader { code, opaque, flag, remark } = serde_json::from_slice(&header)?;
    let (remark, fields) = (remark.unwrap_or_default(), Fields::Json(header));
    Ok((opaque, flag, Answer { code, remark, fields, body }))
}

/// code 2, language 1, version 2, opaque 4, flag 4 bytes; remark after 4 bytes of length; fields after 4 bytes of length.
fn binary_header(mut header: Bytes, body: Bytes) -> Result<(i32, i32, Answer), FrameError> {
    let short = |_| FrameError::Short;
    let code = i32::from(header.try_get_i16().map_err(short)?);
    header.try_get_u8().map_err(short)?;
    header.try_get_i16().map_err(short)?;
    let opaque = header.try_get_i32().map_err(short)?;
    let flag = header.try_get_i32().map_err(short)?;
    let length = header.try_get_u32().map_err(short)?;
    let remark = text(&mut header, length)?;
    let length = header.try_get_u32().map_err(short)?;
    let fields = Fields::Binary(take(&mut header, length)?);
    Ok((opaque, flag, Answer { code, remark, fields, body }))
}

fn binary_field(mut fields: Bytes, wanted: &str) -> Result<Option<String>, FrameError> {
    let short = |_| FrameError::Short;
    while fields.has_remaining() {
        let length = u32::from(fields.try_get_u16().map_err(short)?);
        let name = take(&mut fields, length)?;
        let length = fields.try_get_u32().map_err(short)?;
        let value = text(&mut fields, length)?;
        if name == wanted.as_bytes() {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn take(bytes: &mut Bytes, length: u32) -> Result<Bytes, FrameError> {
    let length = length as usize;
    if bytes.len() < length {
        return Err(FrameError::Short);
    }
    Ok(bytes.split_to(length))
}

fn text(bytes: &mut Bytes, length: u32) -> Result<String, FrameError> {
    Ok(String::from_utf8_lossy(&take(bytes, length)?).into_owned())
}

#[cfg(test)]
mod tests;
