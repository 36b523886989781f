//! The archive against a RocketMQ in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::tz::TimeZone;

use super::*;
use crate::binding::RoomQuery;
use crate::model::{
    FailureKind, Kind, MessageId, MqttMessage, QueueName, StoredMessage, StoredProperties, TopicFilter,
};
use crate::pipeline::ports::{Page, PublishError, Publisher, ReadError, Reader};

mod ahead;
mod away;
mod changed;
mod emptied;
mod indexed;
mod latest;
mod measure;
mod model;
mod order;
mod pace;
mod replay;
mod whole;
mod world;

/// Two queues of topic `room`. Filters by the length of the tag only, as a broker that filters by hash may.
#[derive(Default)]
struct Memory {
    queues: BTreeMap<i32, Vec<StoredMessage>>,
    away: Vec<String>,
}

impl Memory {
    fn store(&mut self, queue_id: i32, stored_ms: u64, room: &str, id: Option<u64>, text: &str) {
        let queue = self.queues.entry(queue_id).or_default();
        let id = id.map(message_id);
        let keys = id.map_or_else(|| "foreign".to_owned(), |id| format!("{room} {id}"));
        let topic = format!("room/message/{room}");
        let mut properties = StoredProperties::from_iter([("topic", topic)]);
        if let Some(id) = id {
            properties.insert("rbId", id.to_string());
        }
        properties.insert("rbArrivedMs", (stored_ms - 5).to_string());
        queue.push(StoredMessage {
            topic: "room".to_owned(),
            tag: format!("message/{room}"),
            keys,
            queue: QueueName { broker: Arc::from("a"), id: queue_id },
            queue_offset: queue.len() as u64,
            stored_ms,
            born_ms: stored_ms,
            flag: 0,
            properties,
            body: Bytes::copy_from_slice(text.as_bytes()),
        });
    }
}

impl Reader for Memory {
    fn away<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        let away = self.away.iter().filter(|_| topic == "room").cloned().collect();
        Box::pin(async move { Ok(away) })
    }

    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async move {
            if topic != "room" {
                return Err(ReadError {
                    what: topic.to_owned(),
                    cause: "missing".to_owned(),
                    kind: FailureKind::TopicMissing,
                });
            }
            Ok(self.queues.keys().map(|id| QueueName { broker: Arc::from("a"), id: *id }).collect())
        })
    }

    fn offsets<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        Box::pin(async move { Ok((0, self.queues[&queue.id].len() as u64)) })
    }

    fn offset_at<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        let earlier = move |message: &&StoredMessage| message.stored_ms < stored_ms;
        Box::pin(async move { Ok(self.queues[&queue.id].iter().take_while(earlier).count() as u64) })
    }

    fn pull<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
        tag: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        let same_hash = move |message: &&StoredMessage| tag.is_none_or(|tag| tag.len() == message.tag.len());
        let stored = self.queues[&queue.id].iter().skip(from_offset as usize).take(limit as usize);
        let next_offset = from_offset + stored.clone().count() as u64;
        Box::pin(async move {
            Ok(Page {
                messages: stored.filter(same_hash).cloned().collect(),
                next_offset,
                first: 0,
                end: self.queues[&queue.id].len() as u64,
            })
        })
    }
}

fn message_id(number: u64) -> MessageId {
    MessageId::from_parts(0xaa, number)
}

fn room(room: &str) -> HistoryQuery {
    let place = |topic: &str| RoomQuery {
        topic: topic.to_owned(),
        tag: Some(format!("message/{room}")),
        shared: false,
        room: Some(room.to_owned()),
        kind: Some(Kind::Message),
    };
    HistoryQuery { places: vec![place("never-written"), place("room")], ..HistoryQuery::default() }
}

async fn records(memory: &Memory, query: HistoryQuery) -> Vec<Record> {
    let mut history = History::open(memory, query, &mut |_| {}).await.unwrap();
    let expected = history.len();
    let mut records = Vec::new();
    while let Some(record) = history.next().await.unwrap() {
        records.push(record);
    }
    assert_eq!(records.len() as u64, expected, "what was announced is what comes out");
    records
}

async fn texts(memory: &Memory, query: HistoryQuery) -> Vec<String> {
    let text = |record: Record| match record.payload {
        Payload::Text(text) | Payload::Base64(text) => text,
    };
    records(memory, query).await.into_iter().map(text).collect()
}

