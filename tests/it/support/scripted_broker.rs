//! An MQTT 5 broker that does exactly what a story says, byte by byte, and writes down every PUBACK.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(10);

const CONNECT: u8 = 1;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;

/// Listens; each connection is a scene of its own.
pub struct ScriptedBroker {
    listener: TcpListener,
}

/// One connection of the bridge to the scripted broker.
pub struct Scene {
    stream: TcpStream,
    /// Body of each PUBLISH of this connection by packet identifier; the last one holds it.
    pub sent: HashMap<u16, String>,
    /// PUBACKs that came before a request.
    acknowledged: VecDeque<u16>,
}

impl ScriptedBroker {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection, up to its CONNECT; nothing is answered yet.
    pub async fn accept(&self) -> Scene {
        let (stream, _) =
            tokio::time::timeout(DEADLINE, self.listener.accept()).await.expect("a connection").unwrap();
        stream.set_nodelay(true).unwrap();
        let mut scene = Scene { stream, sent: HashMap::new(), acknowledged: VecDeque::new() };
        let (kind, _) = scene.read_packet().await.expect("CONNECT");
        assert_eq!(kind, CONNECT);
        scene
    }

    /// Whether somebody opens a TCP connection within that time.
    pub async fn is_connected_to(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.listener.accept()).await.is_ok()
    }

    /// The next connection, with CONNACK and SUBACK.
    pub async fn accept_session(&self, session_present: bool) -> Scene {
        let mut scene = self.accept().await;
        scene.write(&connack(session_present)).await;
        scene.serve_subscribe().await;
        scene
    }
}

/// A SUBSCRIBE or UNSUBSCRIBE for one filter.
#[derive(Debug, Clone)]
pub struct Request {
    pub is_unsubscribe: bool,
    pub packet_id: u16,
    pub identifier: Option<u32>,
    pub filter: String,
}

impl Scene {
    /// The next SUBSCRIBE or UNSUBSCRIBE.
    pub async fn next_request(&mut self) -> Request {
        loop {
            let (kind, body) = tokio::time::timeout(DEADLINE, self.read_packet())
                .await
                .expect("a request in time")
                .expect("a request");
            match kind {
                SUBSCRIBE | UNSUBSCRIBE => return request(kind == UNSUBSCRIBE, &body),
                PINGREQ => self.write(&[0xd0, 0]).await,
                PUBACK => self.acknowledged.push_back(u16::from_be_bytes([body[0], body[1]])),
                other => panic!("packet type {other} instead of a request"),
            }
        }
    }

    /// SUBACK or UNSUBACK with that reason code.
    pub async fn answer(&mut self, request: &Request, code: u8) {
        let kind = if request.is_unsubscribe { 0xb0 } else { 0x90 };
        let [high, low] = request.packet_id.to_be_bytes();
        self.write(&[kind, 4, high, low, 0, code]).await;
    }

    /// A PUBLISH of these subscriptions.
    pub async fn deliver(&mut self, packet_id: u16, topic: &str, body: &str, identifiers: &[u32]) {
        self.sent.insert(packet_id, body.to_owned());
        self.write(&publish_for(packet_id, topic, body, identifiers)).await;
    }

    pub async fn serve_subscribe(&mut self) {
        loop {
            let (kind, body) = self.read_packet().await.expect("SUBSCRIBE");
            if kind == SUBSCRIBE {
                let suback = [0x90, 4, body[0], body[1], 0, 1];
                return self.write(&suback).await;
            }
        }
    }

    pub async fn publish(&mut self, packet_id: u16, duplicate: bool, topic: &str, body: &str) {
        let bytes = self.packet(packet_id, duplicate, topic, body);
        self.write(&bytes).await;
    }

