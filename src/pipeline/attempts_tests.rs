use std::collections::HashSet;
use std::sync::Mutex;

use super::*;
use crate::model::{DeadReason, ManualClock, NotDurable, QueueName, StoredAt};
use crate::pipeline::ports::BoxFuture;
use bytes::Bytes;

/// Answers as a test says, and writes down what was sent.
#[derive(Default)]
struct ScriptedSink {
    illegal: HashSet<String>,
    answers: Mutex<VecDeque<Vec<Sent>>>,
    sent: Mutex<Vec<Vec<String>>>,
}

impl Sink for ScriptedSink {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, FailureKind>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        let ids: Vec<String> = batch
            .messages
            .iter()
            .map(|message| message.keys.clone())
            .collect();
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or_else(|| {
            let refused = ids.iter().any(|id| self.illegal.contains(id));
            let answer = if refused {
                Sent::Failed(FailureKind::MessageIllegal)
            } else {
                stored(0)
            };
            vec![answer; ids.len()]
        });
        self.sent.lock().unwrap().push(ids);
        Box::pin(std::future::ready(answer))
    }
}

/// A sink that gives these answers first, and then stores everything.
fn answering(answers: impl IntoIterator<Item = Vec<Sent>>) -> ScriptedSink {
    ScriptedSink {
        answers: Mutex::new(answers.into_iter().collect()),
        ..ScriptedSink::default()
    }
}

fn stored(queue_offset: u64) -> Sent {
    Sent::Stored(StoredAt {
        queue_id: 0,
        queue_offset,
    })
}

fn not_durable() -> Sent {
    Sent::NotDurable(
        StoredAt {
            queue_id: 0,
            queue_offset: 0,
        },
        NotDurable::FlushDiskTimeout,
    )
}

async fn settle(
    sink: ScriptedSink,
    messages: usize,
    accept_not_durable: bool,
) -> (Vec<Outcome>, Vec<Vec<String>>) {
    let sink = Arc::new(sink);
    let sending = Sending {
        sink: sink.clone(),
        metrics: Arc::new(Metrics::new(&[]).unwrap()),
        readiness: Arc::new(Readiness::default()),
        alarm: Alarm::new(Arc::new(ManualClock::at(0))),
        accept_not_durable,
        give_up_after: Duration::from_secs(3600),
        drain_permits: Arc::new(Semaphore::new(2)),
        taken_over: AtomicBool::new(false),
        stopping: CancellationToken::new(),
    };
    let message = |number: usize| OutgoingMessage {
        tag: String::new(),
        keys: number.to_string(),
        properties: vec![],
        body: Bytes::from_static(b"x"),
    };
    let queue = QueueName {
        broker: "a".into(),
        id: 0,
    };
    let batch = Batch {
        topic: "room".into(),
        queue,
        messages: (0..messages).map(message).collect(),
    };
    let ends = sending.until_settled(Arc::new(batch), &Progress::default()).await;
    assert_eq!(ends.len(), messages, "each message has one end");
    let sent = sink.sent.lock().unwrap().clone();
    (ends.into_iter().map(Option::unwrap).collect(), sent)
}

fn is_stored(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Stored(_))
}

/// Hazard 6: one bad message of 32 must not bury 31 good ones.
#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_halved_until_the_bad_message_is_alone() {
    let sink = ScriptedSink {
        illegal: HashSet::from(["17".to_owned()]),
        ..ScriptedSink::default()
    };
    let (ends, sent) = settle(sink, 32, false).await;
    for (number, end) in ends.iter().enumerate() {
        assert_eq!(is_stored(end), number != 17, "message {number}");
    }
    assert_eq!(ends[17], Outcome::DeadLettered(DeadReason::RefusedByRocketmq));
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
    let mixed = vec![
        stored(1),
        Sent::Failed(FailureKind::Busy),
        stored(2),
        Sent::Failed(FailureKind::Busy),
    ];
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
    let answers = [vec![stored(1)]];
    let (ends, sent) = settle(answering(answers), 3, false).await;
    assert!(ends.iter().all(is_stored));
    assert_eq!(sent[1], ["1", "2"]);
}
