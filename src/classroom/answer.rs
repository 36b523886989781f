//! The bridge's answers to one client.
//!
//! Promises: an answer without details has the vendor's short form (`{"type":"shutUp"}`), which its pages understand.
//! Must never: go anywhere but to the p2p topic of a verified sender, or of the client that a teacher named.

use bytes::Bytes;
use serde::Serialize;

use super::lines::Refusal;
use super::request::{ClassTopic, Delivery, Reason};
use crate::model::{ClientId, RoomId};

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(rename = "roomId", skip_serializing_if = "Option::is_none")]
    room: Option<&'a RoomId>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(rename = "until", skip_serializing_if = "Option::is_none")]
    until_ms: Option<u64>,
}

impl<'a> Body<'a> {
    fn new(name: &'static str, room: Option<&'a RoomId>) -> Self {
        Self { r#type: name, reason: None, detail: None, room, reference: None, until_ms: None }
    }

    fn to(self, client: &ClientId) -> Delivery {
        Delivery::own(ClassTopic::P2p(client.clone()), self.room, json(&self))
    }
}

/// The JSON of one of our own bodies. They hold texts and numbers only, which cannot fail to serialize.
pub(super) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

pub(super) fn muted(target: &ClientId, room: Option<&RoomId>, until_ms: Option<u64>) -> Delivery {
    Body { until_ms, ..Body::new("shutUp", room) }.to(target)
}

pub(super) fn unmuted(target: &ClientId, room: Option<&RoomId>) -> Delivery {
    Body::new("unShutUp", room).to(target)
}

pub(super) fn fence(asker: &ClientId, room: &RoomId, reference: &str) -> Delivery {
    Body { reference: Some(reference), ..Body::new("fence", Some(room)) }.to(asker)
}

pub(super) fn refused(
    sender: &ClientId,
    room: Option<&RoomId>,
    reference: Option<&str>,
    refusal: &Refusal,
) -> Delivery {
    Body {
        reason: Some(refusal.reason),
        detail: Some(&refusal.detail),
        reference,
        until_ms: refusal.until_ms,
        ..Body::new("refused", room)
    }
    .to(sender)
}
