//! A follower before a RocketMQ in memory, in paused time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::data_dir::DataDir;
use crate::model::{Clock, FailureKind, ManualClock, StartAt};
use crate::pipeline::ports::{Page, ReadError, Reader};
use crate::telemetry::Metrics;

mod dies;
mod made_anew;

/// First offset, and what follows; `None` cannot be read any more.
type Kept = (u64, Vec<Option<StoredMessage>>);

/// One broker whose queues can grow, be emptied and lose their beginning.
struct Memory {
    clock: Arc<ManualClock>,
    away: AtomicBool,
    pull_dies: AtomicBool,
    pull_takes: Mutex<Duration>,
    queues: Mutex<BTreeMap<i32, Kept>>,
}

impl Memory {
    fn with_queues(count: i32) -> Arc<Self> {
        let memory = Self {
            clock: Arc::new(ManualClock::at(1000)),
            away: AtomicBool::new(false),
            pull_dies: AtomicBool::new(false),
            pull_takes: Mutex::new(Duration::from_millis(1)),
            queues: Mutex::default(),
        };
        for id in 0..count {
            memory.queues.lock().unwrap().insert(id, (0, Vec::new()));
        }
        Arc::new(memory)
    }

    fn store(&self, id: i32, text: &str) {
        let mut queues = self.queues.lock().unwrap();
        let (first, messages) = queues.entry(id).or_default();
        let queue_offset = *first + messages.len() as u64;
        messages.push(Some(StoredMessage {
            topic: "room".to_owned(),
            tag: String::new(),
            keys: text.to_owned(),
            queue: queue(id),
            queue_offset,
            stored_ms: self.clock.wall_ms(),
            born_ms: 1,
            flag: 0,
            properties: Default::default(),
            body: Bytes::copy_from_slice(text.as_bytes()),
        }));
    }

    fn store_all(&self, id: i32, texts: &[&str]) {
        for text in texts {
            self.store(id, text);
        }
    }

    /// RocketMQ still counts it.
    fn damage(&self, id: i32, offset: u64) {
        let mut queues = self.queues.lock().unwrap();
        let (first, messages) = queues.get_mut(&id).unwrap();
        messages[(offset - *first) as usize] = None;
    }

    /// A deleted topic that is made anew, a broker with another store.
    fn replace(&self, id: i32, texts: &[&str]) {
        self.queues.lock().unwrap().insert(id, (0, Vec::new()));
        self.store_all(id, texts);
    }

    fn failure(&self) -> Option<ReadError> {
        self.away.load(Ordering::Relaxed).then(|| ReadError {
            what: "room".to_owned(),
            cause: "away".to_owned(),
            kind: FailureKind::Transport,
        })
    }

    /// RocketMQ deletes what is old.
    fn forget_before(&self, id: i32, offset: u64) {
        let mut queues = self.queues.lock().unwrap();
        let (first, messages) = queues.get_mut(&id).unwrap();
        messages.drain(..(offset - *first) as usize);
        *first = offset;
    }

    fn empty(&self) {
        for queue in self.queues.lock().unwrap().values_mut() {
            *queue = (0, Vec::new());
        }
    }
}

fn queue(id: i32) -> QueueName {
    QueueName { broker: "a".into(), id }
}

impl Reader for Memory {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        if let Some(error) = self.failure() {
            return Box::pin(async { Err(error) });
        }
        let queues = self.queues.lock().unwrap().keys().map(|id| queue(*id)).collect();
        Box::pin(async move { Ok(queues) })
    }

    fn offsets<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        let queues = self.queues.lock().unwrap();
        let (first, messages) = &queues[&queue.id];
        let answer = (*first, *first + messages.len() as u64);
        Box::pin(async move { Ok(answer) })
    }

    fn offset_at<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        let queues = self.queues.lock().unwrap();
        let (first, messages) = &queues[&queue.id];
        let earlier = messages.iter().flatten().take_while(|message| message.stored_ms < stored_ms);
        let offset = *first + earlier.count() as u64;
        Box::pin(async move { Ok(offset) })
    }

    fn pull<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
        _: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        let takes = *self.pull_takes.lock().unwrap();
        let dies = self.pull_dies.load(Ordering::Relaxed);
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            assert!(!dies, "a read that dies");
            if let Some(error) = self.failure() {
                return Err(error);
            }
            let queues = self.queues.lock().unwrap();
            let (first, stored) = &queues[&queue.id];
            let end = first + stored.len() as u64;
            let leads_on = (*first..=end).contains(&from_offset);
            let skipped = from_offset.saturating_sub(*first) as usize;
            let found = stored.iter().skip(skipped).take(limit as usize);
            // What RocketMQ cannot read any more is left out.
            let messages: Vec<_> = found.clone().filter(|_| leads_on).flatten().cloned().collect();
            let last = messages.last().map(|last| last.queue_offset + 1);
            let next_offset = match last {
                None if leads_on => from_offset + found.count() as u64,
                last => last.unwrap_or(from_offset),
            };
            Ok(Page { messages, next_offset, first: *first, end })
        })
    }
}

