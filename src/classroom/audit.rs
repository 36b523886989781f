//! The archive's record of what was said, muted and refused.
//!
//! Promises: one record for each such request, recognisable by its source id when the request is judged again.
//! Must never: hold more than 1 KiB of a body.

use serde::{Deserialize, Serialize};

use super::request::{Reason, Request};
use crate::model::{ClientId, RoomId};

const MAX_DETAIL_BYTES: usize = 1024;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuditAction {
    Said,
    Muted,
    Unmuted,
    Refused,
    Noticed,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Audit {
    /// When the request arrived.
    pub at_ms: u64,
    #[serde(rename = "roomId")]
    pub room: Option<RoomId>,
    /// The verified sender.
    pub sender: Option<ClientId>,
    pub what: AuditAction,
    pub reason: Option<Reason>,
    pub source_id: String,
    /// The beginning of the body: a stranger's text, to be escaped where it is shown.
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

    /// Of a notice, which comes by another door than the requests. `by`: the teacher, if it was one.
    pub(crate) fn of_notice(
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
            what: AuditAction::Noticed,
            reason: None,
            source_id: source_id.to_owned(),
            detail: beginning(text.as_bytes()),
        }
    }
}

fn beginning(body: &[u8]) -> String {
    let head = &body[..body.len().min(MAX_DETAIL_BYTES)];
    let mut text = String::from_utf8_lossy(head).into_owned();
    // What is no UTF-8 has become longer.
    text.truncate(text.floor_char_boundary(MAX_DETAIL_BYTES));
    text
}
