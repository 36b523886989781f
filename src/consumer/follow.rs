//! The loop of one follower: look, read, hand on, note ends, save.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::progress::{Progress, name_of};
use super::wake::Wakes;
use super::{Item, OPEN_BYTES, OPEN_MESSAGES, Place};
use crate::data_dir::{DataDir, DataDirError, Position, Positions, Saving, answered};
use crate::model::{Clock, FailureKind, QueueName};
use crate::pipeline::ports::{Page, ReadError, Reader};
use crate::telemetry::Metrics;

/// RocketMQ's answers hold 32 messages as it comes from the factory.
const PAGE_MESSAGES: u32 = 32;
const READS_AT_ONCE: usize = 4;
/// A queue is looked at again after a part of the time for which it has been silent, so that many silent queues cost
/// little; what the bridge itself stores wakes us.
const PART_OF_SILENCE: u32 = 16;
const LOOK_BUSY: Duration = Duration::from_millis(20);
const LOOK_SILENT: Duration = Duration::from_millis(500);
const LOOK_AFTER_FAILURE: Duration = Duration::from_millis(500);
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// For new queues, and for the lag.
const ROUTE_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_millis(1500);
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Where a topic is begun that was never followed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With everything that RocketMQ still has.
    Earliest,
    /// With what is stored from now on.
    Latest,
}

/// One topic to follow.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: Arc<str>,
    pub start: Start,
}

/// What a follower is made of.
pub struct FollowerParts {
    /// Its file in `data_dir`.
    pub name: &'static str,
    pub topics: Vec<Topic>,
    pub reader: Arc<dyn Reader>,
    pub data_dir: Arc<DataDir>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// Holds [`OPEN_MESSAGES`] and a page, so that it is never full.
    pub items: mpsc::Sender<Item>,
    /// What has ended; unbounded because no more can end than is open.
    pub ended: mpsc::UnboundedReceiver<Place>,
    pub wakes: Wakes,
}

/// See the module's words.
pub struct Follower {
    parts: FollowerParts,
    positions: Positions,
    /// Wall time at which [`Start::Latest`] is now, milliseconds since 1970-01-01 UTC.
    started_ms: u64,
    /// Nobody has stored anything through us yet.
    beginning: bool,
    unsaved: bool,
    /// A save that the disk has not answered; what ends meanwhile is in the next one.
    saving: Option<Saving>,
    queues: BTreeMap<(Arc<str>, QueueName), Queue>,
    reads: JoinSet<Read>,
    said: Option<Instant>,
    said_unsaved: Option<Instant>,
}

struct Queue {
    progress: Progress,
    due: Instant,
    silent_since: Instant,
    reading: bool,
}

struct Read {
    key: (Arc<str>, QueueName),
    page: Result<Page, ReadError>,
}

impl Follower {
    /// Reads where it stopped last time.
    pub fn new(parts: FollowerParts) -> Result<Self, DataDirError> {
        Ok(Self {
            positions: parts.data_dir.positions(parts.name)?,
            started_ms: parts.clock.wall_ms(),
            beginning: true,
            parts,
            unsaved: false,
            saving: None,
            queues: BTreeMap::new(),
            reads: JoinSet::new(),
            said: None,
            said_unsaved: None,
        })
    }

    /// Finds its places before anybody stores through this process, so that nothing of that is taken for old. A RocketMQ
    /// that does not answer is not waited for: then the time of the start must do, by the brokers' clocks.
    pub async fn begin(&mut self) {
        let _ = tokio::time::timeout(PATIENCE, self.look_at_routes()).await;
        self.beginning = false;
    }