    /// The bytes of a PUBLISH, QoS 1, which the story sends by itself.
    pub fn packet(&mut self, packet_id: u16, duplicate: bool, topic: &str, body: &str) -> Vec<u8> {
        self.sent.insert(packet_id, body.to_owned());
        publish(packet_id, duplicate, topic, body)
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Everything in one write and then the end of the stream.
    pub async fn write_and_finish(mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.shutdown().await.unwrap();
    }

    /// The packet identifiers of the next PUBACKs.
    pub async fn pubacks(&mut self, count: usize) -> Vec<u16> {
        let mut acks = Vec::new();
        while acks.len() < count {
            acks.push(
                self.next_puback(DEADLINE).await.unwrap_or_else(|| panic!("{count} PUBACKs, got {acks:?}")),
            );
        }
        acks
    }

    /// The next PUBACK within that time.
    pub async fn next_puback(&mut self, within: Duration) -> Option<u16> {
        if let Some(packet_id) = self.acknowledged.pop_front() {
            return Some(packet_id);
        }
        tokio::time::timeout(within, async {
            loop {
                let (kind, body) = self.read_packet().await?;
                match kind {
                    PUBACK => return Some(u16::from_be_bytes([body[0], body[1]])),
                    PINGREQ => self.write(&[0xd0, 0]).await,
                    UNSUBSCRIBE => self.write(&[0xb0, 4, body[0], body[1], 0, 0]).await,
                    DISCONNECT => return None,
                    other => panic!("packet type {other} is not part of any story"),
                }
            }
        })
        .await
        .ok()
        .flatten()
    }

    /// The next packet but PINGREQ, which is answered: its first byte and what follows the length.
    pub async fn next_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.read_bytes()).await;
            let (first, body) = next.expect("a packet, or the end")?;
            if first >> 4 != PINGREQ {
                return Some((first, body));
            }
            self.write(&[0xd0, 0]).await;
        }
    }

    /// `None` when the bridge closed the connection.
    async fn read_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, body) = self.read_bytes().await?;
        Some((first >> 4, body))
    }

    async fn read_bytes(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }
}

/// CONNACK that lets in and has these properties.
pub fn connack_with(session_present: bool, properties: &[u8]) -> Vec<u8> {
    refusal(u8::from(session_present), 0, properties)
}

/// CONNACK with that code and these properties.
pub fn refusal(flags: u8, code: u8, properties: &[u8]) -> Vec<u8> {
    let length = properties.len() as u8;
    let mut bytes = vec![0x20, 3 + length, flags, code, length];
    bytes.extend(properties);
    bytes
}

/// A property that is a text.
pub fn text_property(identifier: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![identifier, 0, text.len() as u8];
    bytes.extend(text.bytes());
    bytes
}

pub fn connack(session_present: bool) -> [u8; 5] {
    [0x20, 3, u8::from(session_present), 0, 0]
}

/// DISCONNECT with reason 0x8E, session taken over.
pub const TAKEN_OVER: [u8; 4] = [0xe0, 2, 0x8e, 0];

pub fn publish(packet_id: u16, duplicate: bool, topic: &str, body: &str) -> Vec<u8> {
    publish_bytes(packet_id, duplicate, topic, body, &[])
}

/// With the identifiers of the subscriptions that it is for.
pub fn publish_for(packet_id: u16, topic: &str, body: &str, identifiers: &[u32]) -> Vec<u8> {
    let mut properties = Vec::new();
    for identifier in identifiers {
        properties.push(0x0b);
        variable_length(*identifier as usize, &mut properties);
    }
    publish_bytes(packet_id, false, topic, body, &properties)
}

fn publish_bytes(packet_id: u16, duplicate: bool, topic: &str, body: &str, properties: &[u8]) -> Vec<u8> {
    let mut rest = (topic.len() as u16).to_be_bytes().to_vec();
    rest.extend(topic.as_bytes());
    rest.extend(packet_id.to_be_bytes());
    variable_length(properties.len(), &mut rest);
    rest.extend(properties);
    rest.extend(body.as_bytes());
    let mut bytes = vec![0x32 | (u8::from(duplicate) << 3)];
    variable_length(rest.len(), &mut bytes);
    bytes.extend(rest);
    bytes
}

fn variable_length(mut value: usize, bytes: &mut Vec<u8>) {
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

fn request(is_unsubscribe: bool, body: &[u8]) -> Request {
    let properties = &body[3..3 + usize::from(body[2])];
    let identifier = properties.split_first().map(|(kind, value)| {
        assert_eq!(*kind, 0x0b, "a subscription identifier");
        let bytes = value.iter().enumerate();
        bytes.fold(0, |value, (place, byte)| value | (u32::from(byte & 0x7f) << (7 * place)))
    });
    let filter = &body[3 + properties.len()..];
    let length = usize::from(u16::from_be_bytes([filter[0], filter[1]]));
    Request {
        is_unsubscribe,
        packet_id: u16::from_be_bytes([body[0], body[1]]),
        identifier,
        filter: String::from_utf8(filter[2..2 + length].to_vec()).unwrap(),
    }
}
