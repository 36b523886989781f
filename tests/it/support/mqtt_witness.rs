//! Stands between the MQTT broker and the bridge and writes down which messages the bridge acknowledged.
//!
//! It reads PUBLISH and PUBACK from the wire, so its testimony is exact also where the bridge is killed and its
//! counters die with it. It must never change a byte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::tcp_proxy::{Direction, Tap, TcpProxy};

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;

/// Reads from a payload whose message it is; `None` = not a message of the lesson.
pub type KeyOf<K> = fn(&[u8]) -> Option<K>;

/// What the bridge acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged<K> {
    /// Each message with the time of its first PUBACK.
    pub first: HashMap<K, Instant>,
    /// PUBACKs in all, copies too.
    pub pubacks: u64,
    /// PUBACKs for an identifier that was not open on that connection.
    pub strays: u64,
    /// PUBLISHes that were delivered to the bridge.
    pub delivered: u64,
}

pub struct MqttWitness<K> {
    proxy: TcpProxy,
    notes: Arc<Notes<K>>,
}

struct Notes<K> {
    key_of: KeyOf<K>,
    connections: Mutex<HashMap<u64, Connection<K>>>,
    acknowledged: Mutex<Acknowledged<K>>,
}

struct Connection<K> {
    from_bridge: Vec<u8>,
    to_bridge: Vec<u8>,
    open: HashMap<u16, Option<K>>,
}

impl<K: std::hash::Hash + Eq + Copy + Send + 'static> MqttWitness<K> {
    pub fn start(broker_port: u16, key_of: KeyOf<K>) -> MqttWitness<K> {
        let acknowledged = Acknowledged { first: HashMap::new(), pubacks: 0, strays: 0, delivered: 0 };
        let notes = Arc::new(Notes {
            key_of,
            connections: Mutex::new(HashMap::new()),
            acknowledged: Mutex::new(acknowledged),
        });
        let proxy = TcpProxy::start_with(broker_port, Some(notes.clone()));
        MqttWitness { proxy, notes }
    }

    /// The network between the broker and the bridge, to break it.
    pub fn network(&self) -> &TcpProxy {
        &self.proxy
    }

    pub fn port(&self) -> u16 {
        self.proxy.port()
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.proxy.port())
    }

    pub fn acknowledged_count(&self) -> usize {
        self.notes.acknowledged().first.len()
    }

    pub fn acknowledged(&self) -> Acknowledged<K> {
        self.notes.acknowledged().clone()
    }
}

impl<K> Notes<K> {
    fn acknowledged(&self) -> std::sync::MutexGuard<'_, Acknowledged<K>> {
        self.acknowledged.lock().expect("nobody panics while holding the notes")
    }
}

impl<K: std::hash::Hash + Eq + Copy + Send + 'static> Tap for Notes<K> {
    fn bytes(&self, number: u64, direction: Direction, bytes: &[u8]) {
        let mut connections = self.connections.lock().expect("nobody panics while holding the notes");
        let connection = connections.entry(number).or_insert_with(|| Connection {
            from_bridge: Vec::new(),
            to_bridge: Vec::new(),
            open: HashMap::new(),
        });
        match direction {
            Direction::ToClient => {
                connection.to_bridge.extend_from_slice(bytes);
                let open = &mut connection.open;
                let mut delivered = 0;
                each_packet(&mut connection.to_bridge, |first, body| {
                    if let (PUBLISH, Some((identifier, payload))) = (first >> 4, publish(first, body)) {
                        delivered += 1;
                        open.insert(identifier, (self.key_of)(payload));
                    }
                });
                self.acknowledged().delivered += delivered;
            }
            Direction::FromClient => {
                connection.from_bridge.extend_from_slice(bytes);
                let open = &mut connection.open;
                let mut acknowledged = self.acknowledged();
                let now = Instant::now();
                each_packet(&mut connection.from_bridge, |first, body| {
                    if first >> 4 != PUBACK || body.len() < 2 {
                        return;
                    }
                    acknowledged.pubacks += 1;
                    match open.remove(&u16::from_be_bytes([body[0], body[1]])) {
                        Some(Some(key)) => drop(acknowledged.first.entry(key).or_insert(now)),
                        Some(None) => {}
                        None => acknowledged.strays += 1,
                    }
                });
            }
        }
    }

    fn closed(&self, number: u64) {
        self.connections.lock().expect("nobody panics while holding the notes").remove(&number);
    }
}

/// Calls `each` with the first byte and the body of every whole packet, and leaves the rest in `buffer`.
fn each_packet(buffer: &mut Vec<u8>, mut each: impl FnMut(u8, &[u8])) {
    let mut start = 0;
    while let Some((length, header)) = variable_length(&buffer[start.min(buffer.len())..], 1) {
        let end = start + header + length;
        if end > buffer.len() {
            break;
        }
        each(buffer[start], &buffer[start + header..end]);
        start = end;
    }
    buffer.drain(..start);
}

/// A variable byte integer at `at`, and where the bytes behind it start; `None` while it is not whole.
fn variable_length(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.get(at..)?.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, at + index + 1));
        }
    }
    None
}

/// Packet identifier and payload of an MQTT 5 PUBLISH with QoS 1 or 2.
fn publish(first: u8, body: &[u8]) -> Option<(u16, &[u8])> {
    if first & 0b110 == 0 {
        return None;
    }
    let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let identifier = u16::from_be_bytes([*body.get(topic + 2)?, *body.get(topic + 3)?]);
    let (properties, behind) = variable_length(body, topic + 4)?;
    Some((identifier, body.get(behind + properties..)?))
}

#[test]
fn packets_are_read_whatever_pieces_they_come_in() {
    let packet = super::scripted_broker::publish(7, false, "room/message/1", "hello");
    let mut buffer = Vec::new();
    let mut seen = Vec::new();
    for byte in packet.iter().chain(&packet) {
        buffer.push(*byte);
        each_packet(&mut buffer, |first, body| {
            let (identifier, payload) = publish(first, body).unwrap();
            seen.push((identifier, payload.to_vec()));
        });
    }
    assert_eq!(seen, [(7, b"hello".to_vec()), (7, b"hello".to_vec())]);
    assert!(buffer.is_empty());
}
