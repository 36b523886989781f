//! What comes in and what goes out: requests, reasons of refusals, deliveries and the ids of deliveries.
//!
//! Promises: the id of a delivery follows from the id of its request. So a request that is judged again after a crash is
//! delivered under the same ids, and readers fold the copies.
//! Must never: change the written form of ids and reasons; stored messages and pages know them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strum::{Display, IntoStaticStr};

use crate::model::{ClientId, MessageId, RoomId};

/// The role of a request's sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SenderRole {
    /// May mute and unmute.
    Teacher,
    /// Everybody else.
    Student,
}

/// One message that was published below `roomSend`.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Id of the message. It must be unique, because copies of changes and deliveries are recognised by it.
    pub source_id: String,
    /// Its topic without the first level.
    pub sub_topic: String,
    /// The verified client id; `None` if nothing proves who sent it.
    pub sender: Option<String>,
    /// By the proof of the embedded broker, else by the group of the client id.
    pub role: SenderRole,
    /// The body, as the client sent it.
    pub payload: Bytes,
    /// When the bridge received it, milliseconds since 1970-01-01 UTC. Mutes and rates go by this time, however late the
    /// request is judged.
    pub arrived_ms: u64,
    /// When it is judged, milliseconds since 1970-01-01 UTC; only answers to refusals are limited by it.
    pub now_ms: u64,
}

/// Why a request is refused. Web pages know this list, so it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr)]
#[cfg_attr(test, derive(strum::VariantArray))]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The body is not what its topic and type ask for, or too large.
    Malformed,
    /// The room id is not legal.
    Room,
    /// The peer is not the sender; or, in a mute, it is a teacher or no legal client id.
    Peer,
    /// The sender is muted there.
    Muted,
    /// Too many of them came, or too many mutes are in force.
    Rate,
    /// Only teachers may do it.
    NotTeacher,
    /// Nothing proves who sent it.
    Unverified,
    /// Its type or its topic is not known.
    Unknown,
}

impl Reason {
    /// The name in answers, records and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Which end of a lesson.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum LessonEdge {
    /// It begins here, whatever was said before.
    Start,
    /// It ends here.
    End,
}

/// Where a delivery goes, below the down parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClassTopic {
    /// `message/{room}`: everybody in the room.
    Room(RoomId),
    /// `p2p/{client}`: one client.
    P2p(ClientId),
    /// `status`: who comes and leaves, for all rooms.
    Status,
    /// `system`: notices, for all rooms.
    System,
    /// `lesson/start/{room}` or `lesson/end/{room}`: stored, and never heard.
    Lesson(LessonEdge, RoomId),
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
            Self::Lesson(edge, room) => format!("lesson/{edge}/{room}"),
        }
    }
}

/// One message to send down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Its number among the deliveries of one request.
    pub ordinal: u32,
    /// Where it goes.
    pub topic: ClassTopic,
    /// The room, so that everything about a room stays in one lane; without a room, the sub-topic.
    pub order_key: String,
    /// The MQTT payload.
    pub body: Bytes,
    /// The verified client that said it; `None` if the bridge itself says it.
    pub sender: Option<ClientId>,
    /// The name that the sender wants to be shown by.
    pub name: Option<String>,
}

impl Delivery {
    /// A message that the bridge itself says; `room`: which room it is about, if any.
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
    MessageId::from_parts(number(&digest[..8]), number(&digest[8..16]))
}
