//! What a history is asked for, and whether a message belongs to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::record::Record;
use crate::binding::{Identity, MqttDestination, RoomQuery, RuleSet, arrived_ms, identity};
use crate::model::{Kind, StoredMessage};
use crate::piece::{CLOCKS_DIFFER_MS, STORED_LATE_MS, said_ms};
use crate::pipeline::ports::RoomAsked;

/// What to read.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistoryQuery {
    /// The topics and tags to read and the room to compare with, as the rules give them.
    pub places: Vec<RoomQuery>,
    /// They say where a message of another program is heard; `None` = no downlinks, each message stands under its own topic.
    pub rules: Option<Arc<RuleSet>>,
    /// Said at or after this time (see [`said_ms`]), milliseconds since 1970-01-01 UTC; `None` = from the beginning.
    pub from_ms: Option<u64>,
    /// Said before this time, milliseconds since 1970-01-01 UTC; `None` = up to now.
    pub to_ms: Option<u64>,
    /// Only messages of this kind; `None` = of every kind.
    pub kind: Option<Kind>,
    /// Only what was said on this MQTT topic; `None` = on every one.
    pub mqtt_topic: Option<String>,
    /// Only so many of the newest messages, as a chat shows them; `None` = all.
    pub limit: Option<u64>,
    /// Give the messages of the other brokers if a RocketMQ broker with a part of them is away; if `false`, that is an error.
    pub partial: bool,
}

/// When messages were stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stored {
    /// At or after this time; `None` = from the beginning.
    pub from_ms: Option<u64>,
    /// Before this time; `None` = up to now.
    pub to_ms: Option<u64>,
}

impl Stored {
    pub(super) fn holds(self, stored_ms: u64) -> bool {
        self.from_ms.is_none_or(|from| stored_ms >= from) && self.to_ms.is_none_or(|to| stored_ms < to)
    }
}

/// A question to an index.
pub(super) struct AskedOfIndex<'a> {
    room: &'a str,
    topics: Vec<&'a str>,
    kind: Option<Kind>,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    newest: Option<u64>,
}

impl AskedOfIndex<'_> {
    pub(super) fn borrowed(&self) -> RoomAsked<'_> {
        let Self { room, topics, kind, from_ms, to_ms, newest } = self;
        let newest = newest.map(|newest| usize::try_from(newest).unwrap_or(usize::MAX));
        RoomAsked { room, topics, kind: *kind, from_ms: *from_ms, to_ms: *to_ms, newest }
    }
}

impl HistoryQuery {
    /// The topics to read, none of them twice.
    pub(super) fn topics(&self) -> BTreeSet<&str> {
        self.places.iter().map(|place| place.topic.as_str()).collect()
    }

    /// The question for the same room; `None`: it is not for one room. `newest`: only so many rows.
    pub(super) fn asked_of_index(&self, newest: Option<u64>) -> Option<AskedOfIndex<'_>> {
        let room = self.room()?;
        let topics = self.topics();
        let (from_ms, to_ms) = (self.from_ms, self.to_ms);
        Some(AskedOfIndex {
            room,
            topics: topics.into_iter().collect(),
            kind: self.kind,
            from_ms,
            to_ms,
            newest,
        })
    }

    /// The room, if it is for one.
    pub(super) fn room(&self) -> Option<&str> {
        let room = self.places.first()?.room.as_deref()?;
        self.places.iter().all(|place| place.room.as_deref() == Some(room)).then_some(room)
    }

    /// The record, if the query asks for the message.
    pub(super) fn accept(&self, message: &StoredMessage) -> Option<Record> {
        Some(Record::of(self.find(message)?, message))
    }

    /// As [`Self::accept`], for the tests of others.
    #[cfg(test)]
    pub(crate) fn record_of(&self, message: &StoredMessage) -> Option<Record> {
        self.accept(message)
    }

    /// When a message of the range can have been stored: it is stored when it has arrived, by two clocks, or late.
    pub(super) fn stored(&self) -> Stored {
        Stored {
            from_ms: self.from_ms.map(|ms| ms.saturating_sub(CLOCKS_DIFFER_MS)),
            to_ms: self.to_ms.map(|ms| ms.saturating_add(STORED_LATE_MS + 1)),
        }
    }

    /// Which message it is and where it is heard, if the query asks for it. Tags and times only limit what is read; this decides.
    pub(super) fn find(&self, message: &StoredMessage) -> Option<Identity> {
        // Most messages need not be read for this.
        if !self.stored().holds(message.stored_ms) {
            return None;
        }
        let mut found = identity(message);
        let at_ms = said_ms(found.id.is_some(), arrived_ms(&found.properties), message.stored_ms);
        let in_time = self.from_ms.is_none_or(|from| at_ms >= from) && self.to_ms.is_none_or(|to| at_ms < to);
        if !in_time {
            return None;
        }
        let rules = self.rules.as_ref();
        let destination = rules.and_then(|rules| rules.mqtt_destination(message, &found.properties));
        let is_of = |place: &RoomQuery| {
            let destination = destination.as_ref().filter(|_| place.shared);
            let has_tag = |tag: &String| {
                *tag == message.tag || destination.is_some_and(|destination| destination.tag == *tag)
            };
            let in_room = |room: &String| {
                let also = destination.and_then(|destination| destination.room.as_ref());
                found.room.as_ref() == Some(room) || also == Some(room)
            };
            place.topic == message.topic
                && place.tag.as_ref().is_none_or(has_tag)
                && place.room.as_ref().is_none_or(in_room)
        };
        let is_asked = self.places.iter().any(is_of);
        // A message of another program has the topic, room and kind under which it is heard.
        if let Some(MqttDestination { mqtt_topic, room, kind, .. }) = destination
            && found.id.is_none()
        {
            found = Identity { mqtt_topic, room, kind, ..found };
        }
        let is_on = |topic: &String| *topic == found.mqtt_topic;
        let wanted = is_asked
            && self.kind.is_none_or(|kind| kind == found.kind)
            && self.mqtt_topic.as_ref().is_none_or(is_on);
        wanted.then_some(found)
    }
}

/// What to read of a topic.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Distinct<'a> {
    pub topic: &'a str,
    /// Only messages of this tag.
    pub tag: Option<&'a str>,
    /// Only what says itself that it is of this room.
    pub room: Option<&'a str>,
}

/// The topics to read, each with the tags and the room by which a reader may leave something out; none of them twice, although several
/// bindings can lead to the same place. A topic is read without a tag, which means whole, if one place asks for that or if other
/// programs may write to it; then what a message says of its room proves nothing, either.
pub(super) fn distinct_places(places: &[RoomQuery]) -> BTreeSet<Distinct<'_>> {
    places
        .iter()
        .map(|place| {
            let topic = place.topic.as_str();
            let mut of_topic = places.iter().filter(|place| place.topic == topic);
            let is_one_room = (of_topic.clone())
                .all(|other| other.room.is_some() && other.room == place.room && !other.shared);
            let is_whole = of_topic.any(|place| place.tag.is_none() || place.shared);
            let tag = place.tag.as_deref().filter(|_| !is_whole);
            Distinct { topic, tag, room: place.room.as_deref().filter(|_| is_one_room) }
        })
        .collect()
}
