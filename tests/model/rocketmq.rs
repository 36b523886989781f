//! RocketMQ as a [`Sink`] and a [`Reader`]: two brokers, four queues a topic, and all the ways in which a send can go.
//! Bytes that are on the network go on without the process that sent them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use roombridge::testing::binding::{read_back, read_letter, stored_form};
use roombridge::testing::model::{FailureKind, NotDurable, OutgoingMessage, QueueName, Sent, StoredMessage};
use roombridge::testing::pipeline::ports::{Batch, Page, ReadError, Reader, Sink};
use tokio::sync::oneshot;

use crate::gate::{Gate, Point};
use crate::lies::Lie;
use crate::scenario::Setup;
use crate::world::World;

pub const DEAD_LETTER_TOPIC: &str = "dead";
pub const ILLEGAL: &[u8] = b"illegal";
const BROKERS: [&str; 2] = ["broker-a", "broker-b"];
const QUEUES_OF_A_BROKER: i32 = 2;
const SEND_TIMEOUT: Duration = Duration::from_secs(3);

type QueueKey = (String, QueueName);

/// One message in a queue.
#[derive(Debug, Clone)]
pub struct Row {
    pub message: OutgoingMessage,
    pub number: Option<usize>,
}

/// What RocketMQ holds, and what is wrong with it now.
#[derive(Debug, Default)]
pub struct Store {
    pub queues: BTreeMap<QueueKey, Vec<Row>>,
    pub stored: BTreeSet<usize>,
    pub dead: BTreeSet<usize>,
    /// By broker.
    pub away: [bool; 2],
    pub missing: BTreeSet<&'static str>,
    pub not_permitted: BTreeSet<&'static str>,
    pub flaky: bool,
    pub slow: bool,
    attempts: BTreeMap<QueueKey, u64>,
    /// The broker holds the first attempt of these back until a later one of the same message was stored.
    late: BTreeMap<String, QueueKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stored,
    AnswerLost,
    Late,
    NotDurable,
    Failed(FailureKind),
}

impl Store {
    pub fn new(setup: &Setup) -> Self {
        Self { away: [false, setup.starts_with_one_broker], ..Self::default() }
    }

    pub fn heal(&mut self) {
        self.away = [false, false];
        self.missing.clear();
        self.not_permitted.clear();
        (self.flaky, self.slow) = (false, false);
    }

    fn is_away(&self, queue: &QueueName) -> bool {
        let broker = BROKERS.iter().position(|name| **name == *queue.broker);
        broker.is_none_or(|broker| self.away[broker])
    }
}

/// The RocketMQ client of one process.
#[derive(Clone)]
pub struct Client {
    pub world: Arc<World>,
    pub gate: Gate,
    pub lie: Option<Lie>,
}

impl Client {
    fn writable(&self, topic: &str) -> Result<Vec<QueueName>, ReadError> {
        let store = self.world.store.lock().unwrap();
        if store.away == [true, true] {
            return Err(ReadError::of(FailureKind::Transport));
        }
        if store.missing.contains(topic) {
            return Err(ReadError::of(FailureKind::TopicMissing));
        }
        let all = BROKERS
            .iter()
            .flat_map(|broker| (0..QUEUES_OF_A_BROKER).map(|id| QueueName { broker: (*broker).into(), id }));
        Ok(all.filter(|queue| !store.is_away(queue)).collect())
    }
}

impl Sink for Client {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async move {
            self.gate.pass().await;
            tokio::time::sleep(Duration::from_millis(7)).await;
            let answer = self.writable(topic);
            self.world.log(format!(
                "rocketmq: queues of {topic}: {}",
                match &answer {
                    Ok(queues) => queues.len().to_string(),
                    Err(error) => error.kind.to_string(),
                }
            ));
            self.gate.pass().await;
            answer
        })
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        let client = self.clone();
        Box::pin(async move {
            client.gate.touch(Point::Sending);
            client.gate.pass().await;
            let (answer, answered) = oneshot::channel();
            // Its own task: the network does not stop when the sender dies.
            tokio::spawn(carry(client.clone(), batch, answer));
            let answers = answered.await.unwrap_or_default();
            client.gate.touch(Point::Answered);
            client.gate.pass().await;
            answers
        })
    }
}

