//! A RocketMQ that forgets, loses topics, makes them anew, gets them back, grows and is renamed; and what is true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::future::BoxFuture;

use super::gate::Gates;
use crate::model::{FailureKind, MessageId, QueueName, StoredMessage};
use crate::pipeline::ports::{Page, ReadError, Reader};

pub(super) const TOPIC: &str = "room";
pub(super) const STORED_MS: u64 = 1_800_000_000_000;

/// One queue of one time that its topic was made.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    pub epoch: u64,
    /// What is below is deleted.
    pub first: u64,
    /// From offset 0 on, deleted ones included.
    pub messages: Vec<StoredMessage>,
    /// Counted, and not given out.
    pub withheld: BTreeSet<u64>,
}

impl Queue {
    pub(super) fn end(&self) -> u64 {
        self.messages.len() as u64
    }

    /// What it gives out.
    pub(super) fn given(&self) -> impl Iterator<Item = &StoredMessage> {
        let is_given = |message: &&StoredMessage| {
            message.queue_offset >= self.first && !self.withheld.contains(&message.queue_offset)
        };
        self.messages.iter().filter(is_given)
    }
}

/// What a message says, wherever it lies.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub room: String,
    pub is_private: bool,
    pub id: Option<MessageId>,
    pub body: String,
}

#[derive(Default)]
pub(super) struct State {
    pub queues: BTreeMap<QueueName, Queue>,
    pub is_gone: bool,
    pub is_silent: bool,
    /// By the broker's clock.
    pub clock_ms: u64,
    /// Of topics that were deleted: a crash may bring them back.
    deleted: Vec<BTreeMap<QueueName, Queue>>,
    /// One came back.
    pub came_back: bool,
    epochs: u64,
    messages: u64,
    /// Those that have an id; another one may have it, too.
    pub with_ids: Vec<Line>,
    /// By message.
    pub said: BTreeMap<String, Line>,
    /// Which messages ever lay at an offset of a queue, and of which epoch each was.
    pub ever: BTreeMap<(QueueName, u64), BTreeMap<String, u64>>,
    /// The first offsets that a queue had in an epoch.
    pub firsts: BTreeMap<(QueueName, u64), BTreeSet<u64>>,
    /// Offsets that were withheld once.
    pub withheld_once: BTreeSet<(QueueName, u64)>,
}

impl State {
    pub(super) fn make(&mut self, brokers: &[&str], queues_each: i32) {
        for broker in brokers {
            for id in 0..queues_each {
                let name = QueueName { broker: (*broker).into(), id };
                self.epochs += 1;
                let epoch = self.epochs;
                self.queues.entry(name.clone()).or_insert_with(|| Queue { epoch, ..Queue::default() });
            }
        }
        self.note();
    }

    /// Remembers what is true now.
    fn note(&mut self) {
        for (name, queue) in &self.queues {
            self.firsts.entry((name.clone(), queue.epoch)).or_default().insert(queue.first);
        }
    }

    /// Something that was never said.
    pub(super) fn new_line(&self, room: String, is_private: bool, has_id: bool) -> Line {
        let number = self.messages;
        let id = has_id.then(|| MessageId::from_parts(1, number));
        Line { room, is_private, id, body: format!("line {number}") }
    }

    pub(super) fn say(&mut self, name: &QueueName, line: Line) {
        let (clock_ms, number) = (self.clock_ms, self.messages);
        let Some(queue) = self.queues.get_mut(name) else { return };
        self.messages += 1;
        let offset = queue.end();
        let (unique, topic) = (format!("{number:032X}"), format!("room/message/{}", line.room));
        let kind = if line.is_private { "p2p" } else { "message" };
        let id = line.id.map(|id| id.to_string()).unwrap_or_default();
        let named = [
            ("UNIQ_KEY", unique.as_str()),
            ("topic", topic.as_str()),
            ("mqttSecondTopic", ""),
            ("rbKind", kind),
            ("rbId", id.as_str()),
        ];
        let message = StoredMessage {
            topic: TOPIC.to_owned(),
            tag: String::new(),
            keys: if id.is_empty() { String::new() } else { format!("{} {id}", line.room) },
            queue: name.clone(),
            queue_offset: offset,
            stored_ms: clock_ms,
            born_ms: clock_ms,
            flag: 0,
            properties: named.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
            body: Bytes::from(line.body.clone()),
        };
        let of_offset = self.ever.entry((name.clone(), offset)).or_default();
        of_offset.insert(uid(&message), queue.epoch);
        if line.id.is_some() {
            self.with_ids.push(line.clone());
        }
        self.said.insert(uid(&message), line);
        queue.messages.push(message);
    }

