//! A publisher that costs as little as possible: MQTT 5 bytes, written by hand, many packets in one write. With QoS 1 or 2.
//!
//! The client libraries need more processor time to publish than Mosquitto needs to take, and all share one machine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Failure, broken, talk};

/// What the messages are like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub payload_bytes: usize,
    /// That they are spread over, in turn.
    pub rooms: u64,
    /// First levels of their MQTT topics, that they are spread over in turn.
    pub parents: u64,
    pub qos: u8,
    /// What a class says, as JSON, instead of a number and letters; `payload_bytes` does not count then.
    pub is_talk: bool,
}

/// 200 bytes, 100 rooms, QoS 1.
pub const ORDINARY: Shape = Shape { payload_bytes: 200, rooms: 100, parents: 1, qos: 1, is_talk: false };

impl Shape {
    /// Topic of message `number` of any publisher.
    pub fn topic(&self, number: u64) -> String {
        let room = number % self.rooms;
        match self.parents {
            1 => format!("room/message/{room}"),
            parents => format!("{}/message/{room}", parent(number % parents)),
        }
    }

    /// No two messages of one stage are equal.
    pub fn payload(&self, name: &str, number: u64) -> Vec<u8> {
        if self.is_talk {
            return talk::line(name, number, number % self.rooms).into_bytes();
        }
        let mut payload = format!("{name} {number} ").into_bytes();
        payload.resize(self.payload_bytes, b'x');
        payload
    }
}

/// One of several first levels.
pub fn parent(number: u64) -> String {
    format!("course{number}")
}

/// Below the receive maximum of Mosquitto as the harness starts it, and of Mosquitto's own default.
const WINDOW: u64 = 400;
const AT_ONCE: u64 = 100;
const SILENCE: Duration = Duration::from_secs(20);

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

pub struct Flood {
    stream: TcpStream,
    name: String,
    shape: Shape,
    sent: u64,
    acknowledged: u64,
    unread: Vec<u8>,
}

impl Flood {
    pub fn connect(port: u16, name: &str, shape: Shape) -> Result<Flood, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut flood =
            Flood { stream, name: name.to_owned(), shape, sent: 0, acknowledged: 0, unread: Vec::new() };
        // Clean start, keep alive 60 s, no properties.
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0];
        push_text(&mut body, name);
        let mut packet = Vec::new();
        push_packet(&mut packet, 0x10, &body);
        flood.stream.write_all(&packet)?;
        let (kind, body) = flood.read_packet()?;
        match (kind, body.get(1)) {
            (CONNACK, Some(0)) => Ok(flood),
            _ => Err(broken(format!("the MQTT broker refuses {name}: {body:?}"))),
        }
    }

    /// Other publishers number theirs from elsewhere, so that together they reach all rooms.
    pub fn numbering_from(mut self, first: u64) -> Flood {
        (self.sent, self.acknowledged) = (first, first);
        self
    }

    /// Publishes `count` messages as fast as the broker acknowledges them; returns when it has acknowledged all.
    pub fn all_at_once(&mut self, count: u64) -> Result<(), Failure> {
        let end = self.sent + count;
        let mut packets = Vec::new();
        while self.acknowledged < end {
            let room = WINDOW - (self.sent - self.acknowledged);
            let burst = room.min(AT_ONCE).min(end - self.sent);
            packets.clear();
            for _ in 0..burst {
                self.push_next(&mut packets);
            }
            self.stream.write_all(&packets)?;
            let full = self.sent - self.acknowledged + AT_ONCE > WINDOW;
            if full || self.sent == end {
                self.read_acknowledgements()?;
            }
        }
        Ok(())
    }

    /// Publishes at an even pace, one message at a time.
    pub fn paced(&mut self, per_second: u32, time: Duration) -> Result<(), Failure> {
        let started = Instant::now();
        let count = (time.as_secs_f64() * f64::from(per_second)) as u32;
        let mut packet = Vec::new();
        for number in 0..count {
            let due = started + Duration::from_secs(1) * number / per_second;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            packet.clear();
            self.push_next(&mut packet);
            self.stream.write_all(&packet)?;
            self.read_acknowledgements()?;
        }
        while self.acknowledged < self.sent {
            self.read_acknowledgements()?;
        }
        Ok(())
    }

    fn push_next(&mut self, packets: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(self.shape.payload_bytes + 32);
        push_text(&mut body, &self.shape.topic(self.sent));
        body.extend(((self.sent % 65_535 + 1) as u16).to_be_bytes());
        body.push(0);
        body.extend(self.shape.payload(&self.name, self.sent));
        push_packet(packets, PUBLISH | self.shape.qos << 1, &body);
        self.sent += 1;
    }

    /// Waits for one and takes all that came with it. They come in order, so counting is enough.
    fn read_acknowledgements(&mut self) -> Result<(), Failure> {
        let before = self.acknowledged;
        while self.acknowledged == before || self.unread.len() >= 4 {
            let (kind, body) = self.read_packet()?;
            // Reason codes from 0x80 on are failures; 0x10 says that nobody is subscribed.
            let refused = body.get(2).is_some_and(|reason| *reason >= 0x80);
            match (kind, body.as_slice()) {
                (PUBACK | PUBCOMP, _) if !refused => self.acknowledged += 1,
                (PUBREC, [high, low, ..]) if !refused => {
                    self.stream.write_all(&[PUBREL, 2, *high, *low])?;
                }
                _ => return Err(broken(format!("instead of a PUBACK came {kind:#x} {body:?}"))),
            }
        }
        Ok(())
    }

    fn read_packet(&mut self) -> Result<(u8, Vec<u8>), Failure> {
        let mut chunk = [0; 8192];
        loop {
            if let [kind, length, ..] = *self.unread {
                let end = 2 + usize::from(length);
                if length >= 0x80 {
                    return Err(broken("a packet of over 127 bytes came, where only short ones can"));
                }
                if self.unread.len() >= end {
                    let body = self.unread[2..end].to_vec();
                    self.unread.drain(..end);
                    return Ok((kind, body));
                }
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(broken("the MQTT broker closed the connection")),
                count => self.unread.extend(&chunk[..count]),
            }
        }
    }
}

fn push_text(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text.as_bytes());
}

/// With its kind and its length in front.
pub fn push_packet(packets: &mut Vec<u8>, kind: u8, body: &[u8]) {
    packets.push(kind);
    let mut rest = body.len();
    loop {
        let more = if rest >= 0x80 { 0x80 } else { 0 };
        packets.push((rest % 0x80) as u8 | more);
        rest /= 0x80;
        if rest == 0 {
            break;
        }
    }
    packets.extend(body);
}
