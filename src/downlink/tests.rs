//! The way down between a follower and a publisher that the stories play.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;

use super::*;
use crate::binding::BindingSettings;
use crate::config::Config;
use crate::model::{FailureKind, ManualClock, QueueName, Sent};
use crate::pipeline::ports::{Batch, ReadError, Sink};
use crate::spool::memory::MemorySpool;

const NOW_MS: u64 = 100_000;

struct Away;

impl Sink for Away {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async { Err(ReadError::of(FailureKind::Transport)) })
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        Box::pin(async move { vec![Sent::Failed(FailureKind::Transport); batch.messages.len()] })
    }
}

struct Story {
    items: mpsc::Sender<Item>,
    ended: mpsc::UnboundedReceiver<QueuePosition>,
    publishings: mpsc::Receiver<Publishing>,
    published: mpsc::UnboundedSender<(u64, Published)>,
    letters: Arc<MemorySpool>,
    metrics: Arc<Metrics>,
    task: JoinHandle<()>,
}

impl Story {
    fn start() -> Self {
        let config = Config::for_dev().unwrap();
        let settings = BindingSettings { origin_key: vec![1; 32], max_message_bytes: 4 << 20 };
        let (items, taken) = mpsc::channel(64);
        let (ending, ended) = mpsc::unbounded_channel();
        let (publisher, publishings) = mpsc::channel(64);
        let (published, endings) = mpsc::unbounded_channel();
        let letters = Arc::new(MemorySpool::default());
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let downlink = Downlink::new(DownlinkParts {
            rules: Arc::new(RuleSet::compile(&config.bindings, settings).unwrap()),
            parents: HashMap::from([("room".to_owned(), "room".to_owned())]),
            items: taken,
            ended: ending,
            publisher,
            published: endings,
            dead_letters: Arc::new(DeadLetters {
                sink: Arc::new(Away),
                topic: None,
                store: letters.clone(),
                max_message_bytes: 4 << 20,
                next_queue: AtomicUsize::new(0),
            }),
            clock: Arc::new(ManualClock::at(NOW_MS)),
            metrics: metrics.clone(),
        });
        let task = tokio::spawn(downlink.run(CancellationToken::new()));
        Self { items, ended, publishings, published, letters, metrics, task }
    }

    async fn comes(&self, offset: u64, second: &str) {
        self.comes_with(offset, &[("mqttSecondTopic", second)]).await;
    }

    /// Stored a second ago.
    async fn comes_with(&self, offset: u64, properties: &[(&str, &str)]) {
        let message = StoredMessage {
            topic: "room".to_owned(),
            tag: String::new(),
            keys: String::new(),
            queue: QueueName { broker: "a".into(), id: 0 },
            queue_offset: offset,
            stored_ms: NOW_MS - 1000,
            born_ms: 1,
            flag: 0,
            properties: properties.iter().copied().collect(),
            body: Bytes::from(offset.to_string()),
        };
        let place =
            QueuePosition { topic: "room".into(), queue: message.queue.clone(), offset, generation: 0 };
        self.items.send(Item { place, message }).await.unwrap();
    }

    async fn ended(&mut self) -> u64 {
        let ended = tokio::time::timeout(Duration::from_secs(5), self.ended.recv()).await;
        ended.expect("it ends").unwrap().offset
    }

    fn books(&self) -> [u64; 3] {
        let text = self.metrics.render();
        let sum = |name: &str| -> u64 {
            let lines = text.lines().filter(|line| line.starts_with(name) && line.contains("downlink"));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        [
            sum("roombridge_received_total{"),
            sum("roombridge_published_total{"),
            sum("roombridge_dead_lettered_total{"),
        ]
    }
}

#[tokio::test]
async fn a_message_ends_with_its_puback_and_not_before() {
    let mut story = Story::start();
    story.comes(0, "/message/1").await;
    story.comes(1, "/message/1").await;
    let first = story.publishings.recv().await.unwrap();
    let second = story.publishings.recv().await.unwrap();
    assert_eq!((&*first.message.payload, &*second.message.payload), (&b"0"[..], &b"1"[..]));
    assert!(story.ended.try_recv().is_err());

    story.published.send((second.number, Published::Acknowledged)).unwrap();
    assert_eq!(story.ended().await, 1);
    story.published.send((first.number, Published::Acknowledged)).unwrap();
    assert_eq!(story.ended().await, 0);
    assert_eq!(story.books(), [2, 2, 0]);
    drop(story.items);
    story.task.await.unwrap();
}

/// Hazard 20: what the broker refuses for good is put aside, and has ended only then.
#[tokio::test]
async fn what_is_refused_or_illegal_becomes_a_dead_letter() {
    let mut story = Story::start();
    story.comes(0, "/message/1").await;
    story.comes(1, "/message/+").await;
    assert_eq!(story.ended().await, 1);
    let publishing = story.publishings.recv().await.unwrap();
    let refused = Published::Refused("NotAuthorized".to_owned());
    story.published.send((publishing.number, refused)).unwrap();
    assert_eq!(story.ended().await, 0);
    let letters = story.letters.letters();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["illegal_mqtt_topic", "refused_by_mqtt"]);
    assert!(letters[1].detail.contains("NotAuthorized"));
    assert_eq!(story.books(), [2, 0, 2]);
}

#[tokio::test]
async fn what_has_no_life_left_is_filtered_before_or_while_it_waits() {
    let mut story = Story::start();
    // One whose life has passed, one that has a second left, one that has 59.
    for (offset, life_s) in [(0, "1"), (1, "2"), (2, "60")] {
        story.comes_with(offset, &[("mqttSecondTopic", "a"), ("mqtt5MsgExpireInterval", life_s)]).await;
    }
    assert_eq!(story.ended().await, 0);
    let short = story.publishings.recv().await.unwrap();
    let long = story.publishings.recv().await.unwrap();
    assert_eq!((short.left_s(), long.left_s()), (Some(1), Some(59)));
    story.published.send((short.number, Published::Expired)).unwrap();
    assert_eq!(story.ended().await, 1);
    story.published.send((long.number, Published::Acknowledged)).unwrap();
    assert_eq!(story.ended().await, 2);
    let text = story.metrics.render();
    let expired = r#"roombridge_filtered_total{direction="downlink",reason="expired"} 2"#;
    assert!(text.contains(expired), "{text}");
    assert_eq!(story.books(), [3, 1, 0]);
}