    pub(super) fn forget(&mut self, name: &QueueName, count: u64) {
        if let Some(queue) = self.queues.get_mut(name) {
            queue.first = (queue.first + count).min(queue.end());
        }
        self.note();
    }

    pub(super) fn withhold(&mut self, name: &QueueName, offset: u64) {
        if let Some(queue) = self.queues.get_mut(name) {
            queue.withheld.insert(offset);
            self.withheld_once.insert((name.clone(), offset));
        }
    }

    /// It answers, and gives out what it withheld.
    pub(super) fn heal(&mut self) {
        self.is_silent = false;
        self.queues.values_mut().for_each(|queue| queue.withheld.clear());
    }

    pub(super) fn delete_topic(&mut self) {
        let queues = std::mem::take(&mut self.queues);
        if !queues.is_empty() {
            self.deleted.push(queues);
        }
        self.is_gone = true;
    }

    pub(super) fn remake_topic(&mut self, brokers: &[&str], queues_each: i32) {
        self.delete_topic();
        self.is_gone = false;
        self.make(brokers, queues_each);
    }

    /// A broker crashed before it had written down that the topic was deleted.
    pub(super) fn bring_back(&mut self) {
        if let Some(queues) = self.deleted.pop() {
            self.queues = queues;
            self.is_gone = false;
            self.came_back = true;
            self.note();
        }
    }

    /// The same store under another name.
    pub(super) fn rename_broker(&mut self, from: &str, to: &str) {
        let queues = std::mem::take(&mut self.queues);
        for (mut name, mut queue) in queues {
            if &*name.broker == from {
                name.broker = to.into();
                self.epochs += 1;
                queue.epoch = self.epochs;
                for message in &mut queue.messages {
                    message.queue = name.clone();
                    let at = (name.clone(), message.queue_offset);
                    self.ever.entry(at).or_default().insert(uid(message), queue.epoch);
                }
                for offset in &queue.withheld {
                    self.withheld_once.insert((name.clone(), *offset));
                }
            }
            self.queues.insert(name, queue);
        }
        self.note();
    }
}

/// What makes a message another one than all others, whatever the queue.
pub(super) fn uid(message: &StoredMessage) -> String {
    message.name()
}

#[derive(Default)]
pub(super) struct RocketMq(Mutex<State>);

impl RocketMq {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// RocketMQ as one process sees it; `None`: without faults.
pub(super) struct Seen {
    pub rocketmq: Arc<RocketMq>,
    pub gates: Option<Gates>,
}

impl Seen {
    async fn ask<T>(
        &self,
        what: &str,
        answer: impl Fn(&State) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        if let Some(gates) = &self.gates {
            gates.pass_reader(what).await.map_err(|()| failed(FailureKind::Timeout))?;
        }
        let state = self.rocketmq.lock();
        if state.is_silent { Err(failed(FailureKind::Timeout)) } else { answer(&state) }
    }
}

fn failed(kind: FailureKind) -> ReadError {
    ReadError { what: format!("topic {TOPIC}"), cause: format!("{kind:?}"), kind }
}

impl Reader for Seen {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(self.ask("queues", |state| match state.is_gone {
            true => Err(failed(FailureKind::TopicMissing)),
            false => Ok(state.queues.keys().cloned().collect()),
        }))
    }

    fn offsets<'a>(
        &'a self,
        _: &'a str,
        name: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        Box::pin(self.ask("offsets", |state| {
            let queue = state.queues.get(name).ok_or_else(|| failed(FailureKind::Unknown))?;
            Ok((queue.first, queue.end()))
        }))
    }

    fn offset_at<'a>(
        &'a self,
        _: &'a str,
        name: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(self.ask("offset_at", move |state| {
            let queue = state.queues.get(name).ok_or_else(|| failed(FailureKind::Unknown))?;
            let found = queue.given().find(|message| message.stored_ms >= stored_ms);
            Ok(found.map_or(queue.end(), |message| message.queue_offset))
        }))
    }

    fn pull<'a>(
        &'a self,
        _: &'a str,
        name: &'a QueueName,
        _: Option<&'a str>,
        from: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(self.ask("pull", move |state| {
            let queue = state.queues.get(name).ok_or_else(|| failed(FailureKind::Unknown))?;
            let (first, end) = (queue.first, queue.end());
            let held = (first..=end).contains(&from);
            // Small pages, so that things happen between them.
            let given = queue.given().filter(|message| held && message.queue_offset >= from);
            let messages: Vec<_> = given.take(limit.min(16) as usize).cloned().collect();
            let next_offset = messages.last().map_or(from, |last| last.queue_offset + 1);
            Ok(Page { messages, next_offset, first, end })
        }))
    }
}
