//! A RocketMQ of several queues whose clock can be set back and that forgets, an archiver beside it, and what was said as the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::super::{History, HistoryQuery, Whole};
use super::message_id;
use crate::archiver::{Archiver, ArchiverParts, LeaveOut};
use crate::binding::{BindingSettings, RoomQuery, RuleSet};
use crate::index::Index;
use crate::indexer::{Indexer, IndexerParts};
use crate::model::{Kind, ManualClock, MessageId, QueueName, StoredMessage, StoredProperties};
use crate::piece_store::PieceStore;
use crate::pipeline::ports::{Page, ReadError, Reader};

pub(super) const START_MS: u64 = 1_800_000_000_000;
pub(super) const HOUR_MS: u64 = 3_600_000;
const QUEUES: i32 = 3;

/// Topic `room` with three queues.
#[derive(Default)]
pub(super) struct Broker {
    kept: Mutex<Kept>,
    /// How often it was asked for messages.
    pub pulled: AtomicUsize,
}

#[derive(Default)]
struct Kept {
    queues: BTreeMap<i32, KeptQueue>,
    epoch: u64,
}

#[derive(Default)]
struct KeptQueue {
    first: u64,
    messages: Vec<StoredMessage>,
}

impl KeptQueue {
    fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }
}

pub(super) fn name(queue_id: i32) -> QueueName {
    QueueName { broker: "a".into(), id: queue_id }
}

impl Broker {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn make_anew(&self) {
        let mut kept = self.lock();
        *kept = Kept { epoch: kept.epoch + 1, ..Kept::default() };
    }
}

impl Reader for Broker {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async { Ok((0..QUEUES).map(name).collect()) })
    }

    fn offsets<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        let mut kept = self.lock();
        let queue = kept.queues.entry(queue.id).or_default();
        let offsets = (queue.first, queue.end());
        Box::pin(async move { Ok(offsets) })
    }

    fn offset_at<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        let mut kept = self.lock();
        let queue = kept.queues.entry(queue.id).or_default();
        let found = queue.messages.iter().find(|message| message.stored_ms >= stored_ms);
        let offset = found.map_or(queue.end(), |message| message.queue_offset);
        Box::pin(async move { Ok(offset) })
    }

    fn pull<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
        tag: Option<&'a str>,
        from: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        self.pulled.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.lock();
        let queue = kept.queues.entry(queue.id).or_default();
        let (first, end) = (queue.first, queue.end());
        let held = (first..=end).contains(&from);
        let given = queue.messages.iter().filter(|message| held && message.queue_offset >= from);
        let messages: Vec<_> = given.take(limit.min(32) as usize).cloned().collect();
        let next_offset = messages.last().map_or(from, |last| last.queue_offset + 1);
        let messages = messages.into_iter().filter(|message| tag.is_none_or(|tag| message.tag == tag));
        let page = Page { messages: messages.collect(), next_offset, first, end };
        Box::pin(async move { Ok(page) })
    }
}

/// One message, and what became of it.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub epoch: u64,
    pub queue_id: i32,
    pub offset: u64,
    pub stored_ms: u64,
    pub at_ms: u64,
    pub room: String,
    pub kind: Kind,
    pub id: Option<MessageId>,
    pub text: String,
    pub is_archived: bool,
    pub is_in_rocketmq: bool,
}

/// What is to be said.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub queue_id: i32,
    /// How the broker's clock moves before it.
    pub clock_ms: i64,
    pub room: u8,
    pub kind: Kind,
    /// The number of its id; with an old number and the same body it is a copy.
    pub id: Option<u64>,
    /// Somebody else used its id.
    pub is_forged: bool,
    /// How long it was on its way.
    pub late_ms: u64,
}

pub(super) struct World {
    pub broker: Arc<Broker>,
    pub store: PieceStore,
    archiver: Archiver,
    clock: Arc<ManualClock>,
    now_ms: i64,
    pub said: Vec<Said>,
    pub index_folder: tempfile::TempDir,
    indexer: Option<Indexer>,
}

impl World {
    /// Each queue is archived from its beginning.
    pub(super) async fn new() -> Self {
        Self::with(PieceStore::in_memory()).await
    }

    pub(super) async fn with(store: PieceStore) -> Self {
        let broker = Arc::new(Broker::default());
        let clock = Arc::new(ManualClock::at(START_MS));
        let archiver = archiver(&broker, &store, &clock);
        let mut world = Self {
            broker,
            store,
            archiver,
            clock,
            now_ms: START_MS as i64,
            said: Vec::new(),
            index_folder: tempfile::tempdir().unwrap(),
            indexer: None,
        };
        world.begin().await;
        world
    }

