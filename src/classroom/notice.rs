//! System notices to a room.
//!
//! Promises: a notice is short, names its room and stays in the room's lane.
//! Must never: decide who may give one; the callers check that.

use serde::Serialize;

use super::answer::json;
use super::request::{ClassTopic, Delivery};
use crate::model::RoomId;

pub(crate) const MAX_NOTICE_BYTES: usize = 4096;

/// Why a text makes no notice.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoticeError {
    #[error("the notice has no text; write something")]
    Empty,
    #[error("the notice has {0} bytes; shorten it to {MAX_NOTICE_BYTES}")]
    TooLong(usize),
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "roomId")]
    room: &'a RoomId,
    text: &'a str,
    time: u64,
}

/// A notice to everybody in the room. It answers no request, so the caller must choose the id that its own is derived from.
pub(crate) fn notice(room: &RoomId, text: &str, now_ms: u64) -> Result<Delivery, NoticeError> {
    if text.trim().is_empty() {
        return Err(NoticeError::Empty);
    }
    if text.len() > MAX_NOTICE_BYTES {
        return Err(NoticeError::TooLong(text.len()));
    }
    let body = json(&Body { room, text, time: now_ms });
    Ok(Delivery::own(ClassTopic::System, Some(room), body))
}
