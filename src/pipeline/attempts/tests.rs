use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use super::*;
use crate::model::{DeadReason, NotDurable, OutgoingProperties, QueueName};
use crate::pipeline::Accepted;
use crate::pipeline::ports::{OutgoingMessage, ReadError};
use bytes::Bytes;
use futures::future::BoxFuture;

/// Answers as a test says, and writes down what was sent.
#[derive(Default)]
struct ScriptedSink {
    illegal: HashSet<String>,
    /// Answered with code 1, whatever batch they are in.
    refused: HashSet<String>,
    /// Until then everything is answered with code 1.
    refuses_until: Option<tokio::time::Instant>,
    answers: Mutex<VecDeque<Vec<Sent>>>,
    sent: Mutex<Vec<Vec<String>>>,
    stored: Mutex<Vec<usize>>,
}

impl Sink for ScriptedSink {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        let ids: Vec<String> = batch.messages.iter().map(|message| message.keys().to_owned()).collect();
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or_else(|| {
            let one_of = |marked: &HashSet<String>| ids.iter().any(|id| marked.contains(id));
            let now = tokio::time::Instant::now();
            let answer = if one_of(&self.illegal) {
                Sent::Failed(FailureKind::MessageIllegal)
            } else if one_of(&self.refused) || self.refuses_until.is_some_and(|until| now < until) {
                refused(&format!("no room at {now:?}"))
            } else {
                Sent::Stored
            };
            vec![answer; ids.len()]
        });
        if answer.iter().all(|answer| matches!(answer, Sent::Stored)) {
            self.stored.lock().unwrap().extend(ids.iter().map(|id| id.parse::<usize>().unwrap()));
        }
        self.sent.lock().unwrap().push(ids);
        Box::pin(std::future::ready(answer))
    }
}

/// A sink that gives these answers first, and then stores everything.
fn answering(answers: impl IntoIterator<Item = Vec<Sent>>) -> ScriptedSink {
    ScriptedSink { answers: Mutex::new(answers.into_iter().collect()), ..ScriptedSink::default() }
}

fn refused(remark: &str) -> Sent {
    Sent::Refused(Refusal { kind: FailureKind::Refused, code: 1, remark: remark.into() })
}

fn not_durable() -> Sent {
    Sent::NotDurable(NotDurable::FlushDiskTimeout)
}

async fn settle(
    sink: ScriptedSink,
    messages: usize,
    accept_not_durable: bool,
) -> (Vec<End>, Vec<Vec<String>>) {
    let slots: Vec<u8> = (0..messages).map(|number| number as u8).collect();
    settle_slots(sink, &slots, false, accept_not_durable).await
}

fn sending(sink: Arc<ScriptedSink>, accept_not_durable: bool) -> Sending {
    Sending {
        sink,
        metrics: Arc::new(Metrics::new(&[]).unwrap()),
        readiness: Arc::new(Readiness::default()),
        throttles: Mutex::default(),
        accept_not_durable,
        give_up_after: Duration::from_secs(3600),
        accepted: Accepted::default(),
        drain_permits: Arc::new(Semaphore::new(2)),
        taken_over: AtomicBool::new(false),
        stopping: CancellationToken::new(),
    }
}

/// One message for each slot.
async fn settle_slots(
    sink: ScriptedSink,
    slots: &[u8],
    alone: bool,
    accept_not_durable: bool,
) -> (Vec<End>, Vec<Vec<String>>) {
    let sink = Arc::new(sink);
    let sending = sending(sink.clone(), accept_not_durable);
    let messages = slots.len();
    let progress = BatchProgress::default();
    let ends = sending.until_ended(batch_of(messages), slots, alone, &progress).await;
    assert_eq!(ends.len(), messages, "each message has one end");
    let sent = sink.sent.lock().unwrap().clone();
    (ends, sent)
}

fn is_stored(end: &End) -> bool {
    matches!(end, End::Reached(Outcome::Stored))
}

