//! The lanes of one topic: each slot of order keys belongs to one message queue, each queue sends one batch at a
//! time, and whatever gathers meanwhile is the next batch.
//!
//! Bounds: what waits here is counted by the intake.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::ports::OutgoingMessage;
use super::ticket::Ticket;
use crate::data_dir::TopicQueues;
use crate::model::QueueName;

/// When a batch leaves.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub messages: usize,
    /// Bodies and properties together; a single larger message still leaves, alone.
    pub bytes: usize,
    /// How long a batch that is not full waits for more.
    pub linger: Duration,
}

/// One message in its lane.
#[derive(Debug)]
pub struct Waiting {
    pub message: OutgoingMessage,
    pub ticket: Ticket,
    pub slot: u8,
    /// Monotonic time at which it came into the lane.
    pub since: Duration,
}

/// A batch that is ready to leave.
#[derive(Debug)]
pub struct Ready {
    pub queue_index: usize,
    pub queue: QueueName,
    pub messages: Vec<OutgoingMessage>,
    pub tickets: Vec<Ticket>,
}

#[derive(Debug)]
struct QueueLane {
    queue: QueueName,
    waiting: VecDeque<Waiting>,
    busy: bool,
}

/// All lanes of one topic.
#[derive(Debug)]
pub struct TopicLanes {
    pub topic: Arc<str>,
    table: Option<TopicQueues>,
    /// In order of arrival, while the topic's queues are not known.
    parked: VecDeque<Waiting>,
    queues: Vec<QueueLane>,
    pub lookup_running: bool,
}

impl TopicLanes {
    pub fn new(topic: Arc<str>, table: Option<TopicQueues>) -> Self {
        let mut lanes = Self {
            topic,
            table: None,
            parked: VecDeque::new(),
            queues: Vec::new(),
            lookup_running: false,
        };
        if let Some(table) = table {
            lanes.know(table);
        }
        lanes
    }

    pub fn is_known(&self) -> bool {
        self.table.is_some()
    }

    /// The topic's queues became known: what was parked goes to its lanes, in order.
    pub fn know(&mut self, table: TopicQueues) {
        let lane = |queue| QueueLane {
            queue,
            waiting: VecDeque::new(),
            busy: false,
        };
        self.queues = table.queues().into_iter().map(lane).collect();
        self.table = Some(table);
        for waiting in std::mem::take(&mut self.parked) {
            self.push(waiting);
        }
    }

    pub fn push(&mut self, waiting: Waiting) {
        let index = self.table.as_ref().map(|table| table.queue_of_slot(waiting.slot));
        match index.and_then(|index| self.queues.get_mut(index)) {
            Some(lane) => lane.waiting.push_back(waiting),
            None => self.parked.push_back(waiting),
        }
    }

    /// The batch of that queue has ended.
    pub fn free(&mut self, queue_index: usize) {
        if let Some(lane) = self.queues.get_mut(queue_index) {
            lane.busy = false;
        }
    }

    /// The next batch that may leave now, and its queue is busy until [`Self::free`].
    pub fn next_ready(&mut self, limits: BatchLimits, now: Duration) -> Option<Ready> {
        let (queue_index, lane) = self
            .queues
            .iter_mut()
            .enumerate()
            .find(|(_, lane)| !lane.busy && lane.is_due(limits, now))?;
        lane.busy = true;
        let (messages, tickets) = lane.take_batch(limits);
        Some(Ready {
            queue_index,
            queue: lane.queue.clone(),
            messages,
            tickets,
        })
    }

    /// When the earliest lingering batch leaves, if none is full before.
    pub fn next_due(&self, limits: BatchLimits) -> Option<Duration> {
        let idle = self.queues.iter().filter(|lane| !lane.busy);
        idle.filter_map(|lane| lane.waiting.front())
            .map(|waiting| waiting.since + limits.linger)
            .min()
    }

    /// Takes everything that waits and is not in flight.
    pub fn abandon(&mut self) -> Vec<Ticket> {
        let queued = self.queues.iter_mut().flat_map(|lane| lane.waiting.drain(..));
        queued
            .chain(self.parked.drain(..))
            .map(|waiting| waiting.ticket)
            .collect()
    }

    pub fn is_idle(&self) -> bool {
        self.parked.is_empty()
            && self
                .queues
                .iter()
                .all(|lane| !lane.busy && lane.waiting.is_empty())
    }
}