async fn carry(client: Client, batch: Arc<Batch>, answer: oneshot::Sender<Vec<Sent>>) {
    let world = &client.world;
    let key = (batch.topic.to_string(), batch.queue.clone());
    let attempt = {
        let mut store = world.store.lock().unwrap();
        let attempts = store.attempts.entry(key.clone()).or_default();
        *attempts += 1;
        *attempts
    };
    let mut dice = world.dice(&format!("{}/{}", key.0, key.1), attempt);
    let slow = if world.store.lock().unwrap().slow { 40 } else { 1 };
    tokio::time::sleep(Duration::from_millis(dice.between(1, 12) * slow)).await;
    if client.lie == Some(Lie::SinkNeverAnswers) && batch.queue.id == 1 {
        std::future::pending::<()>().await;
    }
    let fate = fate(world, &batch, &mut dice);
    let numbers: Vec<_> = batch.messages.iter().filter_map(|message| number_of(world, message)).collect();
    world.log(format!("rocketmq: {}/{} {numbers:?} -> {fate:?}", key.0, key.1));
    let answers: Vec<_> = match fate {
        Fate::Stored | Fate::NotDurable | Fate::AnswerLost
            if client.lie == Some(Lie::SinkStoresNothing) && attempt % 5 == 0 =>
        {
            batch.messages.iter().map(|_| Sent::Stored).collect()
        }
        Fate::Stored | Fate::NotDurable | Fate::AnswerLost => {
            let messages = batch.messages.iter();
            messages
                .map(|message| {
                    let mut message = message.clone();
                    if client.lie == Some(Lie::SinkChangesBytes) && attempt % 7 == 0 {
                        message.body = vec![b'!'; message.body.len()].into();
                    }
                    append(world, &key, message);
                    if fate == Fate::NotDurable {
                        Sent::NotDurable(NotDurable::FlushDiskTimeout)
                    } else {
                        Sent::Stored
                    }
                })
                .collect()
        }
        Fate::Late => {
            let mut store = world.store.lock().unwrap();
            for message in &batch.messages {
                store.late.insert(id_of(message).to_owned(), key.clone());
            }
            Vec::new()
        }
        Fate::Failed(kind) => vec![Sent::Failed(kind); batch.messages.len()],
    };
    if matches!(fate, Fate::Stored | Fate::NotDurable | Fate::AnswerLost) {
        client.gate.touch(Point::Stored);
    }
    let lost = matches!(fate, Fate::AnswerLost | Fate::Late);
    if lost || fate == Fate::NotDurable {
        numbers.iter().for_each(|number| world.allow_copy(*number));
    }
    if lost {
        tokio::time::sleep(SEND_TIMEOUT).await;
        let _ = answer.send(vec![Sent::Failed(FailureKind::Timeout); batch.messages.len()]);
        return;
    }
    tokio::time::sleep(Duration::from_millis(dice.between(1, 12))).await;
    let _ = answer.send(answers);
}

fn fate(world: &World, batch: &Batch, dice: &mut crate::random::Random) -> Fate {
    let store = world.store.lock().unwrap();
    if store.is_away(&batch.queue) {
        return Fate::Failed(if dice.percent(20) { FailureKind::Timeout } else { FailureKind::Transport });
    }
    if store.missing.contains(&*batch.topic) {
        return Fate::Failed(FailureKind::TopicMissing);
    }
    if store.not_permitted.contains(&*batch.topic) {
        return Fate::Failed(FailureKind::NoPermission);
    }
    if *batch.topic != *DEAD_LETTER_TOPIC
        && batch.messages.iter().any(|message| message.body.starts_with(ILLEGAL))
    {
        return Fate::Failed(FailureKind::MessageIllegal);
    }
    if !store.flaky {
        return Fate::Stored;
    }
    match dice.between(0, 100) {
        0..35 => Fate::Stored,
        35..50 => Fate::AnswerLost,
        50..60 => Fate::Late,
        60..70 => Fate::NotDurable,
        70..85 => Fate::Failed(FailureKind::Transport),
        85..95 => Fate::Failed(FailureKind::Busy),
        _ => Fate::Failed(FailureKind::Unknown),
    }
}

pub fn id_of(message: &OutgoingMessage) -> &str {
    message.keys().rsplit(' ').next().unwrap_or_default()
}