fn stored_ids(sink: &ScriptedSink) -> Vec<usize> {
    sink.stored.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn one_cause_does_not_silence_another_in_the_log() {
    let sending = sending(Arc::default(), false);
    assert!(sending.is_to_be_logged(FailureKind::Transport));
    assert!(!sending.is_to_be_logged(FailureKind::Transport));
    assert!(sending.is_to_be_logged(FailureKind::Busy));
}

/// Hazard 6: one bad message of 32 must not bury 31 good ones.
#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_halved_until_the_bad_message_is_alone() {
    let sink = ScriptedSink { illegal: HashSet::from(["17".to_owned()]), ..ScriptedSink::default() };
    let (ends, sent) = settle(sink, 32, false).await;
    for (number, end) in ends.iter().enumerate() {
        assert_eq!(is_stored(end), number != 17, "message {number}");
    }
    assert_eq!(ends[17], End::Dead(DeadReason::RefusedByRocketmq, None));
    let accepted = sent.iter().filter(|batch| !batch.contains(&"17".to_owned()));
    let order: Vec<usize> = accepted.flatten().map(|id| id.parse().unwrap()).collect();
    assert!(order.is_sorted(), "the good ones are stored in order: {order:?}");
}

/// Hazard 7: an answer that was lost may mean stored, so the retry is the same batch.
#[tokio::test(start_paused = true)]
async fn a_retry_carries_the_same_messages_in_the_same_order() {
    let timeouts = vec![Sent::Failed(FailureKind::Timeout); 5];
    let answers = [timeouts.clone(), timeouts];
    let (ends, sent) = settle(answering(answers), 5, false).await;
    assert!(ends.iter().all(is_stored));
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|batch| *batch == sent[0]), "{sent:?}");
}

/// Hazard 9: the answer is per message; what is stored is not sent again.
#[tokio::test(start_paused = true)]
async fn only_what_failed_is_sent_again() {
    let mixed =
        vec![Sent::Stored, Sent::Failed(FailureKind::Busy), Sent::Stored, Sent::Failed(FailureKind::Busy)];
    let answers = [mixed];
    let (ends, sent) = settle(answering(answers), 4, false).await;
    assert!(ends.iter().all(is_stored));
    assert_eq!(sent[1], ["1", "3"]);
}

