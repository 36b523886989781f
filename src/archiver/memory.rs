//! A RocketMQ in memory that forgets, loses topics and makes them anew.

use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::model::{FailureKind, QueueName, StoredMessage};
use crate::pipeline::ports::{Page, ReadError, Reader, Withheld};

pub(crate) const STORED_MS: u64 = 1_800_000_000_000;

/// Topic `room` with one queue.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Kept>);

#[derive(Default)]
pub(crate) struct Kept {
    first: u64,
    pub(crate) messages: Vec<StoredMessage>,
    /// Counted, and not given out.
    pub(crate) withheld: Vec<u64>,
    /// Its broker is away, so that the name server knows no topic.
    pub(crate) is_away: bool,
    /// The queue is handed out to nobody.
    pub(crate) has_too_few_read_queues: bool,
    epoch: u64,
    /// It answers nothing about its queues.
    pub(crate) is_silent: bool,
    /// The topic is deleted.
    is_gone: bool,
    /// Rises with each message, over all epochs.
    clock_ms: u64,
    /// What there was before the topic was made anew.
    before: Option<Box<Kept>>,
}

impl Memory {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    pub(crate) fn say(&self, texts: impl IntoIterator<Item = String>) {
        let mut kept = self.lock();
        for text in texts {
            let offset = kept.first + kept.messages.len() as u64;
            kept.clock_ms += 1;
            let unique = format!("{}-{offset}", kept.epoch);
            let named = [
                ("UNIQ_KEY", unique.as_str()),
                ("topic", "room/message/1"),
                ("mqttSecondTopic", "/message/1"),
            ];
            let message = StoredMessage {
                topic: "room".to_owned(),
                tag: String::new(),
                keys: String::new(),
                queue: name(),
                queue_offset: offset,
                stored_ms: STORED_MS + kept.clock_ms,
                born_ms: STORED_MS,
                flag: 0,
                properties: named.into_iter().collect(),
                body: Bytes::from(text),
            };
            kept.messages.push(message);
        }
    }

    pub(crate) fn say_so_many(&self, count: u64) {
        self.say((0..count).map(|number| format!("line {number}")));
    }

    /// A silence.
    pub(crate) fn later(&self, silence: std::time::Duration) {
        self.lock().clock_ms += silence.as_millis() as u64;
    }

    /// RocketMQ deletes what is older than that offset.
    pub(crate) fn forget_before(&self, offset: u64) {
        let mut kept = self.lock();
        let gone = (offset - kept.first) as usize;
        kept.messages.drain(..gone);
        kept.first = offset;
    }

    /// RocketMQ deletes so many of its oldest messages.
    pub(crate) fn forget(&self, count: u64) {
        let first = self.lock().first;
        self.forget_before(first + count);
    }

    /// The topic is deleted and made again.
    pub(crate) fn make_anew(&self) {
        let mut kept = self.lock();
        let (epoch, clock_ms) = (kept.epoch + 1, kept.clock_ms);
        let before = std::mem::take(&mut *kept);
        *kept = Kept { epoch, clock_ms, before: Some(Box::new(before)), ..Kept::default() };
    }

    /// The broker crashed before it had written down that the topic was deleted.
    pub(crate) fn bring_back(&self) {
        let mut kept = self.lock();
        let clock_ms = kept.clock_ms;
        if let Some(before) = kept.before.take() {
            *kept = Kept { clock_ms, ..*before };
        }
    }

    pub(crate) fn delete_topic(&self) {
        self.make_anew();
        self.lock().is_gone = true;
    }
}

pub(crate) fn name() -> QueueName {
    QueueName { broker: "a".into(), id: 0 }
}

impl Reader for Memory {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        let missing = || ReadError {
            what: "topic room".to_owned(),
            cause: "it is gone".to_owned(),
            kind: FailureKind::TopicMissing,
        };
        let kept = self.lock();
        let queues = match (kept.is_gone || kept.is_away, kept.has_too_few_read_queues) {
            (true, _) => Err(missing()),
            (false, true) => Ok(Vec::new()),
            (false, false) => Ok(vec![name()]),
        };
        Box::pin(async { queues })
    }

    fn away<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        let away = self.lock().is_away.then(|| name().broker.to_string());
        Box::pin(async { Ok(Vec::from_iter(away)) })
    }

    fn withheld<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Withheld>, ReadError>> {
        let kept = self.lock();
        let offsets = kept.first..kept.first + kept.messages.len() as u64;
        let is_withheld = kept.has_too_few_read_queues && !offsets.is_empty();
        let withheld = is_withheld.then(|| Withheld { queue: name(), offsets, may_be_read: true });
        Box::pin(async { Ok(Vec::from_iter(withheld)) })
    }

    fn offsets<'a>(&'a self, _: &'a str, _: &'a QueueName) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        let kept = self.lock();
        let offsets = (kept.first, kept.first + kept.messages.len() as u64);
        let silent = ReadError {
            what: "topic room".to_owned(),
            cause: "no answer".to_owned(),
            kind: FailureKind::Timeout,
        };
        let answer = if kept.is_silent { Err(silent) } else { Ok(offsets) };
        Box::pin(async move { answer })
    }

    fn offset_at<'a>(
        &'a self,
        _: &'a str,
        _: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        let kept = self.lock();
        let found = kept.messages.iter().find(|message| message.stored_ms >= stored_ms);
        let end = kept.first + kept.messages.len() as u64;
        let offset = found.map_or(end, |message| message.queue_offset);
        Box::pin(async move { Ok(offset) })
    }

    fn pull<'a>(
        &'a self,
        _: &'a str,
        _: &'a QueueName,
        _: Option<&'a str>,
        from: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        let kept = self.lock();
        let (first, end) = (kept.first, kept.first + kept.messages.len() as u64);
        let held = (first..=end).contains(&from);
        let given = kept.messages.iter().filter(|message| held && message.queue_offset >= from);
        let given = given.filter(|message| !kept.withheld.contains(&message.queue_offset));
        let messages: Vec<_> = given.take(limit as usize).cloned().collect();
        let next_offset = messages.last().map_or(from, |last| last.queue_offset + 1);
        Box::pin(async move { Ok(Page { messages, next_offset, first, end }) })
    }
}
