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

/// What is to be written to the spool when a batch and a message behind it have waited too long for that cause.
fn written_because_of(cause: FailureKind) -> (TopicLanes, ReadyBatch, SpoolWriteJob) {
    let mut lanes = TopicLanes::new("room".into(), Some(table(1)), false);
    lanes.push(waiting(0, "in flight"));
    let ready = lanes.next_ready(LIMITS, Duration::ZERO).unwrap();
    ready.progress.set_cause(cause);
    lanes.push(waiting(0, "behind it"));
    let after = Duration::from_secs(1);
    assert!(lanes.next_write(Duration::from_millis(900), after).is_none(), "it may still be sent");
    let job = lanes.next_write(after, after).unwrap();
    (lanes, ready, job)
}

/// Hazard 3: a topic that takes nothing for a reason of its own has a share of the spool only. What goes beyond it becomes dead
/// letters, and no PUBACK waits for it.
#[test]
fn a_topic_that_is_refused_for_its_own_reason_takes_its_share_of_the_spool() {
    let (_, _, job) = written_because_of(FailureKind::Transport);
    assert!(!job.share_of_topic, "RocketMQ is away, which says nothing about the topic");

    let (mut lanes, ready, job) = written_because_of(FailureKind::NoPermission);
    assert!(job.share_of_topic);
    let result = lanes.written(job.lane_index, Err(&SpoolError::TopicShare), Duration::from_secs(1));
    let dead: Vec<_> = result.dead.iter().map(|(message, _)| &message.body[..]).collect();
    assert_eq!(dead, [b"behind it"]);
    assert!(ready.progress.is_given_up(), "and so does the batch in flight");
}

/// Hazard 18: whoever reads it later can see that it was late.
#[test]
fn what_goes_to_the_spool_is_marked_and_what_is_sent_directly_is_not() {
    let (_, ready, job) = written_because_of(FailureKind::Transport);
    let marks: Vec<_> = job.messages.iter().map(|row| row.message.property("rbSpooled")).collect();
    assert_eq!(marks, [Some("true"); 2]);
    assert_eq!(ready.batch.messages[0].property("rbSpooled"), None);
}

/// Hazard 11: a row must never be on the disk while an older message of its lane is neither ended nor written.
#[test]
fn the_batch_in_flight_is_written_before_what_waits_behind_it() {
    let (_, _, job) = written_because_of(FailureKind::Timeout);
    let rows: Vec<_> = job.messages.iter().map(|row| &row.message.body[..]).collect();
    assert_eq!((rows, job.lent), (vec![&b"in flight"[..], b"behind it"], 1));
}
