//! An MQTT client that writes and reads its packets byte by byte, so that a test sees exactly what the broker sends.
//! It speaks 3.1.1 and 5, over TCP and over WebSocket.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bytes::{self, masked_frame, packet, remaining_length, text, user_properties};
pub use crate::hello::{Hello, hello, kept};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;
pub const UNSUBACK: u8 = 11;
pub const PINGRESP: u8 = 13;
pub const DISCONNECT: u8 = 14;

pub const NOT_AUTHORIZED: u8 = 0x87;
pub const QUOTA_EXCEEDED: u8 = 0x97;

const PONG_FRAME: u8 = 0x8a;

#[derive(Debug)]
pub struct Packet {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub retain: bool,
}

pub type UserProperties = Vec<(String, String)>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnAck {
    pub session_present: bool,
    pub code: u8,
}

pub struct Wire {
    stream: TcpStream,
    version: u8,
    is_websocket: bool,
    received: Vec<u8>,
    messages: VecDeque<(Message, UserProperties)>,
    next_id: u16,
}

impl Wire {
    pub async fn open(port: u16) -> TcpStream {
        TcpStream::connect(("127.0.0.1", port)).await.unwrap()
    }

    pub fn over(stream: TcpStream, version: u8, is_websocket: bool) -> Self {
        Self { stream, version, is_websocket, received: Vec::new(), messages: VecDeque::new(), next_id: 0 }
    }

    /// Whatever the answer is.
    pub async fn try_connect(port: u16, hello: &Hello<'_>) -> (Self, ConnAck) {
        let mut wire = Self::over(Self::open(port).await, hello.version, false);
        let answer = wire.say_hello(hello).await;
        (wire, answer)
    }

    /// Must be accepted.
    pub async fn connect(port: u16, hello: &Hello<'_>) -> Self {
        let (wire, answer) = Self::try_connect(port, hello).await;
        assert_eq!(answer.code, 0, "the CONNACK of {}", hello.id);
        wire
    }