pub fn number_of(world: &World, message: &OutgoingMessage) -> Option<usize> {
    world.number_of_id(id_of(message))
}

fn append(world: &Arc<World>, key: &QueueKey, message: OutgoingMessage) {
    let number = number_of(world, &message);
    check_integrity(world, &key.0, &message, number);
    let mut store = world.store.lock().unwrap();
    if let Some(number) = number {
        let set = if key.0 == DEAD_LETTER_TOPIC { &mut store.dead } else { &mut store.stored };
        set.insert(number);
    }
    let held_back = store.late.get(id_of(&message)).is_some_and(|held| held == key);
    if held_back {
        store.late.remove(id_of(&message));
        tokio::spawn(append_late(world.clone(), key.clone(), message.clone()));
    }
    store.queues.entry(key.clone()).or_default().push(Row { message, number });
}

/// The broker works off an attempt whose answer was given up long ago.
async fn append_late(world: Arc<World>, key: QueueKey, message: OutgoingMessage) {
    let number = number_of(&world, &message);
    let wait_ms = world.dice("late", number.unwrap_or(0) as u64).between(10, 8_000);
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    world.log(format!("rocketmq: {}/{} [{number:?}] is stored late, once more", key.0, key.1));
    let mut store = world.store.lock().unwrap();
    store.queues.entry(key).or_default().push(Row { message, number });
}

fn check_integrity(world: &World, topic: &str, message: &OutgoingMessage, number: Option<usize>) {
    let Some(number) = number else {
        return world.violation(format!("integrity: {:?} was never given that id", message.keys()));
    };
    let published = world.facts.lock().unwrap().published[number].clone();
    let stored = stored_form(topic, message);
    let (mqtt_topic, payload) = if topic == DEAD_LETTER_TOPIC {
        let letter = read_letter(&stored).unwrap();
        (letter.mqtt_topic, letter.payload)
    } else {
        let recorded = read_back(&stored);
        (recorded.mqtt_topic, recorded.payload)
    };
    if mqtt_topic != published.topic || payload != published.body {
        world.violation(format!("integrity: #{number} is stored as {payload:?} of {mqtt_topic}"));
    }
}

impl Client {
    fn read_failed(&self, topic: &str, queue: Option<&QueueName>) -> Option<ReadError> {
        let store = self.world.store.lock().unwrap();
        let away = queue.map_or(store.away == [true, true], |queue| store.is_away(queue));
        away.then(|| ReadError {
            what: topic.to_owned(),
            cause: "the broker is away".to_owned(),
            kind: FailureKind::Transport,
        })
    }

    async fn ask(&self, topic: &str, queue: Option<&QueueName>) -> Result<(), ReadError> {
        self.gate.pass().await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.gate.pass().await;
        self.read_failed(topic, queue).map_or(Ok(()), Err)
    }
}

impl Reader for Client {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async move {
            self.ask(topic, None).await?;
            let store = self.world.store.lock().unwrap();
            let queues = store.queues.keys().filter(|(name, _)| name == topic);
            Ok(queues.map(|(_, queue)| queue.clone()).collect())
        })
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        Box::pin(async move {
            self.ask(topic, Some(queue)).await?;
            let store = self.world.store.lock().unwrap();
            let rows = store.queues.get(&(topic.to_owned(), queue.clone()));
            Ok((0, rows.map_or(0, Vec::len) as u64))
        })
    }

    fn offset_at<'a>(
        &'a self,
        _: &'a str,
        _: &'a QueueName,
        _: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async { Ok(0) })
    }

    fn pull<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        _: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(async move {
            self.ask(topic, Some(queue)).await?;
            let store = self.world.store.lock().unwrap();
            let rows = store.queues.get(&(topic.to_owned(), queue.clone())).map_or(&[][..], Vec::as_slice);
            let end = rows.len() as u64;
            let rows = rows.iter().enumerate().skip(from_offset as usize).take(limit as usize);
            let messages: Vec<_> = rows
                .map(|(offset, row)| StoredMessage {
                    queue: queue.clone(),
                    queue_offset: offset as u64,
                    ..stored_form(topic, &row.message)
                })
                .collect();
            Ok(Page { next_offset: from_offset + messages.len() as u64, messages, first: 0, end })
        })
    }
}
