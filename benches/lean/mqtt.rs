//! The few packets of MQTT 5 that lean needs, and its PUBACKs in the order of the PUBLISHes.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// Client id "lean", keep alive 60 s, session expiry 3600 s, receive maximum 1000; the session goes on.
const CONNECT: &[u8] =
    b"\x10\x19\x00\x04MQTT\x05\x00\x00\x3c\x08\x11\x00\x00\x0e\x10\x21\x03\xe8\x00\x04lean";
/// `room/#` with QoS 1.
const SUBSCRIBE: &[u8] = b"\x82\x0c\x00\x01\x00\x00\x06room/#\x01";
const PUBLISH: u8 = 3;
const PUBACK: u8 = 0x40;

/// Returns before the SUBACK.
pub async fn open_session(socket: &mut TcpStream) -> io::Result<()> {
    socket.write_all(CONNECT).await?;
    let mut head = [0; 2];
    socket.read_exact(&mut head).await?;
    let mut connack = vec![0; usize::from(head[1])];
    socket.read_exact(&mut connack).await?;
    socket.write_all(SUBSCRIBE).await
}

pub struct Publish<'a> {
    pub topic: &'a [u8],
    /// 0 with QoS 0.
    pub packet_id: u16,
    pub payload: &'a [u8],
}

impl Publish<'_> {
    /// The last level of the topic.
    pub fn room(&self) -> &[u8] {
        let slash = self.topic.iter().rposition(|byte| *byte == b'/');
        &self.topic[slash.map_or(0, |slash| slash + 1)..]
    }
}

/// The whole packets at the beginning of a buffer.
pub struct Packets<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl<'a> Packets<'a> {
    pub fn new(bytes: &'a [u8]) -> Packets<'a> {
        Packets { bytes, read: 0 }
    }

    /// Passes over packets of other kinds.
    pub fn next_publish(&mut self) -> Option<Publish<'a>> {
        loop {
            let bytes = &self.bytes[self.read..];
            let kind = *bytes.first()?;
            let (length, digits) = variable_number(&bytes[1..])?;
            let packet = bytes.get(1 + digits..1 + digits + length)?;
            self.read += 1 + digits + length;
            if kind >> 4 == PUBLISH {
                return publish(packet, kind & 6 != 0);
            }
        }
    }

    /// So many bytes are done with.
    pub fn read(&self) -> usize {
        self.read
    }
}

fn publish(packet: &[u8], has_id: bool) -> Option<Publish<'_>> {
    let (topic_length, rest) = packet.split_first_chunk()?;
    let (topic, mut rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*topic_length)))?;
    let mut packet_id = 0;
    if has_id {
        let (id, after) = rest.split_first_chunk()?;
        (packet_id, rest) = (u16::from_be_bytes(*id), after);
    }
    let (properties, digits) = variable_number(rest)?;
    Some(Publish { topic, packet_id, payload: rest.get(digits + properties..)? })
}

/// The number, and how many bytes it takes.
fn variable_number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, index + 1));
        }
    }
    None
}

/// What came and is not acknowledged, oldest first.
#[derive(Default)]
pub struct Acknowledgements {
    waiting: VecDeque<(u16, bool)>,
    /// The number of the oldest that waits.
    oldest: u64,
}

impl Acknowledgements {
    /// Returns the number of the message, which `stored` asks for.
    pub fn expect(&mut self, packet_id: u16) -> u64 {
        self.waiting.push_back((packet_id, false));
        self.oldest + self.waiting.len() as u64 - 1
    }

    pub fn stored(&mut self, number: u64) {
        self.waiting[(number - self.oldest) as usize].1 = true;
    }

    /// The PUBACKs of those before which nothing waits.
    pub fn write_due(&mut self, out: &mut Vec<u8>) {
        while let Some((packet_id, true)) = self.waiting.front().copied() {
            self.waiting.pop_front();
            self.oldest += 1;
            if packet_id > 0 {
                out.extend([PUBACK, 2]);
                out.extend(packet_id.to_be_bytes());
            }
        }
    }
}