/// A running follower and its other end.
struct Story {
    folder: tempfile::TempDir,
    memory: Arc<Memory>,
    metrics: Arc<Metrics>,
}

struct Following {
    items: mpsc::Receiver<Item>,
    ended: mpsc::UnboundedSender<QueuePosition>,
    news: mpsc::Sender<(Arc<str>, QueueName)>,
    stop: CancellationToken,
    stop_now: CancellationToken,
    task: JoinHandle<()>,
    data_dir: Arc<DataDir>,
}

impl Story {
    fn new(queues: i32) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            memory: Memory::with_queues(queues),
            metrics: Arc::new(Metrics::new(&[]).unwrap()),
        }
    }

    async fn follow(&self, start: StartAt) -> Following {
        let (items, taken) = mpsc::channel(OPEN_MESSAGES + 32);
        let (ended, endings) = mpsc::unbounded_channel();
        let (news, wakes) = wakes();
        let data_dir = Arc::new(DataDir::open(self.folder.path()).unwrap());
        let mut follower = Follower::new(FollowerParts {
            name: "test",
            topics: vec![Topic { name: "room".into(), start }],
            reader: self.memory.clone(),
            data_dir: data_dir.clone(),
            clock: self.memory.clock.clone(),
            metrics: self.metrics.clone(),
            items,
            ended: endings,
            wakes,
        })
        .unwrap();
        follower.begin().await;
        let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
        let task = tokio::spawn(follower.run(stop.clone(), stop_now.clone()));
        Following { items: taken, ended, news, stop, stop_now, task, data_dir }
    }

    fn lost(&self) -> u64 {
        self.metrics.downlink.position_lost_total.get()
    }
}

impl Following {
    async fn next(&mut self) -> Item {
        // The paused clock runs on while a busy disk writes a position, so a message may come behind 20 s of it.
        for _ in 0..1_000 {
            if let Ok(item) = tokio::time::timeout(Duration::from_secs(20), self.items.recv()).await {
                return item.unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no message comes")
    }

    async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            let item = self.next().await;
            texts.push(String::from_utf8(item.message.body.to_vec()).unwrap());
            self.ended.send(item.place).unwrap();
        }
        texts
    }