    /// The archive is another folder, and RocketMQ's topic is new and empty.
    pub(super) fn begin_anew(&mut self) {
        self.store = PieceStore::in_memory();
        self.archiver = archiver(&self.broker, &self.store, &self.clock);
        self.make_anew_unseen();
    }

    async fn begin(&mut self) {
        for queue_id in 0..QUEUES {
            let (room, kind) = (9, Kind::Message);
            self.say(&Line { queue_id, clock_ms: 1, room, kind, id: None, is_forged: false, late_ms: 0 });
        }
        self.archive().await;
    }

    pub(super) fn say(&mut self, line: &Line) {
        self.now_ms += line.clock_ms;
        let stored_ms = self.now_ms as u64;
        let arrived_ms = stored_ms - line.late_ms;
        let (room, kind, number) = (line.room.to_string(), line.kind, self.said.len());
        let id = line.id.map(message_id);
        let text = match (line.id, line.is_forged) {
            (Some(id), false) => format!("said as {id}"),
            (Some(id), true) => format!("forged as {id}"),
            (None, _) => number.to_string(),
        };
        let topic = format!("room/{kind}/{room}");
        let mut properties = StoredProperties::from_iter([("topic", topic.as_str())]);
        properties.insert("UNIQ_KEY", format!("unique {number}"));
        properties.insert("rbArrivedMs", arrived_ms.to_string());
        properties.insert("rbKind", kind.as_str());
        properties.insert("clientId", format!("client {}", line.room));
        if let Some(id) = id {
            properties.insert("rbId", id.to_string());
        }
        let mut kept = self.broker.lock();
        let epoch = kept.epoch;
        let queue = kept.queues.entry(line.queue_id).or_default();
        let offset = queue.end();
        queue.messages.push(StoredMessage {
            topic: "room".to_owned(),
            tag: format!("{kind}/{room}"),
            keys: id.map_or_else(|| "foreign".to_owned(), |id| format!("{room} {id}")),
            queue: name(line.queue_id),
            queue_offset: offset,
            stored_ms,
            born_ms: stored_ms,
            flag: 0,
            properties,
            body: Bytes::from(text.clone()),
        });
        self.said.push(Said {
            epoch,
            queue_id: line.queue_id,
            offset,
            stored_ms,
            at_ms: if id.is_some() { arrived_ms } else { stored_ms },
            // The default rule gives a room to what is said only.
            room: if id.is_some() || kind == Kind::Message { room } else { String::new() },
            kind,
            id,
            text,
            is_archived: false,
            is_in_rocketmq: true,
        });
    }

    pub(super) async fn archive(&mut self) {
        // It looks now and then whether a queue that has nothing new is still the same.
        self.clock.advance(Duration::from_secs(61));
        assert!(self.archiver.round(true).await.1.is_none());
        for said in self.said.iter_mut().filter(|said| said.is_in_rocketmq) {
            said.is_archived = true;
        }
    }

    /// RocketMQ deletes so many of the oldest messages of a queue.
    pub(super) fn forget(&mut self, queue_id: i32, count: u64) {
        let mut kept = self.broker.lock();
        let queue = kept.queues.entry(queue_id).or_default();
        let count = count.min(queue.messages.len() as u64);
        queue.messages.drain(..count as usize);
        queue.first += count;
        for said in &mut self.said {
            if said.queue_id == queue_id && said.offset < queue.first {
                said.is_in_rocketmq = false;
            }
        }
    }

    /// The topic is deleted and made again, a day later.
    pub(super) async fn make_anew(&mut self) {
        self.broker.make_anew();
        self.now_ms += 25 * HOUR_MS as i64;
        for said in &mut self.said {
            said.is_in_rocketmq = false;
        }
        self.begin().await;
    }

    pub(super) fn whole(&self) -> Whole {
        Whole::new(self.broker.clone(), self.store.clone())
    }

    /// Brings the index up to now. Only without paused time: the index has a thread of its own.
    pub(super) async fn index(&mut self) {
        let indexer = self.indexer.get_or_insert_with(|| {
            Indexer::new(IndexerParts {
                rocketmq: self.broker.clone(),
                store: self.store.clone(),
                dir: self.index_folder.path().to_owned(),
                min_free_bytes: 0,
                topics: vec!["room".to_owned()],
                heard: ["room".to_owned()].into(),
                text_fields: Vec::new(),
                rules: Arc::new(rules()),
                clock: self.clock.clone(),
            })
        });
        indexer.round(&mut |_| ()).await.unwrap();
    }

