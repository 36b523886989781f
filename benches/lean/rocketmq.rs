//! One batch in flight for each queue of one topic, over one remoting connection.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};

use xxhash_rust::xxh3::xxh3_64;

/// The product spreads rooms over so many slots, and slots over queues.
const SLOTS: u64 = 256;

/// As in the product. RocketMQ takes no more than 4 MiB.
const BATCH_BYTES: usize = 1 << 20;

/// What a broker answers that wants to be asked again later.
const BUSY: u32 = 2;

/// Messages in stored form, and their numbers.
#[derive(Default)]
pub struct Batch {
    pub body: Vec<u8>,
    pub numbers: Vec<u64>,
}

/// One queue of the topic.
#[derive(Default)]
struct Lane {
    /// Oldest first; the last of them takes the next message.
    waiting: VecDeque<Batch>,
    maybe_in_flight: Option<Batch>,
}

pub struct Lanes {
    topic: String,
    lanes: Vec<Lane>,
    /// Empty, to be used again.
    spare: Vec<Batch>,
    opaque: u32,
    /// Which queue each request without an answer is for.
    pending: HashMap<u32, usize>,
    header: Vec<u8>,
}

impl Lanes {
    pub fn new(topic: &str, queues: usize) -> Lanes {
        Lanes {
            topic: topic.to_owned(),
            lanes: (0..queues).map(|_| Lane::default()).collect(),
            spare: Vec::new(),
            opaque: 0,
            pending: HashMap::new(),
            header: Vec::new(),
        }
    }

    /// The batch that the next message of a room belongs to.
    pub fn batch_of(&mut self, room: &[u8]) -> &mut Batch {
        let queue = (xxh3_64(room) % SLOTS) as usize % self.lanes.len();
        let waiting = &mut self.lanes[queue].waiting;
        if waiting.back().is_none_or(|batch| batch.body.len() >= BATCH_BYTES) {
            waiting.push_back(self.spare.pop().unwrap_or_default());
        }
        waiting.back_mut().expect("there is one now")
    }

    /// A request for each queue that has messages and no request in flight.
    pub fn write_due(&mut self, out: &mut Vec<u8>, now_ms: u64) {
        for (queue, lane) in self.lanes.iter_mut().enumerate() {
            if lane.maybe_in_flight.is_some() {
                continue;
            }
            let Some(batch) = lane.waiting.pop_front() else { continue };
            self.opaque += 1;
            self.pending.insert(self.opaque, queue);
            self.header.clear();
            write!(
                self.header,
                "{{\"code\":320,\"language\":\"RUST\",\"version\":407,\"opaque\":{},\"flag\":0,\
                 \"serializeTypeCurrentRPC\":\"JSON\",\"extFields\":{{\"a\":\"lean\",\"b\":\"{}\",\"c\":\"TBW102\",\
                 \"d\":\"4\",\"e\":\"{queue}\",\"f\":\"0\",\"g\":\"{now_ms}\",\"h\":\"0\",\"i\":\"\",\"j\":\"0\",\
                 \"k\":\"false\",\"l\":\"0\",\"m\":\"true\"}}}}",
                self.opaque, self.topic
            )
            .expect("a vector can be written to");
            out.extend(((4 + self.header.len() + batch.body.len()) as u32).to_be_bytes());
            out.extend((self.header.len() as u32).to_be_bytes());
            out.extend_from_slice(&self.header);
            out.extend_from_slice(&batch.body);
            lane.maybe_in_flight = Some(batch);
        }
    }

    /// Tells of each message that is stored; returns how many bytes are done with.
    pub fn take_answers(&mut self, bytes: &[u8], mut stored: impl FnMut(u64)) -> io::Result<usize> {
        let mut read = 0;
        while let Some((header, end)) = frame(&bytes[read..]) {
            read += end;
            let queue = number(header, "\"opaque\":").and_then(|opaque| self.pending.remove(&opaque));
            let Some(lane) = queue.map(|queue| &mut self.lanes[queue]) else { continue };
            let Some(mut batch) = lane.maybe_in_flight.take() else { continue };
            match number(header, "\"code\":") {
                Some(0) => {
                    batch.numbers.drain(..).for_each(&mut stored);
                    batch.body.clear();
                    self.spare.push(batch);
                }
                Some(BUSY) => lane.waiting.push_front(batch),
                _ => return Err(io::Error::other(format!("a batch was not stored: {header}"))),
            }
        }
        Ok(read)
    }
}

/// The header of a whole frame, and where the frame ends.
fn frame(bytes: &[u8]) -> Option<(&str, usize)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_be_bytes(*length) as usize;
    let frame = rest.get(..length)?;
    let (header_length, rest) = frame.split_first_chunk()?;
    // The first of the four bytes says how the header is written.
    let header = rest.get(..(u32::from_be_bytes(*header_length) & 0x00ff_ffff) as usize)?;
    Some((std::str::from_utf8(header).unwrap_or("a header that is not JSON"), 4 + length))
}

fn number(header: &str, name: &str) -> Option<u32> {
    let (_, after) = header.split_once(name)?;
    let end = after.find(|character: char| !character.is_ascii_digit()).unwrap_or(after.len());
    after[..end].parse().ok()
}
