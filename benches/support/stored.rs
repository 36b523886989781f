//! What RocketMQ says that it holds: how many messages, from when to when, and whether each is there once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roombridge::testing::model::QueueName;
use roombridge::testing::pipeline::ports::Reader;
use roombridge::testing::rocketmq::{Connector, RocketMqReader};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the slowest candidate takes to start: the baseline half a minute, with 1,000 new topics.
const SILENCE: Duration = Duration::from_secs(90);

pub struct Store {
    runtime: tokio::runtime::Runtime,
    reader: RocketMqReader,
    topics: Vec<String>,
}

/// A moment in the life of topics: the next offset of each of their queues.
pub struct Mark(Vec<Place>);

struct Place {
    topic: String,
    queue: QueueName,
    next: u64,
}

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
    pub fn open(name_server: &str, topics: Vec<String>) -> Store {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
        let reader = RocketMqReader::new(&Connector::to_name_server(name_server));
        Store { runtime, reader, topics }
    }

    pub fn mark(&self) -> Mark {
        self.runtime.block_on(async {
            let mut places = Vec::new();
            for topic in &self.topics {
                for queue in patiently(|| Reader::queues(&self.reader, topic)).await {
                    places.push(self.place(topic, queue).await);
                }
            }
            Mark(places)
        })
    }

    async fn place(&self, topic: &str, queue: QueueName) -> Place {
        let (_, next) = patiently(|| self.reader.offsets(topic, &queue)).await;
        Place { topic: topic.to_owned(), queue, next }
    }

    /// Looks until so many are stored since the mark, or nothing more comes; `since` then says what is missing.
    pub fn wait(&self, mark: &Mark, messages: u64) {
        // A look asks for each queue, so it costs more where there are many.
        let pause = Duration::from_millis(20).max(Duration::from_millis(1) * mark.0.len() as u32);
        let (mut stored, mut grown) = (0, Instant::now());
        while stored < messages && grown.elapsed() < SILENCE {
            std::thread::sleep(pause);
            let now = self.stored_since(mark);
            if now > stored {
                (stored, grown) = (now, Instant::now());
            }
        }
    }

    fn stored_since(&self, mark: &Mark) -> u64 {
        self.runtime.block_on(async {
            let mut stored = 0;
            for before in &mark.0 {
                stored += self.place(&before.topic, before.queue.clone()).await.next - before.next;
            }
            stored
        })
    }

    /// Reads all that was stored since.
    pub fn since(&self, mark: &Mark) -> Found {
        let until = self.mark();
        let started = Instant::now();
        let (mut stored, mut bodies) = (0, HashSet::<Bytes>::new());
        let (mut first_ms, mut last_ms) = (u64::MAX, 0);
        for (from, until) in mark.0.iter().zip(&until.0) {
            let mut offset = from.next;
            while offset < until.next {
                let pull = || self.reader.pull(&from.topic, &from.queue, None, offset, 32);
                let page = self.runtime.block_on(patiently(pull));
                assert!(
                    page.next_offset > offset,
                    "the reader stands still at {} offset {offset}",
                    from.queue
                );
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

/// Asks again for a minute: a RocketMQ that answers late on a busy machine must not end the run.
async fn patiently<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(ask: impl Fn() -> F) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(started.elapsed() < PATIENCE, "RocketMQ cannot be read: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