    /// Runs until `stop`, then waits for what is open until `stop_now`, and asks for a last save, which whoever holds the
    /// `data_dir` waits for.
    pub async fn run(mut self, stop: CancellationToken, stop_now: CancellationToken) {
        let mut saves = interval(SAVE_EVERY);
        let mut routes = interval(ROUTE_EVERY);
        for ticks in [&mut saves, &mut routes] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let reads_on = |stop: &CancellationToken| !stop.is_cancelled();
        while reads_on(&stop) || self.open_messages() > 0 {
            if reads_on(&stop) {
                self.start_reads();
            }
            let due = self.next_due();
            tokio::select! {
                biased;
                () = stop_now.cancelled() => break,
                () = stop.cancelled(), if reads_on(&stop) => {}
                ended = self.parts.ended.recv() => match ended {
                    Some(place) => self.ended(&place),
                    None => break,
                },
                Some(read) = self.reads.join_next() => {
                    if let Ok(read) = read
                        && reads_on(&stop)
                    {
                        self.read(read).await;
                    }
                }
                _ = saves.tick(), if self.saving.is_none() => self.save(),
                saved = answered(&mut self.saving) => self.saved(saved),
                _ = routes.tick(), if reads_on(&stop) => self.look_at_routes().await,
                Some((topic, queue)) = self.parts.wakes.recv() => self.wake(topic, queue),
                () = sleep_until(due), if reads_on(&stop) => {}
            }
        }
        self.save();
    }

    fn open_messages(&self) -> usize {
        let queues = self.queues.values();
        queues.map(|queue| queue.progress.open_messages()).sum()
    }

    fn has_room(&self) -> bool {
        let bytes: usize = self
            .queues
            .values()
            .map(|queue| queue.progress.open_bytes())
            .sum();
        self.open_messages() < OPEN_MESSAGES && bytes < OPEN_BYTES
    }

    fn start_reads(&mut self) {
        if !self.has_room() {
            return;
        }
        let now = Instant::now();
        let mut due: Vec<_> = self
            .queues
            .iter_mut()
            .filter(|(_, queue)| !queue.reading && queue.due <= now)
            .collect();
        // Where reading is slow, everybody has a turn.
        due.sort_by_key(|(_, queue)| queue.due);
        let free = READS_AT_ONCE.saturating_sub(self.reads.len());
        for (key, queue) in due.into_iter().take(free) {
            queue.reading = true;
            let (reader, key, next) = (self.parts.reader.clone(), key.clone(), queue.progress.next());
            self.reads.spawn(async move {
                let page = reader.pull(&key.0, &key.1, None, next, PAGE_MESSAGES).await;
                Read { key, page }
            });
        }
    }

    fn next_due(&self) -> Instant {
        let far = Instant::now() + ROUTE_EVERY;
        if self.reads.len() >= READS_AT_ONCE || !self.has_room() {
            return far;
        }
        let waiting = self.queues.values().filter(|queue| !queue.reading);
        waiting.map(|queue| queue.due).min().unwrap_or(far)
    }

    async fn read(&mut self, Read { key, page }: Read) {
        let now = Instant::now();
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        queue.reading = false;
        match page {
            Ok(page) => {
                let before = queue.progress.position().offset;
                if page.messages.is_empty() {
                    let part = (now - queue.silent_since) / PART_OF_SILENCE;
                    queue.due = now + part.clamp(LOOK_BUSY, LOOK_SILENT);
                } else {
                    queue.silent_since = now;
                    queue.due = now;
                }
                for message in page.messages {
                    queue.progress.handed_on(&message);
                    let (topic, queue) = key.clone();
                    let offset = message.queue_offset;
                    let place = Place { topic, queue, offset };
                    // Whoever takes the items is gone only when the process ends.
                    let _ = self.parts.items.send(Item { place, message }).await;
                }
                queue.progress.looked_at(page.next_offset);
                self.unsaved |= queue.progress.position().offset != before;
            }
            Err(error) => {
                queue.due = now + LOOK_AFTER_FAILURE;
                self.complain(&error);
            }
        }
    }

    fn wake(&mut self, topic: Arc<str>, name: QueueName) {
        if let Some(queue) = self.queues.get_mut(&(topic, name)) {
            // RocketMQ may show it only a little later.
            queue.silent_since = Instant::now();
            queue.due = queue.silent_since;
        }
    }

    fn ended(&mut self, place: &Place) {
        let key = (place.topic.clone(), place.queue.clone());
        if let Some(queue) = self.queues.get_mut(&key) {
            self.unsaved |= queue.progress.ended(place.offset);
        }
    }

    fn save(&mut self) {
        if !self.unsaved {
            return;
        }
        for ((topic, queue), state) in &self.queues {
            let position = state.progress.position().clone();
            self.positions.set(topic, queue, position);
        }
        self.unsaved = false;
        self.saving = Some(
            self.parts
                .data_dir
                .save_positions(self.parts.name, &self.positions),
        );
    }

