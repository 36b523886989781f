//! Finds the messages that RocketMQ has and hands out to nobody: of queues that a topic has no more, or of a topic that may not be read.
//!
//! A broker refuses to hand out messages of queues beyond the topic's `readQueueNums`, keeps them, and still tells their offsets.
//! Neither route nor statistics name these queues, and no request lists them, so they are looked for by their numbers.
//!
//! Bound: on each broker all numbers below 64 are looked at, at most once in 30 s for each topic, however many queues the topic has left.
//! So nothing of a topic is overlooked that never had more queues there. Of a larger one what lies behind 32 empty queues in a row may be
//! overlooked: four times as many questions cost each history tens of milliseconds.

use std::ops::Range;
use std::sync::PoisonError;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::reader::RocketMqReader;
use super::reader_port::READABLE;
use super::remoting::Queues;
use crate::model::{FailureKind, QueueName};
use crate::pipeline::ports::{ReadError, Reader, Withheld};

/// All numbers below this are looked at: an administrator may have taken away all queues but a few, and the message may lie in the last.
const ALWAYS_LOOKED_AT: i32 = 64;
/// So many numbers are looked at together; where one of them has messages, as many more.
const LOOKED_AT: i32 = 32;
/// No topic has so many queues on one broker.
const MOST_QUEUES: i32 = 4096;
const AT_ONCE: usize = 64;
/// Pages are read again and again, and an administrator changes queues seldom.
const REMEMBERED: Duration = Duration::from_secs(30);

impl RocketMqReader {
    pub(super) async fn withheld_of(&self, topic: &str) -> Result<Vec<Withheld>, ReadError> {
        let lock = || self.withheld.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, found)) = lock().get(topic)
            && at.elapsed() < REMEMBERED
        {
            return Ok(found.clone());
        }
        let route = match self.route(topic).await {
            Ok(route) => route,
            Err(error) if error.kind == FailureKind::TopicMissing => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for queues in &route.queue_datas {
            found.extend(self.withheld_on(topic, queues).await?);
        }
        lock().insert(topic.to_owned(), (Instant::now(), found.clone()));
        Ok(found)
    }

    async fn withheld_on(&self, topic: &str, queues: &Queues) -> Result<Vec<Withheld>, ReadError> {
        let may_be_read = queues.perm & READABLE != 0;
        let least = queues.write_queue_nums.max(ALWAYS_LOOKED_AT);
        let mut from = if may_be_read { queues.read_queue_nums } else { 0 };
        let mut found: Vec<Withheld> = Vec::new();
        while from < MOST_QUEUES {
            let to = from + LOOKED_AT;
            let held = self.held_by(topic, &queues.broker_name, from..to).await?;
            let is_last = held.is_empty() && to >= least;
            found.extend(held.into_iter().map(|(queue, offsets)| Withheld { queue, offsets, may_be_read }));
            if is_last {
                break;
            }
            from = to;
        }
        Ok(found)
    }

    /// Those of these queues that have messages.
    async fn held_by(
        &self,
        topic: &str,
        broker: &str,
        ids: Range<i32>,
    ) -> Result<Vec<(QueueName, Range<u64>)>, ReadError> {
        let mut asked = Vec::new();
        for id in ids {
            asked.push(async move {
                let queue = QueueName { broker: broker.into(), id };
                match self.end_of(topic, &queue).await {
                    Ok(0) => Ok((queue, 0..0)),
                    // Only of a queue that is there, because some brokers make one that is asked for its first offset.
                    Ok(_) => self.offsets(topic, &queue).await.map(|(first, end)| (queue, first..end)),
                    Err(error) if error.kind == FailureKind::Refused => Ok((queue, 0..0)),
                    Err(error) => Err(error),
                }
            });
        }
        let held: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(held.into_iter().filter(|(_, offsets)| !offsets.is_empty()).collect())
    }
}
