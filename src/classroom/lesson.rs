//! Marks that say where a lesson begins and ends, beside the silence that parts lessons otherwise.
//!
//! Promises: a mark names its room and stays in the room's lane, so it stands between the lines where it was given.
//! Must never: decide who may give one; the callers check that.

use serde::Serialize;

use super::answer::json;
use super::request::{ClassTopic, Delivery, LessonEdge};
use crate::model::RoomId;

pub(crate) const MAX_TITLE_BYTES: usize = 256;

/// Why a mark cannot be given.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LessonMarkError {
    #[error("the title has {0} bytes; shorten it to {MAX_TITLE_BYTES}")]
    TooLong(usize),
    #[error(
        "there is nowhere to store it: no binding matches its MQTT topic, or the binding cannot; the log says why"
    )]
    NotBound,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "roomId")]
    room: &'a RoomId,
    lesson: LessonEdge,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    time: u64,
}

/// A mark. It answers no request, so the caller must choose the id that its own is derived from.
pub(crate) fn lesson_mark(
    room: &RoomId,
    edge: LessonEdge,
    title: Option<&str>,
    now_ms: u64,
) -> Result<Delivery, LessonMarkError> {
    let title = title.map(str::trim).filter(|title| !title.is_empty());
    if let Some(bytes) = title.map(str::len).filter(|bytes| *bytes > MAX_TITLE_BYTES) {
        return Err(LessonMarkError::TooLong(bytes));
    }
    let body = json(&Body { room, lesson: edge, title, time: now_ms });
    Ok(Delivery::own(ClassTopic::Lesson(edge, room.clone()), Some(room), body))
}
