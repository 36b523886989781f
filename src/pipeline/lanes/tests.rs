use super::*;
use crate::model::{Kind, OutgoingMessage, OutgoingProperties, QueueName};
use bytes::Bytes;

const LIMITS: BatchLimits = BatchLimits { messages: 4, bytes: 1000, linger: Duration::ZERO };

fn waiting(slot: u8, body: &str) -> WaitingMessage {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let message = OutgoingMessage { properties: OutgoingProperties::default(), body };
    let ticket = Ticket { receipt: None, weight_bytes: 0, kind: Kind::Message };
    WaitingMessage { message, ticket, slot, since: Duration::ZERO }
}

fn table(queues: i32) -> TopicQueues {
    TopicQueues::first((0..queues).map(|id| QueueName { broker: "a".into(), id }).collect())
}

fn bodies(ready: &ReadyBatch) -> Vec<&[u8]> {
    ready.batch.messages.iter().map(|message| &message.body[..]).collect()
}

#[test]
fn one_batch_is_in_flight_per_queue_and_the_rest_gathers() {
    let mut lanes = TopicLanes::new("room".into(), Some(table(1)), false);
    lanes.push(waiting(0, "a"));
    let first = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
    assert_eq!(bodies(&first), [b"a"], "a single message does not wait");
    for body in ["b", "c", "d", "e", "f"] {
        lanes.push(waiting(0, body));
    }
    assert!(lanes.next_ready(LIMITS, Duration::ZERO).is_none(), "the queue is busy");
    lanes.finish_batch(first.lane_index, vec![]);
    let second = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
    assert_eq!(bodies(&second), [b"b", b"c", b"d", b"e"]);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_a_large_message_leaves_alone() {
    let mut lanes = TopicLanes::new("room".into(), Some(table(1)), false);
    lanes.push(waiting(0, &"x".repeat(5000)));
    lanes.push(waiting(0, "small"));
    let first = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
    assert_eq!(first.batch.messages.len(), 1);
    lanes.finish_batch(0, vec![]);
    assert_eq!(bodies(&lanes.next_ready(LIMITS, Duration::ZERO).unwrap()), [b"small"]);
}

#[test]
fn what_came_before_the_queues_were_known_keeps_its_order() {
    let mut lanes = TopicLanes::new("room".into(), None, false);
    for body in ["a", "b", "c"] {
        lanes.push(waiting(5, body));
    }
    assert!(lanes.next_ready(LIMITS, Duration::ZERO).is_none());
    lanes.assign_queues(table(4));
    let ready = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
    assert_eq!(ready.batch.queue.id, 1, "slot 5 of 4 queues");
    assert_eq!(bodies(&ready), [b"a", b"b", b"c"]);
}

#[test]
fn a_busy_queue_does_not_hold_the_others() {
    let mut lanes = TopicLanes::new("room".into(), Some(table(2)), false);
    lanes.push(waiting(0, "a"));
    lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
    lanes.push(waiting(0, "b"));
    lanes.push(waiting(1, "c"));
    assert_eq!(bodies(&lanes.next_ready(LIMITS, Duration::ZERO).unwrap()), [b"c"]);
}

#[test]
fn linger_holds_a_batch_until_it_is_full_or_due() {
    let limits = BatchLimits { linger: Duration::from_millis(5), ..LIMITS };
    let mut lanes = TopicLanes::new("room".into(), Some(table(1)), false);
    lanes.push(waiting(0, "a"));
    assert!(lanes.next_ready(limits, Duration::from_millis(4)).is_none());
    assert_eq!(lanes.next_due(limits, None, true), Some(Duration::from_millis(5)));
    assert!(lanes.next_ready(limits, Duration::from_millis(5)).is_some());
}
