//! The index beside archive and RocketMQ: an indexer that looks now and then while all goes on, and what it must know when
//! everything is quiet. It has dice of its own, so that a seed tells the same story with it and without.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::oracle::{Offsets, Said, all_of};
use super::rocketmq::{RocketMq, Seen, TOPIC, uid};
use super::shown::{history_of, lines_of};
use crate::archive::Whole;
use crate::binding::{BindingSettings, RuleSet, read_back};
use crate::index::{Index, Mark, Order, Position, Query, Row, RowsAsked};
use crate::indexer::{Indexer, IndexerParts, IndexingError};
use crate::model::{Clock, Kind, ManualClock, QueueName, StoredMessage};
use crate::piece::Place;
use crate::piece_store::double::Objects;
use crate::search::{Wanted, search};

/// New queues are looked for each ten rounds.
const ROUNDS_UNTIL_QUIET: usize = 12;
const GAP_MS: u64 = 1_800_000;
const ROOMS: u32 = 5;
const SEARCHES: usize = 3;

/// Where a row lies.
type At = (Place, u64);
/// Time, room, kind and mark.
type Fields = (u64, Option<String>, Kind, Option<bool>);
/// First and last row, lines, begin and end.
type Lesson = (At, At, u64, u64, u64);

pub(super) struct Indexed {
    rocketmq: Arc<RocketMq>,
    objects: Objects,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    indexer: Option<Indexer>,
    random: Rng,
    /// What nobody could read when the indexer went past it: it was deleted or kept back, and an archiver that had read it before wrote
    /// it later. It is found when the index is made anew.
    passed_over: BTreeSet<(QueueName, u64, String)>,
}

impl Indexed {
    pub(super) fn new(
        seed: u64,
        rocketmq: &Arc<RocketMq>,
        objects: &Objects,
        clock: &Arc<ManualClock>,
    ) -> Self {
        Self {
            rocketmq: rocketmq.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            folder: tempfile::tempdir().unwrap(),
            indexer: None,
            random: Rng::with_seed(!seed),
            passed_over: BTreeSet::new(),
        }
    }