/// Hazard 8: FLUSH_DISK_TIMEOUT is no SEND_OK.
#[tokio::test(start_paused = true)]
async fn what_is_not_durable_is_tried_again_unless_the_user_accepts_it() {
    let answers = || [vec![not_durable()]];
    let (ends, sent) = settle(answering(answers()), 1, false).await;
    assert!(is_stored(&ends[0]));
    assert_eq!(sent.len(), 2, "tried again");
    let (ends, sent) = settle(answering(answers()), 1, true).await;
    assert!(is_stored(&ends[0]));
    assert_eq!(sent.len(), 1, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_answers_for_too_few_has_not_stored_the_rest() {
    let answers = [vec![Sent::Stored]];
    let (ends, sent) = settle(answering(answers), 3, false).await;
    assert!(ends.iter().all(is_stored));
    assert_eq!(sent[1], ["1", "2"]);
}

/// Hazard 33: a message that only it is refused steps aside with what is behind it of its slot; the others are stored, in order.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_again_and_again_steps_aside_with_its_slot() {
    let sink =
        ScriptedSink { refused: HashSet::from(["5".to_owned(), "9".to_owned()]), ..ScriptedSink::default() };
    let slots: Vec<u8> = (0..32).map(|number| number % 4).collect();
    let sink = Arc::new(sink);
    let batch = batch_of(32);
    let started = tokio::time::Instant::now();
    let progress = BatchProgress::default();
    let ends = sending(sink.clone(), false).until_ended(batch, &slots, false, &progress).await;
    for (number, end) in ends.iter().enumerate() {
        let of_the_slot = number % 4 == 1 && number >= 5;
        assert_eq!(*end == End::Aside, of_the_slot, "message {number}: {end:?}");
        assert_eq!(is_stored(end), !of_the_slot, "message {number}: {end:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for slot in 0..4 {
        let stored = stored_ids(&sink);
        let of_slot = stored.iter().filter(|number| *number % 4 == slot);
        assert!(of_slot.is_sorted(), "slot {slot}: {stored:?}");
    }
}

/// Hazard 33: five times over ten seconds while others are taken, then it is dead with RocketMQ's words; what is behind it goes on.
#[tokio::test(start_paused = true)]
async fn alone_in_its_lane_it_dies_only_while_its_broker_takes_others() {
    let sink = Arc::new(ScriptedSink { refused: HashSet::from(["1".to_owned()]), ..ScriptedSink::default() });
    let sending = Arc::new(sending(sink.clone(), false));
    let lane = {
        let sending = sending.clone();
        tokio::spawn(async move {
            let progress = BatchProgress::default();
            sending.until_ended(batch_with(1..3), &[7, 7], true, &progress).await
        })
    };
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!lane.is_finished(), "nothing shows that the broker takes anything");
    assert!(stored_ids(&sink).is_empty(), "what is behind it waits");

    sending.accepted.note(&"a".into());
    let began = tokio::time::Instant::now();
    let ends = lane.await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let End::Dead(DeadReason::RefusedByRocketmq, Some(answer)) = &ends[0] else { panic!("{:?}", ends[0]) };
    assert!(answer.to_string().starts_with("code 1, no room at"), "{answer}");
    assert!(is_stored(&ends[1]));
}

/// Hazard 33: a broker that refuses everything for a while condemns nothing, and nothing is stored out of order then.
#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_everything_makes_no_dead_letters() {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    let sink = Arc::new(ScriptedSink { refuses_until: Some(until), ..ScriptedSink::default() });
    let sending = Arc::new(sending(sink.clone(), false));
    let slots: Vec<u8> = (0..64).map(|number| number % 8).collect();
    let mut left: Vec<usize> = (0..64).collect();
    // As the lanes do it: what steps aside goes on, here all of it in one.
    while !left.is_empty() {
        let slots: Vec<u8> = left.iter().map(|number| slots[*number]).collect();
        let batch = batch_with(left.iter().copied());
        let progress = BatchProgress::default();
        let ends = sending.until_ended(batch, &slots, false, &progress).await;
        assert!(!ends.iter().any(|end| matches!(end, End::Dead(..))), "{ends:?}");
        left = left
            .into_iter()
            .zip(ends)
            .filter(|(_, end)| *end == End::Aside)
            .map(|(number, _)| number)
            .collect();
    }
    let sent = sink.sent.lock().unwrap().len();
    assert!(sent < 300, "{sent} attempts in 20 s");
    let mut last = sink.stored.lock().unwrap().clone();
    for slot in 0..8 {
        assert!(last.iter().filter(|number| *number % 8 == slot).is_sorted(), "{last:?}");
    }
    last.sort_unstable();
    assert_eq!(last, (0..64).collect::<Vec<_>>(), "each once");
}

/// Hazard 33: the process stood still, or RocketMQ was away between the answers: they do not add up.
#[tokio::test(start_paused = true)]
async fn answers_that_something_else_lies_between_are_counted_anew() {
    // Given nine refusals in a row, twice, each over 6 s, with a failure of the connection between them
    let answers = (0..19).map(|number| match number {
        9 => vec![Sent::Failed(FailureKind::Transport)],
        _ => vec![refused("no")],
    });
    let sink = Arc::new(answering(answers));
    let sending = Arc::new(sending(sink.clone(), false));
    let lane = {
        let sending = sending.clone();
        tokio::spawn(async move {
            let progress = BatchProgress::default();
            sending.until_ended(batch_of(1), &[0], true, &progress).await
        })
    };
    // When the broker takes others all the time
    while !lane.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        sending.accepted.note(&"a".into());
    }
    // Then the message is stored when it is taken
    let ends = lane.await.unwrap();
    assert!(is_stored(&ends[0]), "{ends:?}");
}

fn batch_of(messages: usize) -> Arc<Batch> {
    batch_with(0..messages)
}

fn batch_with(numbers: impl Iterator<Item = usize>) -> Arc<Batch> {
    let message = |number: usize| OutgoingMessage {
        properties: OutgoingProperties::new(&number.to_string(), "", 0),
        body: Bytes::from_static(b"x"),
    };
    let queue = QueueName { broker: "a".into(), id: 0 };
    Arc::new(Batch { topic: "room".into(), queue, messages: numbers.map(message).collect() })
}
