//! What a test lets be said in many rooms, and what must be found of it afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::java::JavaMessage;
use super::mqtt_client::Message;
use rumqttc::v5::mqttbytes::QoS;

/// Message number `n` of publisher `p` goes to room `n % rooms`; its payload says which it is.
pub fn message(publisher: &str, number: u64, rooms: u64) -> Message {
    let room = number % rooms;
    let payload = format!("{publisher} {number} {}", "x".repeat((number % 150) as usize));
    Message::new(format!("room/message/{room}"), payload).qos(QoS::AtLeastOnce)
}

/// What was found of a lesson in the store.
#[derive(Debug, Default)]
pub struct Found {
    /// Different messages.
    pub messages: usize,
    /// Further copies of them.
    pub duplicates: usize,
    /// First occurrences of one publisher in one room that came after a later one.
    pub out_of_order: usize,
    pub lost: Vec<String>,
}

/// Compares payloads, byte for byte, with what was acknowledged to the publishers.
pub fn compare<'a>(
    acknowledged: impl IntoIterator<Item = (&'a str, u64)>,
    rooms: u64,
    stored: &[JavaMessage],
) -> Found {
    let mut by_queue: BTreeMap<(u32, u64), &JavaMessage> = BTreeMap::new();
    for message in stored {
        assert!(by_queue.insert((message.queue_id, message.queue_offset), message).is_none());
    }
    let mut found = Found::default();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let mut last: HashMap<(String, String), u64> = HashMap::new();
    for message in by_queue.values() {
        if !seen.insert(&message.body) {
            found.duplicates += 1;
            continue;
        }
        found.messages += 1;
        let mut words = message.body_text().split(' ');
        let (publisher, number) = (words.next().unwrap(), words.next().unwrap().parse::<u64>().unwrap());
        let key = (publisher.to_owned(), message.property("mqttSecondTopic").unwrap().to_owned());
        if last.insert(key, number).is_some_and(|before| before > number) {
            found.out_of_order += 1;
        }
    }
    for (publisher, number) in acknowledged {
        let payload = self::message(publisher, number, rooms).payload;
        if !seen.contains(&payload[..]) {
            found.lost.push(format!("{publisher} {number}"));
        }
    }
    found
}