    pub async fn say_hello(&mut self, hello: &Hello<'_>) -> ConnAck {
        self.send(&hello.bytes()).await;
        let answer = self.expect(CONNACK).await;
        ConnAck { session_present: answer.body[0] == 1, code: answer.body[1] }
    }

    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        if self.is_websocket {
            self.stream.write_all(&masked_frame(0x82, bytes)).await.unwrap();
        } else {
            self.stream.write_all(bytes).await.unwrap();
        }
    }

    pub async fn send_frame(&mut self, first_byte: u8, payload: &[u8]) {
        let frame = masked_frame(first_byte, payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next packet, or `None` when the broker has closed the connection. A PUBREL is answered on the way.
    pub async fn next(&mut self) -> Option<Packet> {
        let read = async {
            loop {
                match self.take_packet() {
                    Some(release) if release.kind == PUBREL => {
                        let complete = packet(0x70, &release.body[..2]);
                        self.send(&complete).await;
                        continue;
                    }
                    Some(packet) => return Some(packet),
                    None => {}
                }
                let mut chunk = vec![0; 64 << 10];
                match self.stream.read(&mut chunk).await {
                    Ok(0) => return None,
                    Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, read).await.expect("a packet or the end of the connection")
    }

    fn take_packet(&mut self) -> Option<Packet> {
        // The broker writes one packet in each WebSocket message.
        let header = if self.is_websocket {
            match self.received.get(1)? {
                length @ 0..=125 => (2, usize::from(*length)),
                126 => {
                    let length: [u8; 2] = self.received.get(2..4)?.try_into().unwrap();
                    (4, usize::from(u16::from_be_bytes(length)))
                }
                other => panic!("a WebSocket frame with length code {other}"),
            }
        } else {
            remaining_length(&self.received)?
        };
        let end = header.0 + header.1;
        if self.received.len() < end {
            return None;
        }
        let mut bytes: Vec<_> = self.received.drain(..end).collect();
        if self.is_websocket {
            if bytes[0] == PONG_FRAME {
                return self.take_packet();
            }
            bytes.drain(..header.0);
        }
        let (start, length) = remaining_length(&bytes).expect("a whole packet");
        assert_eq!(bytes.len(), start + length, "one packet");
        Some(Packet { kind: bytes[0] >> 4, flags: bytes[0] & 0x0f, body: bytes.split_off(start) })
    }

    /// The next packet that is no PUBLISH; those are kept for [`Wire::message`].
    pub async fn expect(&mut self, kind: u8) -> Packet {
        loop {
            let packet = self.next().await.unwrap_or_else(|| panic!("closed instead of packet {kind}"));
            if packet.kind == PUBLISH {
                self.keep(&packet).await;
                continue;
            }
            assert_eq!(packet.kind, kind, "{packet:?}");
            return packet;
        }
    }

    /// Nothing but the end of the connection.
    pub async fn expect_closed(&mut self) {
        if let Some(packet) = self.next().await {
            panic!("{packet:?} instead of the end of the connection");
        }
    }

    /// The next message, acknowledged.
    pub async fn message(&mut self) -> Message {
        self.message_and_properties().await.0
    }

    pub async fn message_and_properties(&mut self) -> (Message, UserProperties) {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            let packet = self.next().await.expect("a message, but the broker closed");
            assert_eq!(packet.kind, PUBLISH, "{packet:?}");
            self.keep(&packet).await;
        }
    }

    /// The next message, or `None` when the broker ends the connection.
    pub async fn message_or_end(&mut self) -> Option<Message> {
        let packet = self.next().await?;
        if packet.kind == DISCONNECT {
            return None;
        }
        assert_eq!(packet.kind, PUBLISH, "{packet:?}");
        self.keep(&packet).await;
        self.messages.pop_front().map(|(message, _)| message)
    }

    async fn keep(&mut self, packet: &Packet) {
        let qos = (packet.flags >> 1) & 3;
        let topic_end = 2 + usize::from(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        let id_end = topic_end + if qos > 0 { 2 } else { 0 };
        let id = &packet.body[topic_end..id_end];
        let (properties, payload) = match self.version {
            5 => {
                let length = packet.body[id_end];
                assert!(length < 128, "short properties");
                packet.body[id_end + 1..].split_at(usize::from(length))
            }
            _ => packet.body[id_end..].split_at(0),
        };
        match qos {
            0 => {}
            1 => self.send(&bytes::packet(0x40, id)).await,
            _ => self.send(&bytes::packet(0x50, id)).await,
        }
        let message = Message {
            topic: String::from_utf8(packet.body[2..topic_end].to_vec()).unwrap(),
            payload: String::from_utf8(payload.to_vec()).unwrap(),
            qos,
            retain: packet.flags & 1 == 1,
        };
        self.messages.push_back((message, user_properties(properties)));
    }

    fn id(&mut self) -> [u8; 2] {
        self.next_id += 1;
        self.next_id.to_be_bytes()
    }

    pub async fn send_publish(&mut self, topic: &str, qos: u8, retain: bool, payload: &str) {
        let mut body = text(topic.as_bytes());
        if qos > 0 {
            body.extend(self.id());
        }
        if self.version == 5 {
            body.push(0);
        }
        body.extend(payload.as_bytes());
        self.send(&packet(0x30 | (qos << 1) | u8::from(retain), &body)).await;
    }

    /// Waits until the broker has taken it; must be allowed.
    pub async fn publish(&mut self, topic: &str, qos: u8, payload: &str) {
        self.publish_with(topic, qos, false, payload).await;
    }

    pub async fn publish_with(&mut self, topic: &str, qos: u8, retain: bool, payload: &str) {
        self.send_publish(topic, qos, retain, payload).await;
        match qos {
            0 => self.ping().await,
            1 => assert_eq!(reason(&self.expect(PUBACK).await), 0, "the PUBACK of {topic}"),
            _ => {
                let received = self.expect(PUBREC).await;
                assert_eq!(reason(&received), 0, "the PUBREC of {topic}");
                self.send(&packet(0x62, &received.body[..2])).await;
                assert_eq!(reason(&self.expect(PUBCOMP).await), 0);
            }
        }
    }

    pub async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        self.expect(PINGRESP).await;
    }

    pub async fn send_subscribe(&mut self, filters: &[(&str, u8)]) {
        let mut body = self.id().to_vec();
        if self.version == 5 {
            body.push(0);
        }
        for (filter, qos) in filters {
            body.extend(text(filter.as_bytes()));
            body.push(*qos);
        }
        self.send(&packet(0x82, &body)).await;
    }

    /// The code of each filter.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.send_subscribe(filters).await;
        let mut answer = self.expect(SUBACK).await;
        let codes = answer.body.len() - filters.len();
        answer.body.split_off(codes)
    }

    pub async fn unsubscribe(&mut self, filter: &str) {
        let mut body = self.id().to_vec();
        if self.version == 5 {
            body.push(0);
        }
        body.extend(text(filter.as_bytes()));
        self.send(&packet(0xa2, &body)).await;
        self.expect(UNSUBACK).await;
    }

    /// A goodbye, and the broker's end of the connection.
    pub async fn goodbye(mut self) {
        self.send(&[0xe0, 0]).await;
        while let Some(packet) = self.next().await {
            assert_eq!(packet.kind, PUBLISH, "{packet:?}");
        }
    }
}

/// Of an acknowledgement: 0 where none is written.
pub fn reason(packet: &Packet) -> u8 {
    packet.body.get(2).copied().unwrap_or_default()
}
