//! What RocketMQ says that it holds: how many messages, from when to when, and whether each is there once.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use roombridge::testing::model::QueueName;
use roombridge::testing::pipeline::ports::Reader;
use roombridge::testing::rocketmq::{Connector, RocketMqReader};

pub struct Store {
    runtime: tokio::runtime::Runtime,
    reader: RocketMqReader,
    topic: String,
}

/// A moment in the life of a topic: the next offset of each of its queues.
pub struct Mark(Vec<(QueueName, u64)>);

/// What was stored between a mark and now.
pub struct Found {
    pub stored: u64,
    pub different: u64,
    /// From the first message to the last, by the clock of the RocketMQ broker, which counts in milliseconds.
    pub seconds: f64,
    /// How long reading took, one pull at a time.
    pub read_seconds: f64,
}

impl Store {
    pub fn open(name_server: &str, topic: &str) -> Store {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
        let reader = RocketMqReader::new(&Connector::to_name_server(name_server));
        Store { runtime, reader, topic: topic.to_owned() }
    }

    pub fn mark(&self) -> Mark {
        self.runtime.block_on(async {
            let queues = Reader::queues(&self.reader, &self.topic).await.expect("the topic has queues");
            let mut next = Vec::new();
            for queue in queues {
                let (_, end) =
                    self.reader.offsets(&self.topic, &queue).await.expect("RocketMQ tells its offsets");
                next.push((queue, end));
            }
            Mark(next)
        })
    }

    /// Reads all that was stored since.
    pub fn since(&self, mark: &Mark) -> Found {
        let until = self.mark();
        let started = Instant::now();
        let (mut stored, mut bodies) = (0, HashSet::<Bytes>::new());
        let (mut first_ms, mut last_ms) = (u64::MAX, 0);
        for ((queue, from), (_, end)) in mark.0.iter().zip(&until.0) {
            let mut offset = *from;
            while offset < *end {
                let pull = self.reader.pull(&self.topic, queue, None, offset, 32);
                let page = self.runtime.block_on(pull).expect("RocketMQ can be read");
                assert!(page.next_offset > offset, "the reader stands still at {queue} offset {offset}");
                for message in page.messages {
                    stored += 1;
                    first_ms = first_ms.min(message.stored_ms);
                    last_ms = last_ms.max(message.stored_ms);
                    bodies.insert(message.body);
                }
                offset = page.next_offset;
            }
        }
        Found {
            stored,
            different: bodies.len() as u64,
            seconds: last_ms.saturating_sub(first_ms) as f64 / 1000.0,
            read_seconds: started.elapsed().as_secs_f64(),
        }
    }
}
