//! A topic that loses its messages while somebody reads it.

use std::sync::atomic::{AtomicI32, Ordering};

use super::*;

/// A topic that is deleted and made anew while it is read: after so many pulls there is nothing left.
struct Emptied {
    memory: Memory,
    pulls: AtomicI32,
    /// Refilled with as many messages of somebody else.
    refill: Option<Memory>,
}

impl Reader for Emptied {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        self.memory.queues(topic)
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        self.memory.offsets(topic, queue)
    }

    fn offset_at<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.memory.offset_at(topic, queue, stored_ms)
    }

    fn pull<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        tag: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        let left = self.pulls.fetch_sub(1, Ordering::Relaxed);
        match &self.refill {
            _ if left > 0 => self.memory.pull(topic, queue, tag, from_offset, limit),
            Some(refill) => refill.pull(topic, queue, tag, from_offset, limit),
            None => Box::pin(async move {
                Ok(Page { messages: Vec::new(), next_offset: from_offset, first: 0, end: 0 })
            }),
        }
    }
}

/// Hazard 20: an offset that is no longer there is answered without messages, and looked like the end.
#[tokio::test(start_paused = true)]
async fn a_topic_that_is_emptied_while_it_is_read_is_an_error_and_not_a_short_history() {
    let filled = |room: &str| {
        let mut memory = Memory::default();
        for number in 0..300 {
            memory.store(0, 10 + number, room, Some(number), "x");
        }
        memory
    };
    for (pulls, refilled) in [(1, false), (3, false), (2, true)] {
        let reader =
            Emptied { memory: filled("7"), pulls: pulls.into(), refill: refilled.then(|| filled("8")) };
        let read = async {
            let mut history = History::open(&reader, room("7"), &mut |_| {}).await?;
            while history.next().await?.is_some() {}
            Ok::<_, HistoryError>(())
        };
        let error = read.await.unwrap_err().to_string();
        assert!(error.contains("read it again"), "{pulls} pulls: {error}");
    }
}
