//! The archive's record of what was said, muted and refused.
//!
//! Promises: one record for each such request. When the request is judged again after a crash, its record has the same
//! source id, by which readers recognise the copy.
//! Must never: hold more than 1 KiB of a body.

use serde::{Deserialize, Serialize};

use super::request::{Reason, Request};
use crate::model::{ClientId, RoomId};

const MAX_DETAIL_BYTES: usize = 1024;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuditAction {
    /// A line was delivered to its room.
    Said,
    /// A teacher muted somebody.
    Muted,
    /// A teacher lifted a mute.
    Unmuted,
    /// A request was refused.
    Refused,
    /// Somebody gave a room a notice.
    Noticed,
    /// Somebody marked where a lesson begins.
    LessonStarted,
    /// Somebody marked where a lesson ends.
    LessonEnded,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Audit {
    /// When the request arrived, milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// The room that the request names; `None` = all rooms, or no legal room.
    #[serde(rename = "roomId")]
    pub room: Option<RoomId>,
    /// The verified sender; `None` if nothing proves who sent it.
    pub sender: Option<ClientId>,
    /// What was done about it.
    pub what: AuditAction,
    /// Why it was refused; `None` if it was not.
    pub reason: Option<Reason>,
    /// Id of the request, or of the notice.
    pub source_id: String,
    /// The first 1,024 bytes of the body. It is a stranger's text, so whoever shows it escapes it.
    pub detail: String,
}

impl Audit {
    pub(super) fn of(
        request: &Request,
        room: Option<&RoomId>,
        sender: Option<&ClientId>,
        what: AuditAction,
        reason: Option<Reason>,
    ) -> Self {
        Self {
            at_ms: request.arrived_ms,
            room: room.cloned(),
            sender: sender.cloned(),
            what,
            reason,
            source_id: request.source_id.clone(),
            detail: beginning(&request.payload),
        }
    }

    /// The record of a notice or of a mark, which comes over HTTP and not as a request on MQTT. `by`: the teacher who gave it; `None`
    /// if the application's server did, or a token without a client.
    pub(crate) fn of_own(
        what: AuditAction,
        room: &RoomId,
        text: &str,
        by: Option<&ClientId>,
        source_id: &str,
        at_ms: u64,
    ) -> Self {
        Self {
            at_ms,
            room: Some(room.clone()),
            sender: by.cloned(),
            what,
            reason: None,
            source_id: source_id.to_owned(),
            detail: beginning(text.as_bytes()),
        }
    }
}

fn beginning(body: &[u8]) -> String {
    let head = &body[..body.len().min(MAX_DETAIL_BYTES)];
    let mut text = String::from_utf8_lossy(head).into_owned();
    // Bytes that are not UTF-8 became replacement characters, which are longer.
    text.truncate(text.floor_char_boundary(MAX_DETAIL_BYTES));
    text
}
