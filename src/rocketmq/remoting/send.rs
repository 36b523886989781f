//! The request that stores messages in one queue.
//!
//! Messages go as SEND_BATCH_MESSAGE, also a small one that is alone: its properties then lie in the body, and not as JSON in the
//! header. A large one that is alone goes as SEND_MESSAGE_V2: a broker then says with a code of its own that it is too large.
//! Source: `SendMessageRequestHeaderV2` and `MessageDecoder.encodeMessages` of Apache RocketMQ 5.5.0.
//!
//! Promises: each message is written once, as RocketMQ's own clients write it; a message that RocketMQ's format cannot hold is an
//! error, never another message.

use std::borrow::Cow;

use bytes::{BufMut, Bytes};

use super::frame::Request;
use super::uniq_key::UniqKeys;
use crate::model::OutgoingMessage;
use crate::pipeline::ports::Batch;

const SEND_MESSAGE_V2: i32 = 310;
const SEND_BATCH_MESSAGE: i32 = 320;
/// The two properties that a client adds: name, U+0001, value, U+0002.
const UNIQ_KEY: &[u8] = b"UNIQ_KEY\x01";
const END_AND_WAIT: &[u8] = b"\x02WAIT\x01true\x02";
/// Total size, magic code, checksum, flag and length of the body, before the body.
const FRAME_BYTES: usize = 20;
/// Smaller than the limit of any broker, which is 4 MiB by default.
const SMALL_BYTES: usize = 4 << 10;

/// RocketMQ's format cannot hold the message.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unwritable {
    #[error("the message has no body")]
    NoBody,
    #[error("a property is empty or holds U+0001 or U+0002")]
    Property,
    #[error("the properties take {0} bytes, and 32767 are the most")]
    Properties(usize),
}

/// Asks a broker to store the batch in its queue. `group`: of the producer.
pub(crate) fn send_request<'a>(
    batch: &'a Batch,
    group: &'a str,
    ids: &UniqKeys,
    now_ms: u64,
) -> Result<Request<'a>, Unwritable> {
    let writer = Writer { ids, month_ms: ids.month_ms(now_ms) };
    let (code, properties, body) = match batch.messages.as_slice() {
        [message] if message.encoded_bytes() > SMALL_BYTES => {
            let mut properties = Vec::with_capacity(message.encoded_bytes());
            writer.properties(message, &mut properties)?;
            // They are UTF-8, because all of their parts are.
            let properties = String::from_utf8(properties).map_err(|_| Unwritable::Property)?;
            (SEND_MESSAGE_V2, properties, message.body.clone())
        }
        messages => (SEND_BATCH_MESSAGE, String::new(), writer.messages(messages)?),
    };
    let number = |number: i64| Cow::Owned(number.to_string());
    let is_batch = if code == SEND_BATCH_MESSAGE { "true" } else { "false" };
    let fields = vec![
        ("a", Cow::Borrowed(group)),
        ("b", Cow::Borrowed(&*batch.topic)),
        // Where the broker would find a template for the topic, if it may create topics.
        ("c", Cow::Borrowed("TBW102")),
        ("d", Cow::Borrowed("4")),
        ("e", number(batch.queue.id.into())),
        ("f", Cow::Borrowed("0")),
        ("g", number(now_ms as i64)),
        ("h", Cow::Borrowed("0")),
        ("i", Cow::Owned(properties)),
        ("j", Cow::Borrowed("0")),
        ("k", Cow::Borrowed("false")),
        ("m", Cow::Borrowed(is_batch)),
        ("n", Cow::Borrowed(&*batch.queue.broker)),
    ];
    Ok(Request { code, fields, body })
}

struct Writer<'a> {
    ids: &'a UniqKeys,
    month_ms: u32,
}

impl Writer<'_> {
    fn messages(&self, messages: &[OutgoingMessage]) -> Result<Bytes, Unwritable> {
        let most_bytes = messages.iter().map(OutgoingMessage::encoded_bytes).sum();
        let mut bytes = Vec::with_capacity(most_bytes);
        for message in messages {
            self.message(message, &mut bytes)?;
        }
        Ok(bytes.into())
    }

    fn message(&self, message: &OutgoingMessage, bytes: &mut Vec<u8>) -> Result<(), Unwritable> {
        if message.body.is_empty() {
            return Err(Unwritable::NoBody);
        }
        let start = bytes.len();
        bytes.put_bytes(0, FRAME_BYTES - 4);
        bytes.put_u32(message.body.len() as u32);
        bytes.put_slice(&message.body);
        let properties_start = bytes.len();
        bytes.put_u16(0);
        self.properties(message, bytes)?;
        let properties_bytes = bytes.len() - properties_start - 2;
        let total_bytes = bytes.len() - start;
        set(bytes, properties_start, &(properties_bytes as u16).to_be_bytes());
        set(bytes, start, &(total_bytes as u32).to_be_bytes());
        Ok(())
    }

    fn properties(&self, message: &OutgoingMessage, bytes: &mut Vec<u8>) -> Result<(), Unwritable> {
        if !message.properties.is_storable() {
            return Err(Unwritable::Property);
        }
        let start = bytes.len();
        bytes.put_slice(message.properties.as_str().as_bytes());
        bytes.put_slice(UNIQ_KEY);
        bytes.put_slice(&self.ids.next(self.month_ms));
        bytes.put_slice(END_AND_WAIT);
        let properties_bytes = bytes.len() - start;
        if properties_bytes > i16::MAX as usize {
            return Err(Unwritable::Properties(properties_bytes));
        }
        Ok(())
    }
}

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(value) {
        *byte = *new;
    }
}

#[cfg(test)]
mod tests;
