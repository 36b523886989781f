//! What comes in and what goes out: requests, reasons of refusals, deliveries and the ids of deliveries.
//!
//! Promises: the id of a delivery follows from the id of its request, so that a request that is judged again after a
//! crash is delivered under the same ids, by which readers fold.
//! Must never: change the written form of ids and reasons; stored messages and pages know them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{ClientId, RoomId};
use crate::model::{MessageId, MessageIds};

/// What the gatekeeper found out about the sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SenderRole {
    Teacher,
    Student,
}

/// One message that was published below `roomSend`.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The id of the message; must be unique, because changes and deliveries are recognised by it.
    pub source_id: String,
    /// What follows the first level of its topic.
    pub sub_topic: String,
    /// The verified client id; `None` where nobody vouches for one.
    pub sender: Option<String>,
    pub role: SenderRole,
    pub payload: Bytes,
    /// When the bridge received it: by this time mutes and rates are judged, however late that is done.
    pub arrived_ms: u64,
    pub now_ms: u64,
}

/// Why a request is refused: a closed list that pages know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    Malformed,
    /// The room id is not legal.
    Room,
    /// The peer is not the sender, or can be nobody's target.
    Peer,
    Muted,
    Rate,
    NotTeacher,
    /// Nobody vouches for the sender.
    Unverified,
    /// A type or a topic that is not known.
    Unknown,
}

impl Reason {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 8] = [
        Self::Malformed,
        Self::Room,
        Self::Peer,
        Self::Muted,
        Self::Rate,
        Self::NotTeacher,
        Self::Unverified,
        Self::Unknown,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Room => "room",
            Self::Peer => "peer",
            Self::Muted => "muted",
            Self::Rate => "rate",
            Self::NotTeacher => "not_teacher",
            Self::Unverified => "unverified",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a delivery goes, below the down parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClassTopic {
    Room(RoomId),
    P2p(ClientId),
    Status,
    System,
}

impl ClassTopic {
    /// Below that parent topic.
    pub(crate) fn topic(&self, parent: &str) -> String {
        format!("{parent}/{}", self.sub_topic())
    }

    /// What follows the parent topic, without the slash between.
    pub(crate) fn sub_topic(&self) -> String {
        match self {
            Self::Room(room) => format!("message/{room}"),
            Self::P2p(client) => format!("p2p/{client}"),
            Self::Status => "status".to_owned(),
            Self::System => "system".to_owned(),
        }
    }
}

/// One message to send down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Its number among the deliveries of one request.
    pub ordinal: u32,
    pub topic: ClassTopic,
    /// The room, so that everything about a room stays in its lane; without one, the sub-topic.
    pub order_key: String,
    pub body: Bytes,
    /// The verified client that said it; `None` for the bridge's own words.
    pub sender: Option<ClientId>,
    /// The name that the sender wants to be shown by.
    pub name: Option<String>,
}

impl Delivery {
    /// The bridge's own words, about a room or about none.
    pub(super) fn own(place: ClassTopic, room: Option<&RoomId>, body: Bytes) -> Self {
        Self {
            ordinal: 0,
            order_key: room.map_or_else(|| place.sub_topic(), RoomId::to_string),
            topic: place,
            body,
            sender: None,
            name: None,
        }
    }
}

/// The id of a delivery. Part of the stored layout: must never change.
pub(crate) fn derived_id(source_id: &str, ordinal: u32) -> MessageId {
    let mut hasher = Sha256::new();
    hasher.update(b"rbDerived1\0");
    hasher.update(source_id.as_bytes());
    hasher.update(ordinal.to_be_bytes());
    let digest = hasher.finalize();
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (nonce, counter) = (number(&digest[..8]), number(&digest[8..16]));
    // Only a text becomes an id of two given numbers. This one always does, so the second way is never taken.
    let text = format!("{nonce:016x}-{counter:x}");
    text.parse().unwrap_or_else(|_| MessageIds::new(nonce).next_id())
}
