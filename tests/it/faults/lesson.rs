//! What is said in a faulty lesson, and what became of it.

use std::collections::{HashMap, HashSet};

use rumqttc::v5::mqttbytes::QoS;

use crate::support::java_bodies::StoredBody;
use crate::support::mqtt_client::{Message, Published, Publisher, Target};

/// One message: who said it, and its number among all that this publisher says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub publisher: u8,
    pub number: u32,
}

pub const PAYLOAD_BYTES: usize = 200;

#[derive(Debug, Clone, Copy)]
pub struct Lesson {
    pub publishers: u8,
    pub rooms: u32,
    /// Of all publishers together.
    pub per_second: u32,
    pub payload_bytes: usize,
}

impl Lesson {
    pub fn room(self, key: Key) -> u32 {
        key.number % self.rooms
    }

    /// `{publisher}-{room}-{number}`, filled up to `payload_bytes`.
    pub fn payload(self, key: Key) -> Vec<u8> {
        let text = format!("p{}-{}-{} ", key.publisher, self.room(key), key.number);
        let mut payload = text.into_bytes();
        payload.resize(self.payload_bytes, b'x');
        payload
    }

    /// One publisher keeps to one QoS: MQTT orders messages of different QoS only among themselves.
    pub fn message(self, key: Key) -> Message {
        let qos = if key.publisher.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        Message::new(format!("room/message/{}", self.room(key)), self.payload(key)).qos(qos)
    }

    pub fn begin(self, target: &Target) -> Vec<Publisher> {
        let each = self.per_second / u32::from(self.publishers);
        (0..self.publishers)
            .map(|publisher| {
                let name = format!("GID_student@@@{publisher}");
                Publisher::paced(target.clone(), &name, each, move |number| {
                    self.message(Key { publisher, number: number as u32 })
                })
            })
            .collect()
    }
}

/// Whose message a payload is; `None` = not one of the lesson.
pub fn key_of(payload: &[u8]) -> Option<Key> {
    let text = payload.strip_prefix(b"p")?;
    let end = text.iter().position(|byte| *byte == b' ')?;
    let mut numbers = std::str::from_utf8(&text[..end]).ok()?.split('-');
    let publisher = numbers.next()?.parse().ok()?;
    let _room = numbers.next()?;
    Some(Key { publisher, number: numbers.next()?.parse().ok()? })
}

pub fn acknowledged(published: &[Published]) -> HashSet<Key> {
    let mut keys = HashSet::new();
    for (publisher, published) in published.iter().enumerate() {
        keys.extend(
            published
                .acknowledged
                .iter()
                .map(|number| Key { publisher: publisher as u8, number: *number as u32 }),
        );
    }
    keys
}

/// What was found of a lesson in RocketMQ.
#[derive(Debug, Default)]
pub struct Found {
    pub keys: HashSet<Key>,
    /// Further copies of them.
    pub duplicates: u64,
    /// First occurrences of one publisher in one room that came after a later one, and rooms in more than one queue.
    pub order_violations: u64,
    /// Bodies that are not, byte for byte, what was published.
    pub damaged: u64,
    /// Bodies that are not of the lesson.
    pub foreign: u64,
}

impl Found {
    pub fn among(lesson: Lesson, stored: &[StoredBody]) -> Found {
        let mut rows: Vec<&StoredBody> = stored.iter().collect();
        rows.sort_by(|a, b| {
            (&a.broker, a.queue_id, a.queue_offset).cmp(&(&b.broker, b.queue_id, b.queue_offset))
        });
        let mut found = Found::default();
        let mut last: HashMap<(u8, u32), u32> = HashMap::new();
        let mut places: HashMap<u32, HashSet<(&str, u32)>> = HashMap::new();
        for row in rows {
            let Some(key) = key_of(&row.body) else {
                found.foreign += 1;
                continue;
            };
            if row.body != lesson.payload(key) {
                found.damaged += 1;
            }
            let room = lesson.room(key);
            places.entry(room).or_default().insert((&row.broker, row.queue_id));
            if !found.keys.insert(key) {
                found.duplicates += 1;
                continue;
            }
            let before = last.insert((key.publisher, room), key.number);
            if before.is_some_and(|before| before > key.number) {
                found.order_violations += 1;
            }
        }
        let moved = places.values().filter(|places| places.len() > 1).count();
        found.order_violations += moved as u64;
        found
    }
}

#[test]
fn a_lesson_finds_copies_and_disorder() {
    let lesson = Lesson { publishers: 1, rooms: 2, per_second: 1, payload_bytes: PAYLOAD_BYTES };
    let at = |queue_offset, number| StoredBody {
        broker: "a".into(),
        queue_id: 0,
        queue_offset,
        id: String::new(),
        body: lesson.payload(Key { publisher: 0, number }),
    };
    let found = Found::among(lesson, &[at(3, 2), at(1, 4), at(2, 4), at(0, 1)]);
    assert_eq!((found.keys.len(), found.duplicates, found.order_violations), (3, 1, 1));
    let mut moved = at(9, 5);
    moved.queue_id = 1;
    assert_eq!(Found::among(lesson, &[at(0, 1), moved]).order_violations, 1);
}