    fn saved(&mut self, saved: Result<(), DataDirError>) {
        let Err(error) = saved else { return };
        self.unsaved = true;
        let now = Instant::now();
        if self.said_unsaved.is_none_or(|said| now > said + SAY_AGAIN_AFTER) {
            self.said_unsaved = Some(now);
            tracing::error!(
                %error,
                "the position in RocketMQ could not be written; after a restart messages come again"
            );
        }
    }

    /// Finds the queues of all topics, and how far behind we are.
    async fn look_at_routes(&mut self) {
        for topic in self.parts.topics.clone() {
            if let Err(error) = self.look_at(&topic).await {
                self.complain(&error);
            }
        }
        self.save();
    }

    async fn look_at(&mut self, topic: &Topic) -> Result<(), ReadError> {
        let reader = self.parts.reader.clone();
        let mut lag = 0;
        for queue in reader.queues(&topic.name).await? {
            let (min, max) = reader.offsets(&topic.name, &queue).await?;
            let key = (topic.name.clone(), queue);
            match self.queues.get(&key) {
                Some(known) => lag += max.saturating_sub(known.progress.position().offset),
                None => {
                    let position = self.position(topic, &key.1, min, max).await?;
                    lag += max.saturating_sub(position.offset);
                    self.unsaved = true;
                    let now = Instant::now();
                    let queue = Queue {
                        progress: Progress::at(position),
                        due: now,
                        silent_since: now,
                        reading: false,
                    };
                    self.queues.insert(key, queue);
                }
            }
        }
        let lag = i64::try_from(lag).unwrap_or(i64::MAX);
        let gauge = &self.parts.metrics.downlink.lag_messages;
        gauge.with_label_values(&[&*topic.name]).set(lag);
        Ok(())
    }

    /// Where to begin with a queue.
    async fn position(
        &self,
        topic: &Topic,
        queue: &QueueName,
        min: u64,
        max: u64,
    ) -> Result<Position, ReadError> {
        let at = |offset| Position { offset, last: None };
        let Some(saved) = self.positions.get(&topic.name, queue) else {
            // A queue that is new to a topic that we know holds nothing that we have seen.
            let begun = self.positions.topics.contains_key(&*topic.name);
            return Ok(match topic.start {
                Start::Latest if !begun && self.beginning => at(max),
                Start::Latest if !begun => {
                    let reader = &self.parts.reader;
                    at(reader.offset_at(&topic.name, queue, self.started_ms).await?)
                }
                Start::Latest | Start::Earliest => at(min),
            });
        };
        let cause = match self.difference(topic, queue, saved, (min, max)).await? {
            None => return Ok(saved.clone()),
            Some(cause) => cause,
        };
        self.parts.metrics.downlink.position_lost_total.inc();
        tracing::error!(
            topic = &*topic.name, queue = %queue, offset = saved.offset, first = min, end = max,
            "the queue is not what was read before ({cause}); beginning with its first message"
        );
        Ok(at(min))
    }

    /// What is no longer as it was left (hazard 20: an offset beyond the end would be reset in silence).
    async fn difference(
        &self,
        topic: &Topic,
        queue: &QueueName,
        saved: &Position,
        (min, max): (u64, u64),
    ) -> Result<Option<&'static str>, ReadError> {
        if saved.offset > max {
            return Ok(Some("it is shorter"));
        }
        if saved.offset < min {
            return Ok(Some("messages that were not read yet are gone"));
        }
        let Some(last) = saved.last.as_ref().filter(|_| saved.offset > min) else {
            return Ok(None);
        };
        let before = saved.offset - 1;
        let page = self
            .parts
            .reader
            .pull(&topic.name, queue, None, before, 1)
            .await?;
        let found = page.messages.first();
        let same = found.is_some_and(|found| found.queue_offset == before && name_of(found) == *last);
        Ok((!same).then_some("another message lies in the last one's place"))
    }

    fn complain(&mut self, error: &ReadError) {
        let now = Instant::now();
        if self.said.is_none_or(|said| now > said + SAY_AGAIN_AFTER) {
            self.said = Some(now);
            let missing = error.kind == FailureKind::TopicMissing;
            tracing::warn!(%error, missing, "a topic cannot be followed at the moment; trying again");
        }
    }
}
