//! What is asked for before it is needed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Answers after a while, so that several questions are open at once.
#[derive(Default)]
struct Slow {
    memory: Memory,
    /// An offset of queue 0, and how many pulls from there fail.
    fails: Mutex<(u64, u32)>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    /// By queue and offset.
    asked: Mutex<Vec<(i32, u64)>>,
}

impl Slow {
    fn fails_at(&self, offset: u64) -> bool {
        let mut fails = self.fails.lock().unwrap();
        let fails_now = fails.0 == offset && fails.1 > 0;
        fails.1 -= u32::from(fails_now);
        fails_now
    }
}

impl Reader for Slow {
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
        Box::pin(async move {
            self.asked.lock().unwrap().push((queue.id, from_offset));
            let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_open.fetch_max(open, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.open.fetch_sub(1, Ordering::Relaxed);
            if queue.id == 0 && self.fails_at(from_offset) {
                let (what, cause) = (topic.to_owned(), "there is no connection".to_owned());
                return Err(ReadError { what, cause, kind: FailureKind::Transport });
            }
            self.memory.pull(topic, queue, tag, from_offset, limit).await
        })
    }
}

/// The number of messages in each queue.
fn slow(queues: i32, messages: u64) -> Slow {
    let mut memory = Memory::default();
    for number in 0..messages * queues as u64 {
        memory.store((number % queues as u64) as i32, 10 + number, "7", Some(number), "x");
    }
    Slow { memory, ..Slow::default() }
}

async fn read(reader: &Slow) -> Result<Vec<u64>, HistoryError> {
    let mut history = History::open(reader, room("7"), &mut |_| {}).await?;
    let mut times = Vec::new();
    while let Some(record) = history.next().await? {
        times.push(record.stored_ms);
    }
    Ok(times)
}

#[tokio::test(start_paused = true)]
async fn a_history_asks_eight_queues_at_once_and_nothing_twice() {
    let reader = slow(20, 600);
    let history = History::open(&reader, room("7"), &mut |_| {}).await.unwrap();
    assert_eq!(history.len(), 12_000);
    assert_eq!(reader.most_open.load(Ordering::Relaxed), 8);
    let asked = std::mem::take(&mut *reader.asked.lock().unwrap());
    assert_eq!(asked.len(), 20 * 3, "256 messages are a page");
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len());
}

#[tokio::test(start_paused = true)]
async fn all_that_was_asked_ahead_comes_in_order() {
    let times = read(&slow(3, 600)).await.unwrap();
    assert_eq!(times, (10..1810).collect::<Vec<_>>());
}

/// A replay pauses as long as the lesson did, so the failure may be long over when the page is needed.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_asked_for_ahead_and_failed_is_asked_for_once_more() {
    let reader = slow(1, 600);
    *reader.fails.lock().unwrap() = (256, 1);
    assert_eq!(read(&reader).await.unwrap().len(), 600);
    assert_eq!(reader.fails.lock().unwrap().1, 0, "it has failed");

    let reader = slow(1, 600);
    *reader.fails.lock().unwrap() = (256, 2);
    let error = read(&reader).await.unwrap_err().to_string();
    assert!(error.contains("no connection"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn at_most_one_page_is_asked_for_ahead() {
    let reader = slow(1, 2000);
    let mut history = History::open(&reader, room("7"), &mut |_| {}).await.unwrap();
    reader.asked.lock().unwrap().clear();
    history.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*reader.asked.lock().unwrap(), [(0, 0), (0, 256)]);
}
