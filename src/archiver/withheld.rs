//! What RocketMQ has and hands out to nobody, because a topic has fewer read queues than before or may not be read: it cannot be
//! archived, and RocketMQ deletes it all the same. So it counts as behind.

use std::ops::Range;
use std::time::Duration;

use super::queue::Queue;
use super::{ArchiveError, Archiver, Round};
use crate::model::QueueName;
use crate::pipeline::ports::ReadError;

/// An administrator changes queues seldom, and to look for them takes many questions.
const LOOK_EVERY_MS: u64 = 600_000;
/// While something is withheld, so that it is soon told that it is handed out again.
const LOOK_AGAIN_MS: u64 = 60_000;
/// A store time is sought in so many steps: of 72 hours the last one is 17 minutes.
const STEPS: u32 = 8;

/// What the last look found.
#[derive(Debug, Default)]
pub(super) struct WithheldQueues {
    looked_ms: Option<u64>,
    messages: u64,
    headroom: Option<Duration>,
}

impl Archiver {
    /// Counts what is withheld, and how long RocketMQ still has it.
    pub(super) async fn look_at_withheld(&mut self, round: &mut Round) -> Result<(), ArchiveError> {
        let now_ms = self.parts.clock.wall_ms();
        let every_ms = if self.withheld.messages > 0 { LOOK_AGAIN_MS } else { LOOK_EVERY_MS };
        let is_due = |looked_ms| now_ms.saturating_sub(looked_ms) >= every_ms;
        if self.withheld.looked_ms.is_none_or(is_due) {
            self.find_withheld(now_ms).await?;
        }
        round.withheld = Some(self.withheld.messages);
        round.tell(self.withheld.headroom.unwrap_or(self.parts.rocketmq_keeps));
        Ok(())
    }

    async fn find_withheld(&mut self, now_ms: u64) -> Result<(), ArchiveError> {
        self.withheld.looked_ms = None;
        let (mut messages, mut least) = (0, None);
        for topic in self.parts.topics.clone() {
            for withheld in self.parts.reader.withheld(&topic).await? {
                let key = (topic.clone(), withheld.queue);
                let mut queue = match self.queues.remove(&key) {
                    Some(queue) => queue,
                    None => Queue::in_store(&self.parts.store, &topic, &key.1).await?,
                };
                let Range { start: first, end } = withheld.offsets;
                // It ends before what is archived: it was made anew.
                let is_another = queue.next > end;
                let next = if is_another { first } else { queue.next.max(first) };
                if next < end {
                    messages += end - next;
                    queue.headroom.saw(now_ms, first);
                    let stored_ms = self.stored_ms(&topic, &key.1, next, now_ms).await?;
                    let left = queue.headroom.left(now_ms, next, stored_ms, self.parts.rocketmq_keeps);
                    least = Some(least.map_or(left, |least: Duration| least.min(left)));
                }
                self.queues.insert(key, queue);
            }
        }
        (self.withheld.messages, self.withheld.headroom) = (messages, least);
        self.withheld.looked_ms = Some(now_ms);
        Ok(())
    }

    /// About when the message at that offset was stored, or earlier: it is not handed out, but RocketMQ finds offsets by time.
    async fn stored_ms(
        &self,
        topic: &str,
        name: &QueueName,
        offset: u64,
        now_ms: u64,
    ) -> Result<u64, ReadError> {
        let keeps_ms = u64::try_from(self.parts.rocketmq_keeps.as_millis()).unwrap_or(u64::MAX);
        let (mut earlier, mut later) = (now_ms.saturating_sub(keeps_ms), now_ms);
        for _ in 0..STEPS {
            let middle = earlier + (later - earlier) / 2;
            // The first message that was stored then or later.
            match self.parts.reader.offset_at(topic, name, middle).await? <= offset {
                true => earlier = middle,
                false => later = middle,
            }
        }
        Ok(earlier)
    }
}