impl QueueLane {
    fn is_due(&self, limits: BatchLimits, now: Duration) -> bool {
        self.waiting.front().is_some_and(|oldest| {
            self.waiting.len() >= limits.messages || now >= oldest.since + limits.linger
        })
    }

    fn take_batch(&mut self, limits: BatchLimits) -> (Vec<OutgoingMessage>, Vec<Ticket>) {
        let count = self.waiting.len().min(limits.messages);
        let (mut messages, mut tickets) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut bytes = 0;
        while messages.len() < limits.messages {
            let Some(next) = self.waiting.front() else { break };
            bytes += next.message.stored_bytes();
            if bytes > limits.bytes && !messages.is_empty() {
                break;
            }
            let Some(Waiting { message, ticket, .. }) = self.waiting.pop_front() else {
                break;
            };
            messages.push(message);
            tickets.push(ticket);
        }
        (messages, tickets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;
    use bytes::Bytes;

    const LIMITS: BatchLimits = BatchLimits {
        messages: 4,
        bytes: 1000,
        linger: Duration::ZERO,
    };

    fn waiting(slot: u8, body: &str) -> Waiting {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let message = OutgoingMessage {
            tag: String::new(),
            keys: String::new(),
            properties: vec![],
            body,
        };
        let ticket = Ticket {
            receipt: None,
            weight_bytes: 0,
            kind: Kind::Message,
        };
        Waiting {
            message,
            ticket,
            slot,
            since: Duration::ZERO,
        }
    }

    fn table(queues: i32) -> TopicQueues {
        TopicQueues::first(
            (0..queues)
                .map(|id| QueueName {
                    broker: "a".into(),
                    id,
                })
                .collect(),
        )
    }

    fn bodies(ready: &Ready) -> Vec<&[u8]> {
        ready.messages.iter().map(|message| &message.body[..]).collect()
    }

    #[test]
    fn one_batch_is_in_flight_per_queue_and_the_rest_gathers() {
        let mut lanes = TopicLanes::new("room".into(), Some(table(1)));
        lanes.push(waiting(0, "a"));
        let first = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
        assert_eq!(bodies(&first), [b"a"], "a single message does not wait");
        for body in ["b", "c", "d", "e", "f"] {
            lanes.push(waiting(0, body));
        }
        assert!(
            lanes.next_ready(LIMITS, Duration::ZERO).is_none(),
            "the queue is busy"
        );
        lanes.free(first.queue_index);
        let second = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
        assert_eq!(bodies(&second), [b"b", b"c", b"d", b"e"]);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_a_large_message_leaves_alone() {
        let mut lanes = TopicLanes::new("room".into(), Some(table(1)));
        lanes.push(waiting(0, &"x".repeat(5000)));
        lanes.push(waiting(0, "small"));
        let first = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
        assert_eq!(first.messages.len(), 1);
        lanes.free(0);
        assert_eq!(
            bodies(&lanes.next_ready(LIMITS, Duration::ZERO).unwrap()),
            [b"small"]
        );
    }

    #[test]
    fn what_came_before_the_queues_were_known_keeps_its_order() {
        let mut lanes = TopicLanes::new("room".into(), None);
        for body in ["a", "b", "c"] {
            lanes.push(waiting(5, body));
        }
        assert!(lanes.next_ready(LIMITS, Duration::ZERO).is_none());
        lanes.know(table(4));
        let ready = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
        assert_eq!(ready.queue.id, 1, "slot 5 of 4 queues");
        assert_eq!(bodies(&ready), [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_busy_queue_does_not_hold_the_others() {
        let mut lanes = TopicLanes::new("room".into(), Some(table(2)));
        lanes.push(waiting(0, "a"));
        lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
        lanes.push(waiting(0, "b"));
        lanes.push(waiting(1, "c"));
        assert_eq!(bodies(&lanes.next_ready(LIMITS, Duration::ZERO).unwrap()), [b"c"]);
    }

    #[test]
    fn linger_holds_a_batch_until_it_is_full_or_due() {
        let limits = BatchLimits {
            linger: Duration::from_millis(5),
            ..LIMITS
        };
        let mut lanes = TopicLanes::new("room".into(), Some(table(1)));
        lanes.push(waiting(0, "a"));
        assert!(lanes.next_ready(limits, Duration::from_millis(4)).is_none());
        assert_eq!(lanes.next_due(limits), Some(Duration::from_millis(5)));
        assert!(lanes.next_ready(limits, Duration::from_millis(5)).is_some());
    }
}
