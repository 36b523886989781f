//! What RocketMQ has and nothing else, found by the index of the archive.
//!
//! The pages of a class read this way: whoever may read a room of the class must not by that right read years of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::timeout;

use super::whole::Whole;
use crate::model::{MessageId, QueueName};
use crate::pipeline::ports::{Elsewhere, OfId, Page, ReadError, Reader, RoomAsked, RoomOffsets, Withheld};

/// Somebody waits, and without the index the answer is the same.
const FIND: Duration = Duration::from_secs(1);

/// A reader for one question.
pub(crate) struct KeptByRocketMq {
    rocketmq: Arc<dyn Reader>,
    /// Is asked where something lies. What lies there is looked at only to know a copy, and never given.
    whole: Whole,
}

impl KeptByRocketMq {
    /// `whole`: of the same RocketMQ.
    pub(crate) fn new(rocketmq: Arc<dyn Reader>, whole: Whole) -> Self {
        Self { rocketmq, whole }
    }
}

impl KeptByRocketMq {
    async fn find(&self, asked: &RoomAsked<'_>) -> Result<Option<RoomOffsets>, ReadError> {
        let Some(mut known) = self.whole.of_room(asked).await? else { return Ok(None) };
        for ((topic, queue), of_room) in &mut known.queues {
            if of_room.named.is_empty() {
                continue;
            }
            // A queue of before its topic was made anew has a name here that RocketMQ does not know.
            let first = match self.whole.has_live(topic, queue).await? {
                true => self.rocketmq.offsets(topic, queue).await?.0,
                false => u64::MAX,
            };
            of_room.named.retain(|named| named.offset >= first);
        }
        Ok(Some(known))
    }
}

impl Reader for KeptByRocketMq {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        self.rocketmq.queues(topic)
    }

    fn away<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.rocketmq.away(topic)
    }

    fn withheld<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<Withheld>, ReadError>> {
        self.rocketmq.withheld(topic)
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        self.rocketmq.offsets(topic, queue)
    }

    fn offset_at<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.rocketmq.offset_at(topic, queue, stored_ms)
    }

    fn pull<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        tag: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        self.rocketmq.pull(topic, queue, tag, from_offset, limit)
    }

    fn of_room<'a>(
        &'a self,
        asked: &'a RoomAsked<'a>,
    ) -> BoxFuture<'a, Result<Option<RoomOffsets>, ReadError>> {
        Box::pin(async move {
            match timeout(FIND, self.find(asked)).await {
                Ok(Ok(found)) => Ok(found),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the archive does not answer; RocketMQ is read without its index");
                    Ok(None)
                }
                Err(_) => {
                    let limit_s = FIND.as_secs();
                    tracing::warn!(
                        limit_s,
                        "the archive does not answer in time; RocketMQ is read without its index"
                    );
                    Ok(None)
                }
            }
        })
    }

    fn look_for_ids<'a>(
        &'a self,
        asked: &'a RoomAsked<'a>,
        ids: &'a [MessageId],
        elsewhere: Elsewhere<'a>,
        found: &'a mut (dyn FnMut(OfId<'_>) -> ControlFlow<()> + Send),
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        self.whole.look_for_ids(asked, ids, elsewhere, found)
    }
}
