//! The binding as the rest of the program sees it.

mod bind;
mod down;
mod explain;
mod query;
mod round_trip;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::{BindingConfig, SenderSource};
use crate::model::{
    Arrival, Envelope, MessageIds, MqttProperties, Qos, QueueName, SessionStamp, StoredMessage,
    StoredProperties,
};

const KEY: &[u8] = b"a key of this deployment";

/// A binding with nothing but defaults.
fn binding(filter: &str) -> BindingConfig {
    BindingConfig {
        filter: filter.to_owned(),
        topic: "{0}".to_owned(),
        tag: "{sub}".to_owned(),
        room: None,
        kind: None,
        order_key: None,
        order_key_field: None,
        sender: None,
    }
}

fn settings() -> BindingSettings {
    BindingSettings { origin_key: KEY.to_vec(), max_message_bytes: 4 << 20 }
}

fn rules(bindings: &[BindingConfig]) -> RuleSet {
    RuleSet::compile(bindings, settings()).unwrap()
}

fn sent_by(sender: SenderSource) -> RuleSet {
    rules(&[BindingConfig { sender: Some(sender), ..binding("room/#") }])
}

fn message(topic: &str, payload: &[u8]) -> Envelope {
    Envelope {
        id: MessageIds::new(0xfeed).next_id(),
        maybe_copy_of: None,
        arrival: Arrival {
            session: SessionStamp::new("bridge 5f"),
            connection: 3,
            sequence: 17,
            generation: 2,
            wall_ms: 1_795_456_789_123,
            monotonic: Duration::from_secs(1),
        },
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(payload),
        qos: Qos::AtLeastOnce,
        retain: false,
        duplicate: false,
        packet_id: 7,
        properties: MqttProperties::default(),
    }
}

/// The room that it is stored with.
fn room_of(bound: &Bound) -> Option<String> {
    read_back(&stored(bound)).room
}

fn property<'a>(bound: &'a Bound, wanted: &str) -> Option<&'a str> {
    bound.message.property(wanted)
}

/// What RocketMQ gives back: our properties and those that it adds.
fn stored(bound: &Bound) -> StoredMessage {
    let mut properties: StoredProperties = bound.message.properties.user().collect();
    let count = bound.message.properties.user().count();
    assert_eq!(properties.sorted().len(), count, "a property was written twice");
    properties.insert("KEYS", bound.message.keys());
    properties.insert("UNIQ_KEY", "7F000001");
    StoredMessage {
        topic: bound.topic.to_string(),
        tag: bound.message.tag().to_owned(),
        keys: bound.message.keys().to_owned(),
        queue: QueueName { broker: "broker-a".into(), id: 3 },
        queue_offset: 9,
        stored_ms: 0,
        born_ms: 0,
        flag: 0,
        properties,
        body: bound.message.body.clone(),
    }
}
