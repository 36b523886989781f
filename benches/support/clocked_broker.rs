//! An MQTT broker with one client, which sends at an even pace and takes the time from each PUBLISH to its PUBACK.
//!
//! What a client makes of it can be told from outside, also of one that measures nothing itself, and no work of another
//! broker is in it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::flood::Shape;
use super::{Failure, broken};

const CONNECT: u8 = 1;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;

const PUBLISH: u8 = 0x30;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
const SILENCE: Duration = Duration::from_secs(60);

pub struct ClockedBroker {
    port: u16,
    client: JoinHandle<Result<Client, Failure>>,
}

/// The one client, subscribed.
pub struct Client {
    stream: TcpStream,
    /// As its SUBSCRIBE gave it: property and number, or nothing.
    subscription: Vec<u8>,
    sent: u64,
    times: Arc<Mutex<Times>>,
}

/// When which packet identifier left, and how long its PUBACK took.
#[derive(Default)]
struct Times {
    left: Vec<Option<Instant>>,
    taken: Vec<Duration>,
    acknowledged: u64,
}

impl ClockedBroker {
    pub fn start() -> ClockedBroker {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port can be bound");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let client = std::thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            Client::subscribed(stream)
        });
        ClockedBroker { port, client }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The client must be connecting.
    pub fn client(self) -> Result<Client, Failure> {
        self.client.join().map_err(|_| broken("the broker that takes times has panicked"))?
    }
}

impl Client {
    fn subscribed(stream: TcpStream) -> Result<Client, Failure> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut reader = Packets { stream: stream.try_clone()?, unread: Vec::new() };
        let mut answers = stream.try_clone()?;
        reader.expect(CONNECT)?;
        // No session, accepted, no properties.
        answers.write_all(&[0x20, 3, 0, 0, 0])?;
        let subscribe = reader.expect(SUBSCRIBE)?;
        let [high, low, _, properties @ ..] = subscribe.as_slice() else {
            return Err(broken("the SUBSCRIBE has no packet identifier"));
        };
        let subscription = match properties {
            [SUBSCRIPTION_IDENTIFIER, number, ..] if *number < 0x80 => vec![SUBSCRIPTION_IDENTIFIER, *number],
            _ => Vec::new(),
        };
        // One filter, QoS 1.
        answers.write_all(&[0x90, 4, *high, *low, 0, 1])?;
        let times = Arc::new(Mutex::new(Times { left: vec![None; 0x1_0000], ..Times::default() }));
        let shared = times.clone();
        // Ends with the client's connection.
        std::thread::spawn(move || take_times(&mut reader, &mut answers, &shared));
        Ok(Client { stream, subscription, sent: 0, times })
    }

    /// For so long; `at_once` messages leave together.
    pub fn publish(
        &mut self,
        shape: Shape,
        per_second: u32,
        at_once: u32,
        time: Duration,
    ) -> Result<u64, Failure> {
        let started = Instant::now();
        let bursts = (time.as_secs_f64() * f64::from(per_second / at_once)) as u32;
        let mut packets = Vec::new();
        for burst in 0..bursts {
            let due = started + Duration::from_secs(1) * burst * at_once / per_second;
            packets.clear();
            for _ in 0..at_once {
                self.push_next(&mut packets, shape);
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.note_leaving(shape, at_once);
            self.stream.write_all(&packets)?;
        }
        Ok(u64::from(bursts * at_once))
    }

    fn push_next(&mut self, packets: &mut Vec<u8>, shape: Shape) {
        self.sent += 1;
        let topic = shape.topic(self.sent);
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        if shape.qos > 0 {
            body.extend(packet_id(self.sent).to_be_bytes());
        }
        body.push(self.subscription.len() as u8);
        body.extend(&self.subscription);
        body.extend(shape.payload("clocked", self.sent));
        super::flood::push_packet(packets, PUBLISH | shape.qos << 1, &body);
    }

    fn note_leaving(&self, shape: Shape, count: u32) {
        if shape.qos == 0 {
            return;
        }
        let now = Instant::now();
        let mut times = lock(&self.times);
        for number in self.sent + 1 - u64::from(count)..=self.sent {
            times.left[usize::from(packet_id(number))] = Some(now);
        }
    }

    /// Until all that was sent with QoS 1 is acknowledged; returns how long each took.
    pub fn times(&self) -> Result<Vec<Duration>, Failure> {
        let started = Instant::now();
        loop {
            let mut times = lock(&self.times);
            if times.left.iter().all(Option::is_none) {
                return Ok(std::mem::take(&mut times.taken));
            }
            if started.elapsed() > SILENCE {
                return Err(broken(format!(
                    "{} PUBACKs came for {} messages",
                    times.acknowledged, self.sent
                )));
            }
            drop(times);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn packet_id(number: u64) -> u16 {
    (number % 0xffff + 1) as u16
}

fn lock(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().expect("nobody panics while holding the times")
}

/// Until the client is gone.
fn take_times(reader: &mut Packets, answers: &mut TcpStream, times: &Mutex<Times>) {
    while let Ok((kind, body)) = reader.next() {
        match (kind, body.as_slice()) {
            (PUBACK, [high, low, ..]) => {
                let now = Instant::now();
                let mut times = lock(times);
                let left = times.left[usize::from(u16::from_be_bytes([*high, *low]))].take();
                times.acknowledged += 1;
                times.taken.extend(left.map(|left| now.saturating_duration_since(left)));
            }
            // When it cannot be written, the client is gone, and the next look says so.
            (PINGREQ, _) => _ = answers.write_all(&[0xd0, 0]),
            (DISCONNECT, _) => return,
            _ => {}
        }
    }
}

struct Packets {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Packets {
    fn expect(&mut self, kind: u8) -> Result<Vec<u8>, Failure> {
        match self.next()? {
            (came, body) if came == kind => Ok(body),
            (came, _) => Err(broken(format!("instead of a packet of kind {kind} came one of kind {came}"))),
        }
    }

    /// The kind, without its flags, and what comes behind the length.
    fn next(&mut self) -> Result<(u8, Vec<u8>), Failure> {
        let mut chunk = [0; 8192];
        loop {
            if let Some((kind, body, end)) = whole(&self.unread) {
                let packet = (kind, body.to_vec());
                self.unread.drain(..end);
                return Ok(packet);
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(broken("the client closed the connection")),
                count => self.unread.extend(&chunk[..count]),
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let kind = bytes.first()? >> 4;
    let (mut length, mut digits) = (0, 1);
    loop {
        let digit = *bytes.get(digits)?;
        length |= usize::from(digit & 0x7f) << (7 * (digits - 1));
        digits += 1;
        if digit & 0x80 == 0 {
            break;
        }
    }
    Some((kind, bytes.get(digits..digits + length)?, digits + length))
}