    async fn nothing_more(&mut self) {
        let more = tokio::time::timeout(Duration::from_secs(20), self.items.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        self.data_dir.idle().await;
    }

    async fn crash(self) {
        self.stop_now.cancel();
        self.task.await.unwrap();
        self.data_dir.idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_handed_on_in_order_and_a_restart_goes_on_behind_what_ended() {
    // Given a follower that has read and ended three messages
    let story = Story::new(2);
    for text in ["1", "2", "3"] {
        story.memory.store(1, text);
    }
    let mut following = story.follow(StartAt::Earliest).await;
    assert_eq!(following.texts(3).await, ["1", "2", "3"]);
    following.stop().await;

    // When more is stored while it is away, then the next one reads that and nothing else
    story.memory.store(1, "4");
    let mut following = story.follow(StartAt::Earliest).await;
    assert_eq!(following.texts(1).await, ["4"]);
    following.nothing_more().await;
    assert_eq!(story.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_had_not_ended_comes_again_after_a_crash_in_order() {
    let story = Story::new(1);
    for text in ["1", "2", "3", "4"] {
        story.memory.store(0, text);
    }
    let mut following = story.follow(StartAt::Earliest).await;
    let items = [following.next().await, following.next().await, following.next().await];
    // The first and the third have ended, the second has not.
    for index in [2, 0] {
        following.ended.send(items[index].place.clone()).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    following.crash().await;

    let mut following = story.follow(StartAt::Earliest).await;
    assert_eq!(following.texts(3).await, ["2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_follower_may_begin_with_what_comes() {
    let story = Story::new(1);
    story.memory.store(0, "yesterday");
    let mut following = story.follow(StartAt::Latest).await;
    following.nothing_more().await;
    story.memory.store(0, "now");
    assert_eq!(following.texts(1).await, ["now"]);
    following.stop().await;

    // A queue that the topic gains later is read from its beginning, because all of it is new.
    story.memory.store(3, "in a new queue");
    let mut following = story.follow(StartAt::Latest).await;
    assert_eq!(following.texts(1).await, ["in a new queue"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_while_a_new_follower_begins_is_not_old() {
    // Given a RocketMQ that does not answer when the follower begins
    let story = Story::new(1);
    story.memory.store(0, "yesterday");
    story.memory.clock.advance(Duration::from_secs(86_400));
    story.memory.away.store(true, Ordering::Relaxed);
    let mut following = story.follow(StartAt::Latest).await;

    // When it comes back, and something was stored before the follower has looked
    story.memory.store(0, "now");
    story.memory.away.store(false, Ordering::Relaxed);

    // Then that is read, and what was there before is not
    assert_eq!(following.texts(1).await, ["now"]);
    following.nothing_more().await;
}

/// Hazard 20: an offset beyond the end after a failover would be reset in silence, and everything until there skipped.
#[tokio::test(start_paused = true)]
async fn a_queue_that_was_emptied_or_rolled_back_is_read_from_its_beginning() {
    let story = Story::new(1);
    for text in ["1", "2", "3"] {
        story.memory.store(0, text);
    }
    let mut following = story.follow(StartAt::Earliest).await;
    following.texts(3).await;
    following.stop().await;

    story.memory.empty();
    story.memory.store(0, "new 1");
    let mut following = story.follow(StartAt::Earliest).await;
    assert_eq!(following.texts(1).await, ["new 1"]);
    assert_eq!(story.lost(), 1, "it is shorter");
    following.stop().await;

    story.memory.empty();
    for text in ["newer 1", "newer 2"] {
        story.memory.store(0, text);
    }
    let mut following = story.follow(StartAt::Earliest).await;
    assert_eq!(following.texts(2).await, ["newer 1", "newer 2"]);
    assert_eq!(story.lost(), 2, "another message lies in the last one's place");
}

/// Hazard 20: the same where no message is known that the queue could be compared by.
#[tokio::test(start_paused = true)]
async fn a_queue_that_is_shorter_than_where_we_began_is_read_from_its_beginning() {
    let story = Story::new(1);
    for text in ["1", "2", "3"] {
        story.memory.store(0, text);
    }
    let mut following = story.follow(StartAt::Latest).await;
    following.nothing_more().await;
    following.stop().await;

    story.memory.empty();
    story.memory.store(0, "new 1");
    let mut following = story.follow(StartAt::Latest).await;
    assert_eq!(following.texts(1).await, ["new 1"]);
    assert_eq!(story.lost(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_that_rocketmq_deleted_unread_are_told() {
    let story = Story::new(1);
    story.memory.store(0, "1");
    let mut following = story.follow(StartAt::Earliest).await;
    following.texts(1).await;
    following.stop().await;

    for text in ["2", "3", "4"] {
        story.memory.store(0, text);
    }
    story.memory.forget_before(0, 3);
    let mut following = story.follow(StartAt::Earliest).await;
    assert_eq!(following.texts(1).await, ["4"]);
    assert_eq!(story.lost(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_read_than_may_be_open() {
    let story = Story::new(1);
    for number in 0..3000 {
        story.memory.store(0, &number.to_string());
    }
    let mut following = story.follow(StartAt::Earliest).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let waiting = following.items.len();
    assert!((OPEN_MESSAGES..OPEN_MESSAGES + 32).contains(&waiting), "{waiting}");
    let texts = following.texts(3000).await;
    let expected: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
}

#[tokio::test(start_paused = true)]
async fn what_the_bridge_stored_itself_is_read_at_once() {
    let story = Story::new(8);
    let mut following = story.follow(StartAt::Earliest).await;
    following.nothing_more().await;
    let before = tokio::time::Instant::now();
    story.memory.store(5, "hi");
    following.news.try_send(("room".into(), queue(5))).unwrap();
    assert_eq!(following.texts(1).await, ["hi"]);
    assert!(before.elapsed() < Duration::from_millis(20), "{:?}", before.elapsed());
}

/// A busy machine, or a RocketMQ far away: the queues that come first must not use up all reads.
#[tokio::test(start_paused = true)]
async fn where_reading_is_slow_each_queue_has_its_turn() {
    let story = Story::new(40);
    *story.memory.pull_takes.lock().unwrap() = Duration::from_millis(200);
    for id in 0..40 {
        story.memory.store(id, &id.to_string());
    }
    let mut following = story.follow(StartAt::Earliest).await;
    let mut texts = following.texts(40).await;
    texts.sort_by_key(|text| text.parse::<i32>().unwrap());
    let expected: Vec<String> = (0..40).map(|id| id.to_string()).collect();
    assert_eq!(texts, expected);
}

/// RocketMQ hands a message out some milliseconds after it confirmed it.
#[tokio::test(start_paused = true)]
async fn what_is_shown_a_little_after_its_news_is_read_soon() {
    let story = Story::new(8);
    let mut following = story.follow(StartAt::Earliest).await;
    following.nothing_more().await;
    let before = tokio::time::Instant::now();
    following.news.try_send(("room".into(), queue(5))).unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    story.memory.store(5, "hi");
    assert_eq!(following.texts(1).await, ["hi"]);
    assert!(before.elapsed() < Duration::from_millis(50), "{:?}", before.elapsed());
}