    /// The months of the index.
    pub(super) fn index_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.index_folder.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".sqlite3")).collect()
    }

    pub(super) fn indexed(&self) -> Whole {
        self.whole().with_index(Index::open(self.index_folder.path()).unwrap().map(Arc::new))
    }

    /// Says that the topic was deleted and made again before anything of it was archived.
    pub(super) fn make_anew_unseen(&mut self) {
        self.broker.make_anew();
        self.said.clear();
    }

    /// What is kept somewhere, in the order of readers.
    pub(super) fn kept(&self) -> Vec<Said> {
        let mut effs: BTreeMap<(u64, i32), u64> = BTreeMap::new();
        let mut kept = Vec::new();
        for said in self.said.iter().filter(|said| said.is_archived || said.is_in_rocketmq) {
            let eff_ms = effs.entry((said.epoch, said.queue_id)).or_default();
            *eff_ms = (*eff_ms).max(said.stored_ms);
            kept.push(((*eff_ms, said.queue_id, said.offset), said.clone()));
        }
        kept.sort_by_key(|(key, _)| *key);
        kept.into_iter().map(|(_, said)| said).collect()
    }

    /// What a history shows: the text, how many copies of it are folded, and whether another text has its id.
    pub(super) fn expected(&self, query: &HistoryQuery) -> Vec<(String, u64, bool)> {
        let room = query.places[0].room.clone();
        let is_asked = |said: &Said| {
            room.as_ref().is_none_or(|room| *room == said.room)
                && query.kind.is_none_or(|kind| kind == said.kind)
                && query.from_ms.is_none_or(|from| said.at_ms >= from)
                && query.to_ms.is_none_or(|to| said.at_ms < to)
        };
        let asked: Vec<Said> = self.kept().into_iter().filter(is_asked).collect();
        let mut seen = BTreeSet::new();
        let first = |said: &&Said| said.id.is_none_or(|id| seen.insert((id, said.text.clone())));
        let show = |said: &Said| {
            let of_id = asked.iter().filter(|other| other.id.is_some() && other.id == said.id);
            let (copies, others): (Vec<_>, Vec<_>) = of_id.partition(|other| other.text == said.text);
            (said.text.clone(), copies.len().saturating_sub(1) as u64, !others.is_empty())
        };
        let shown: Vec<_> = asked.iter().filter(first).map(show).collect();
        let skip = query.limit.map_or(0, |limit| shown.len().saturating_sub(limit as usize));
        shown.into_iter().skip(skip).collect()
    }
}

fn rules() -> RuleSet {
    let settings = BindingSettings { origin_key: vec![0; 32], max_message_bytes: 1 << 20 };
    RuleSet::compile(&[], settings).unwrap()
}

/// All that a history gives.
pub(super) async fn shown(reader: &dyn Reader, query: HistoryQuery) -> Vec<(String, u64, bool)> {
    let mut history = History::open(reader, query, &mut |_| ()).await.unwrap();
    let announced = history.len();
    let mut shown = Vec::new();
    while let Some(record) = history.next().await.unwrap() {
        let text = String::from_utf8(record.bytes.to_vec()).unwrap();
        shown.push((text, record.duplicates, record.conflict));
    }
    assert_eq!(shown.len() as u64, announced, "what was announced is what comes out");
    shown
}

pub(super) fn of_room(room: Option<u8>, is_shared: bool) -> HistoryQuery {
    let place = RoomQuery {
        topic: "room".to_owned(),
        tag: None,
        shared: is_shared,
        room: room.map(|room| room.to_string()),
        kind: None,
    };
    HistoryQuery { places: vec![place], ..HistoryQuery::default() }
}

fn archiver(broker: &Arc<Broker>, store: &PieceStore, clock: &Arc<ManualClock>) -> Archiver {
    Archiver::new(ArchiverParts {
        reader: broker.clone(),
        store: store.clone(),
        topics: vec!["room".to_owned()],
        leave_out: LeaveOut::default(),
        cut_every: Duration::from_secs(3600),
        rocketmq_keeps: Duration::from_secs(72 * 3600),
        clock: clock.clone(),
    })
}