    /// Between two steps: a round, or a restart, or nothing.
    pub(super) fn may_work(&mut self, places: &BTreeMap<Place, Offsets>) -> Vec<String> {
        match self.random.u8(..60) {
            0..3 => {
                let mut indexer = self.indexer.take().unwrap_or_else(|| self.indexer_in(self.folder.path()));
                let done = in_a_runtime(async {
                    let done = indexer.round(&mut |_| ()).await;
                    (indexer, done)
                });
                self.indexer = Some(done.0);
                self.note_passed_over(places);
                match done.1 {
                    // RocketMQ is silent, or changed meanwhile.
                    Ok(()) | Err(IndexingError::Read(_)) => Vec::new(),
                    Err(error) => vec![format!("index: {error}")],
                }
            }
            3 => {
                if let Some(mut indexer) = self.indexer.take() {
                    in_a_runtime(async move { indexer.close().await });
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn note_passed_over(&mut self, places: &BTreeMap<Place, Offsets>) {
        let state = self.rocketmq.lock();
        let mut readable: BTreeSet<(&QueueName, u64, String)> = BTreeSet::new();
        for (name, queue) in &state.queues {
            readable.extend(queue.given().map(|message| (name, message.queue_offset, uid(message))));
        }
        for (place, offsets) in places {
            for (offset, said) in offsets {
                if let Said::Line(uid) = said {
                    readable.insert((&place.queue, *offset, uid.clone()));
                }
            }
        }
        // A reader that listed the pieces earlier asks RocketMQ for what it keeps back now.
        for (name, queue) in &state.queues {
            let withheld =
                queue.messages.iter().filter(|message| queue.withheld.contains(&message.queue_offset));
            for message in withheld {
                readable.remove(&(name, message.queue_offset, uid(message)));
            }
        }
        let mut ends: BTreeMap<QueueName, u64> = BTreeMap::new();
        for (place, position) in self.positions() {
            let end = ends.entry(place.queue).or_default();
            *end = position.next_offset.max(*end);
        }
        for ((name, offset), ever) in &state.ever {
            for uid in ever.keys() {
                let is_readable = readable.contains(&(name, *offset, uid.clone()));
                if ends.get(name).is_some_and(|end| offset < end) && !is_readable {
                    self.passed_over.insert((name.clone(), *offset, uid.clone()));
                }
            }
        }
    }

    fn positions(&self) -> HashMap<Place, Position> {
        open(self.folder.path()).map_or_else(HashMap::new, |index| index.positions().unwrap())
    }

    fn indexer_in(&self, folder: &Path) -> Indexer {
        let settings = BindingSettings { origin_key: vec![0; 32], max_message_bytes: 1 << 20 };
        Indexer::new(IndexerParts {
            rocketmq: Arc::new(Seen { rocketmq: self.rocketmq.clone(), gates: None }),
            store: self.objects.plain(),
            dir: folder.to_owned(),
            min_free_bytes: 0,
            topics: vec![TOPIC.to_owned()],
            heard: [TOPIC.to_owned()].into(),
            text_fields: Vec::new(),
            rules: Arc::new(RuleSet::compile(&[], settings).unwrap()),
            clock: self.clock.clone(),
        })
    }

    fn whole(&self) -> Whole {
        let reader = Arc::new(Seen { rocketmq: self.rocketmq.clone(), gates: None });
        Whole::new(reader, self.objects.plain())
    }

    /// When everything is quiet: the index has each message that can be read, as one that is made anew has it; rooms, lessons, searches and
    /// histories follow from them.
    pub(super) fn judge(&mut self, places: &BTreeMap<Place, Offsets>) -> Vec<String> {
        let anew = tempfile::tempdir().unwrap();
        let grown = self.indexer.take().unwrap_or_else(|| self.indexer_in(self.folder.path()));
        let made_anew = self.indexer_in(anew.path());
        let picks: Vec<usize> = (0..SEARCHES).map(|_| self.random.usize(..)).collect();
        in_a_runtime(async {
            let mut wrong = Vec::new();
            // One that works on lists the pieces anew in its own time, and one that is started at once.
            let restarted = self.indexer_in(self.folder.path());
            for mut indexer in [grown, restarted, made_anew] {
                // The first one may know queues that are gone.
                let mut last = Ok(());
                for _ in 0..ROUNDS_UNTIL_QUIET {
                    last = indexer.round(&mut |_| ()).await;
                }
                wrong.extend(last.err().map(|error| format!("index: {error}")));
                indexer.close().await;
            }
            let expected = expected(&self.whole()).await;
            let (Some(grown), Some(anew)) = (open(self.folder.path()), open(anew.path())) else {
                if !expected.is_empty() {
                    wrong.push("index: there is none".to_owned());
                }
                return wrong;
            };
            let mut of_grown = expected.clone();
            of_grown.retain(|(place, offset), message| {
                !self.passed_over.contains(&(place.queue.clone(), *offset, uid(message)))
            });
            let is_whole = of_grown.len() == expected.len();
            let extra = has_all(&grown, &of_grown, "index", &mut wrong);
            if !has_all(&anew, &expected, "index made anew", &mut wrong).is_empty() {
                wrong.push("index made anew: it has what nobody can read".to_owned());
            }
            let index = if is_whole { grown } else { anew };
            if extra.is_empty() {
                has_lessons(&index, &expected, &mut wrong);
            }
            self.is_found(&index, &expected, places, &picks, &mut wrong).await;
            wrong
        })
    }

    async fn is_found(
        &self,
        index: &Arc<Index>,
        expected: &BTreeMap<At, StoredMessage>,
        places: &BTreeMap<Place, Offsets>,
        picks: &[usize],
        wrong: &mut Vec<String>,
    ) {
        let whole = self.whole().with_index(Some(index.clone()));
        for room in 0..ROOMS {
            let room = room.to_string();
            let lines = lines_of(places, &room, &self.rocketmq.lock());
            match history_of(&whole, &room).await {
                Err(_) if lines.is_empty() => {}
                Ok(shown) if shown == lines => {}
                Ok(shown) => {
                    let differ = shown.iter().zip(&lines).find(|(shown, line)| shown != line);
                    let (shown, lines) = (shown.len(), lines.len());
                    wrong.push(format!(
                        "index: room {room} shows {shown} lines of {lines}; the first: {differ:?}"
                    ));
                }
                Err(error) => wrong.push(format!("index: room {room}: {error}")),
            }
        }
        let is_line = |message: &&StoredMessage| read_back(message).kind == Kind::Message;
        let lines: Vec<&StoredMessage> = expected.values().filter(is_line).collect();
        for pick in picks {
            let Some(line) = lines.get(pick % lines.len().max(1)) else { return };
            let (room, body) =
                (read_back(line).room.unwrap(), String::from_utf8_lossy(&line.body).into_owned());
            let wanted = wanted(&room, &body);
            let clock: Arc<dyn Clock> = self.clock.clone();
            let answer = search(index, &whole, &wanted, &clock).await.unwrap();
            let of_room = lines_of(places, &room, &self.rocketmq.lock());
            let is_hit = |found: &&super::shown::Shown| wanted.query.matches(&found.body);
            let expected = of_room.iter().filter(is_hit).count();
            if answer.hits.len() != expected || answer.is_partial {
                let found = answer.hits.len();
                wrong.push(format!(
                    "search: {body:?} in room {room} is found {found} times and not {expected}"
                ));
            }
        }
    }
}

fn wanted(room: &str, words: &str) -> Wanted {
    Wanted {
        query: Query::parse(&format!("\"{words}\"")).unwrap(),
        room: Some(room.to_owned()),
        client_id: None,
        kind: Some(Kind::Message),
        from_ms: None,
        to_ms: None,
        order: Order::Newest,
        limit: 1000,
        before: None,
        text_fields: Vec::new(),
        time: Duration::from_secs(60),
        width: 40,
    }
}

fn open(folder: &Path) -> Option<Arc<Index>> {
    Index::open(folder).unwrap().map(Arc::new)
}

/// The index has a thread of its own, for which a runtime with paused time would not wait.
fn in_a_runtime<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// Every message that can be read.
async fn expected(whole: &Whole) -> BTreeMap<At, StoredMessage> {
    let mut expected = BTreeMap::new();
    let places = whole.places(TOPIC).await.unwrap_or_default();
    for (name, place) in places {
        let messages = all_of(whole, &name).await.unwrap();
        expected.extend(messages.into_iter().map(|message| ((place.clone(), message.queue_offset), message)));
    }
    expected
}

fn at(row: &Row) -> At {
    ((*row.place).clone(), row.offset)
}

fn is_start(mark: Mark) -> bool {
    mark == Mark::Start
}

/// Gives the rows whose message nobody can read any more.
fn has_all(
    index: &Index,
    expected: &BTreeMap<At, StoredMessage>,
    whose: &str,
    wrong: &mut Vec<String>,
) -> BTreeSet<At> {
    let mut rows: BTreeMap<At, Fields> = BTreeMap::new();
    for row in index.rows_of_room(&RowsAsked::default()).unwrap() {
        let fields = (row.at_ms, row.room.as_deref().map(str::to_owned), row.kind, row.mark.map(is_start));
        if rows.insert(at(&row), fields).is_some() {
            wrong.push(format!("{whose}: two rows for {:?}", at(&row)));
        }
    }
    for (at, message) in expected {
        let recorded = read_back(message);
        let mark = message.tag.split('/').nth(1).map(|which| which == "start");
        let fields = (message.stored_ms, recorded.room, recorded.kind, mark);
        match rows.remove(at) {
            Some(row) if row == fields => {}
            other => wrong.push(format!("{whose}: {at:?} is {other:?} and not {fields:?}")),
        }
    }
    rows.into_keys().collect()
}

fn has_lessons(index: &Index, expected: &BTreeMap<At, StoredMessage>, wrong: &mut Vec<String>) {
    for room in 0..ROOMS {
        let room = room.to_string();
        let asked = RowsAsked { room: Some(&room), ..RowsAsked::default() };
        let mut order: Vec<(u64, At)> =
            index.rows_of_room(&asked).unwrap().iter().map(|row| (row.eff_ms, at(row))).collect();
        order.sort();
        let wanted = lessons(order.iter().filter_map(|(_, at)| Some((at, expected.get(at)?))));
        let found: Vec<Lesson> = index
            .lessons(&room, GAP_MS, None)
            .unwrap()
            .iter()
            .map(|lesson| (at(&lesson.first), at(&lesson.last), lesson.lines, lesson.begin_ms, lesson.end_ms))
            .collect();
        if found != wanted {
            wrong.push(format!("lessons: room {room} has {found:?} and not {wanted:?}"));
        }
    }
}

/// A lesson goes on until a silence, its end, or the begin of another one.
fn lessons<'a>(lines: impl Iterator<Item = (&'a At, &'a StoredMessage)>) -> Vec<Lesson> {
    let (mut lessons, mut going_on, mut latest_ms): (Vec<Lesson>, bool, u64) = (Vec::new(), false, 0);
    for (at, message) in lines {
        let is_private = read_back(message).kind == Kind::P2p;
        if is_private {
            continue;
        }
        let now_ms = latest_ms.max(message.stored_ms);
        let is_near = going_on && now_ms - latest_ms <= GAP_MS;
        latest_ms = now_ms;
        let begins = match message.tag.split('/').nth(1) {
            Some("start") => true,
            Some(_) if !is_near => {
                going_on = false;
                continue;
            }
            Some(_) => false,
            None => !is_near,
        };
        if begins {
            lessons.push((at.clone(), at.clone(), 0, now_ms, now_ms));
        }
        let lesson = lessons.last_mut().unwrap();
        (lesson.1, lesson.4) = (at.clone(), now_ms);
        lesson.2 += u64::from(message.tag.is_empty());
        going_on = !message.tag.starts_with("lesson/end");
    }
    lessons
}