#[tokio::test]
async fn queues_are_merged_by_store_time_and_each_keeps_its_order() {
    // given a room that moved from one queue to the other, and a broker's clock that went back in between
    let mut memory = Memory::default();
    memory.store(0, 1_000, "1", Some(1), "a");
    memory.store(0, 3_000, "1", Some(2), "c");
    memory.store(0, 2_900, "1", Some(3), "d");
    memory.store(1, 2_000, "1", Some(4), "b");
    memory.store(1, 4_000, "1", Some(5), "e");

    assert_eq!(texts(&memory, room("1")).await, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn copies_are_folded_by_id_at_the_first_and_equal_texts_are_not() {
    // given a message with two copies, one of them much later on another queue, and the same text by someone else
    let mut memory = Memory::default();
    memory.store(0, 1_000, "1", Some(1), "hi");
    memory.store(0, 1_001, "1", Some(2), "hi");
    memory.store(0, 1_002, "1", Some(1), "hi");
    memory.store(1, 90_000_000, "1", Some(1), "hi");
    memory.store(1, 90_000_001, "1", None, "hi");
    memory.store(1, 90_000_002, "1", None, "hi");

    let records = records(&memory, room("1")).await;

    let shown: Vec<_> = records.iter().map(|record| (record.id, record.duplicates)).collect();
    assert_eq!(shown, [(Some(message_id(1)), 2), (Some(message_id(2)), 0), (None, 0), (None, 0)]);
    let line = records[0].text_line(&TimeZone::UTC);
    assert!(line.ends_with("hi  (2 copies folded)"), "{line}");
}

/// Rule 15: an id proves nothing, because anybody who writes to RocketMQ can write any.
#[tokio::test]
async fn two_bodies_under_one_id_are_both_shown_and_marked() {
    let mut memory = Memory::default();
    memory.store(0, 1_000, "1", Some(1), "come at eight");
    memory.store(0, 1_001, "1", Some(2), "yes");
    memory.store(1, 1_002, "1", Some(1), "come at nine");
    memory.store(0, 1_003, "1", Some(1), "come at eight");
    memory.store(1, 1_004, "1", Some(1), "come at nine");

    let all = records(&memory, room("1")).await;

    let shown: Vec<_> = all.iter().map(|one| (&*one.bytes, one.duplicates, one.conflict)).collect();
    let expected =
        [(&b"come at eight"[..], 1, true), (&b"yes"[..], 0, false), (&b"come at nine"[..], 1, true)];
    assert_eq!(shown, expected);
    let line = all[2].text_line(&TimeZone::UTC);
    assert!(
        line.ends_with("come at nine  (1 copy folded)  (conflict: another message has the same id)"),
        "{line}"
    );
    let json: Vec<_> = all.iter().map(|one| serde_json::to_value(one).unwrap()).collect();
    assert_eq!((json[0].get("conflict"), json[1].get("conflict")), (Some(&true.into()), None));
    // Also where the other one is not shown.
    let last = records(&memory, HistoryQuery { limit: Some(1), ..room("1") }).await;
    assert_eq!(last, all[2..]);
}

#[tokio::test]
async fn two_bindings_that_lead_to_one_place_do_not_double_a_message() {
    let mut memory = Memory::default();
    memory.store(0, 1_000, "1", Some(1), "once");
    memory.store(0, 1_001, "1", None, "foreign");

    // the same tag twice, and then one of them without a filter on the server
    for tag_of_the_second in [Some("message/1".to_owned()), None] {
        let mut query = room("1");
        let mut second = query.places[1].clone();
        second.tag = tag_of_the_second;
        query.places.push(second);
        let records = records(&memory, query).await;
        let shown: Vec<_> = records.iter().map(|record| (record.id, record.duplicates)).collect();
        assert_eq!(shown, [(Some(message_id(1)), 0), (None, 0)]);
    }
}

#[tokio::test]
async fn only_the_exact_room_comes_out_although_its_tag_shares_a_hash() {
    let mut memory = Memory::default();
    memory.store(0, 1_000, "7", Some(1), "mine");
    memory.store(0, 1_001, "8", Some(2), "not mine");

    assert_eq!(texts(&memory, room("7")).await, ["mine"]);

    // and where the server cannot filter, the room alone decides
    let mut query = room("8");
    query.places[1].tag = None;
    assert_eq!(texts(&memory, query).await, ["not mine"]);
}

#[tokio::test]
async fn limit_gives_the_last_ones_and_counts_no_copies() {
    let mut memory = Memory::default();
    for number in 0..700 {
        memory.store(number % 2, 1_000 + number as u64, "1", Some(number as u64), &number.to_string());
    }
    memory.store(0, 5_000, "1", Some(699), "699");

    assert_eq!(texts(&memory, HistoryQuery { limit: Some(2), ..room("1") }).await, ["698", "699"]);
    assert_eq!(texts(&memory, room("1")).await.len(), 700);
}

#[tokio::test]
async fn from_is_in_and_to_is_out_to_the_millisecond() {
    let mut memory = Memory::default();
    for minute in 0..10 {
        memory.store(0, 1_000_000 + minute * 60_000, "1", Some(minute), &minute.to_string());
    }
    let query = HistoryQuery { from_ms: Some(1_179_995), to_ms: Some(1_299_995), ..room("1") };
    assert_eq!(texts(&memory, query).await, ["3", "4"]);

    let other = HistoryQuery { kind: Some(Kind::Command), ..room("1") };
    assert!(texts(&memory, other).await.is_empty());
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_said_by_name() {
    let mut query = room("1");
    query.places.truncate(1);
    let error = History::open(&Memory::default(), query, &mut |_| {}).await.err().unwrap();
    assert!(error.to_string().contains("no topic never-written"), "{error}");
}

#[tokio::test]
async fn a_line_cannot_command_the_terminal() {
    let mut memory = Memory::default();
    memory.store(0, 1_795_514_400_128, "1", Some(1), "\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}two\nlines");
    let record = records(&memory, room("1")).await.remove(0);

    assert_eq!(
        record.text_line(&TimeZone::UTC),
        "2026-11-24 10:00:00.123 +00:00  message  -  \\u{1b}]0;owned\\u{7}\\u{9b}31m\\u{202e}two\\nlines"
    );
    let mut json = Vec::new();
    record.write(&mut json, true, &TimeZone::UTC).unwrap();
    let json = String::from_utf8(json).unwrap();
    assert_eq!(json.trim_end().chars().find(|character| !(' '..='~').contains(character)), None, "{json}");
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["payload"], "\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}two\nlines");
}

#[tokio::test]
async fn the_json_fields_are_the_promised_ones() {
    let mut memory = Memory::default();
    memory.store(1, 1_795_514_400_128, "1", Some(1), "hi");
    let record = records(&memory, room("1")).await.remove(0);
    let expected = serde_json::json!({
        "id": "00000000000000aa-1", "room": "1", "kind": "message", "mqtt_topic": "room/message/1",
        "rocketmq_topic": "room", "tag": "message/1", "broker": "a", "queue_id": 1, "queue_offset": 0,
        "received_at": "2026-11-24T10:00:00.123Z", "stored_at": "2026-11-24T10:00:00.128Z",
        "properties": {"topic": "room/message/1", "rbId": "00000000000000aa-1", "rbArrivedMs": "1795514400123"},
        "payload": "hi", "duplicates": 0,
    });
    assert_eq!(serde_json::to_value(&record).unwrap(), expected);
}

#[derive(Default)]
struct Heard(Vec<(String, MqttMessage)>);

impl Publisher for Heard {
    fn publish(&mut self, message: MqttMessage) -> BoxFuture<'_, Result<(), PublishError>> {
        self.0.push((message.topic.clone(), message));
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_replayed_message_names_its_original_and_leaves_out_what_the_transport_added() {
    let mut memory = Memory::default();
    memory.store(0, 1_000, "1", Some(1), "hi");
    let pairs = r#"[{"key":"a","value":"1"},{"key":"x-mqtt-sender","value":"z"},{"key":"a","value":"2"}]"#;
    let properties = &mut memory.queues.get_mut(&0).unwrap()[0].properties;
    properties.insert("mqtt5UserProperty", pairs);
    properties.insert("mqtt5ContentType", "text/plain");
    let record = records(&memory, room("1")).await.remove(0);
    let mut heard = Heard::default();
    let prefix = Prefix::new("replay/one", [&filter("room/#")]).unwrap();

    MqttOutput { publisher: &mut heard, prefix }.play(&record).await.unwrap();

    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (topic, message) = heard.0.remove(0);
    assert_eq!(topic, "replay/one/room/message/1");
    assert_eq!(
        message.properties.user,
        [pair("a", "1"), pair("a", "2"), pair("rbReplay", "00000000000000aa-1")]
    );
    assert_eq!(
        (&message.payload[..], message.properties.content_type.as_deref()),
        (&b"hi"[..], Some("text/plain"))
    );
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

#[test]
fn a_prefix_that_would_loop_is_refused() {
    let refused = |prefix: &str, text: &str| {
        matches!(Prefix::new(prefix, [&filter(text)]), Err(BadPrefix::Loop { .. }))
    };
    for (prefix, filter) in [
        ("room", "room/#"),
        ("room/x", "room/#"),
        ("replay", "#"),
        ("replay", "+/room/#"),
        ("replay", "replay/room/message/+"),
        ("a/b", "a/+/c"),
    ] {
        assert!(refused(prefix, filter), "{prefix} under {filter}");
    }
    for (prefix, filter) in [("replay", "room/#"), ("replay", "replay"), ("a/b", "a/+"), ("rooms", "room/#")]
    {
        assert!(!refused(prefix, filter), "{prefix} under {filter}");
    }
    for wrong in ["", "/a", "a/", "a/+", "#", "$SYS", "a\nb"] {
        assert!(matches!(Prefix::new(wrong, []), Err(BadPrefix::Syntax(_))), "{wrong:?}");
    }
}

#[test]
fn a_speed_is_a_factor_or_max() {
    assert_eq!("1".parse(), Ok(Speed::Times(1.0)));
    assert_eq!("x4".parse(), Ok(Speed::Times(4.0)));
    assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
    assert_eq!("MAX".parse(), Ok(Speed::Max));
    for wrong in ["0", "-1", "x", "inf", "NaN", "fast"] {
        assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
    }
}
