//! The loop of one follower: it looks at the queues, reads, hands messages on, notes their ends, and saves the positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::look::{Look, Seen};
use super::progress::QueueProgress;
use super::wake::Wakes;
use super::{Item, OPEN_BYTES, OPEN_MESSAGES, QueuePosition};
use crate::data_dir::{DataDir, DataDirError, Position, Positions, Saving, answered};
use crate::model::{Clock, FailureKind, QueueName, StartAt, StoredMessage};
use crate::pipeline::die_with;
use crate::pipeline::ports::{Page, ReadError, Reader};
use crate::pipeline::same_queue::{Change, Compared, compare};
use crate::telemetry::{Metrics, Throttle};

const READS_AT_ONCE: usize = 4;
/// The follower looks at a queue again after this part of the time for which the queue has been silent, so that many silent
/// queues cost little. What the bridge itself stores wakes the follower at once.
const PART_OF_SILENCE: u32 = 16;
const LOOK_BUSY: Duration = Duration::from_millis(20);
const LOOK_SILENT: Duration = Duration::from_millis(500);
const LOOK_AFTER_FAILURE: Duration = Duration::from_millis(500);
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// How often a silent queue is compared with what was read. A queue that did not answer, or in which something is found, is
/// compared at once.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// A message that RocketMQ counts is handed out some milliseconds later.
const SHOWN_AFTER: Duration = Duration::from_secs(5);
/// How often the follower looks for new queues, and at its lag.
const ROUTE_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_millis(1500);

/// One topic to follow.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    /// The RocketMQ topic.
    pub name: Arc<str>,
    /// Where to begin if the topic was never followed before.
    pub start: StartAt,
}

/// What a follower is made of.
pub(crate) struct FollowerParts {
    /// Its file in `data_dir`.
    pub name: &'static str,
    /// The topics to follow.
    pub topics: Vec<Topic>,
    /// Reads them.
    pub reader: Arc<dyn Reader>,
    /// Keeps the positions.
    pub data_dir: Arc<DataDir>,
    /// The clock of the pauses.
    pub clock: Arc<dyn Clock>,
    /// Counts lags and lost positions.
    pub metrics: Arc<Metrics>,
    /// Holds [`OPEN_MESSAGES`] and a page, so that it is never full.
    pub items: mpsc::Sender<Item>,
    /// What has ended; unbounded because no more can end than is open.
    pub ended: mpsc::UnboundedReceiver<QueuePosition>,
    /// Told of what the bridge itself has just stored.
    pub wakes: Wakes,
}

/// Reads all queues of its topics and keeps their positions.
pub(crate) struct Follower {
    parts: FollowerParts,
    positions: Positions,
    /// Wall time at which [`StartAt::Latest`] is now, milliseconds since 1970-01-01 UTC.
    started_ms: u64,
    /// True until this process may have stored something itself.
    beginning: bool,
    unsaved: bool,
    /// A save that the disk has not answered yet; the next one holds what ends meanwhile.
    saving: Option<Saving>,
    queues: BTreeMap<(Arc<str>, QueueName), Queue>,
    reads: JoinSet<QueueRead>,
    read_errors: Throttle,
    save_errors: Throttle,
}

struct Queue {
    progress: QueueProgress,
    due: Instant,
    silent_since: Instant,
    reading: bool,
    /// When the follower last saw that it is the same queue; `None` = its broker may have been away since then.
    compared: Option<Instant>,
    /// The offset of a message that RocketMQ counts but has not handed out.
    gap_at: Option<u64>,
}

impl Queue {
    fn at(position: Position) -> Self {
        let now = Instant::now();
        Self {
            progress: QueueProgress::at(position),
            due: now,
            silent_since: now,
            reading: false,
            compared: Some(now),
            gap_at: None,
        }
    }
}

struct QueueRead {
    key: (Arc<str>, QueueName),
    seen: Result<Seen, ReadError>,
}

impl Follower {
    /// Reads where it stopped last time.
    pub(crate) fn new(parts: FollowerParts) -> Result<Self, DataDirError> {
        Ok(Self {
            positions: parts.data_dir.positions(parts.name)?,
            started_ms: parts.clock.wall_ms(),
            beginning: true,
            parts,
            unsaved: false,
            saving: None,
            queues: BTreeMap::new(),
            reads: JoinSet::new(),
            read_errors: Throttle::default(),
            save_errors: Throttle::default(),
        })
    }

    /// Finds the positions before anybody stores through this process, so that nothing that is stored then counts as old.
    /// Does not wait for a RocketMQ that does not answer: then the time of the start decides, by the brokers' clocks.
    pub(crate) async fn begin(&mut self) {
        let _ = tokio::time::timeout(PATIENCE, self.look_at_routes()).await;
        self.beginning = false;
    }

    /// Runs until `stop`, then waits until everything has ended, or until `stop_now`, and asks for a last save. The holder of
    /// the `data_dir` waits for that save.
    pub(crate) async fn run(mut self, stop: CancellationToken, stop_now: CancellationToken) {
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
                    Some(place) => self.all_ended(place),
                    None => break,
                },
                Some(read) = self.reads.join_next() => match read {
                    Ok(read) if reads_on(&stop) => self.read(read).await,
                    Ok(_) => {}
                    Err(died) => die_with(died),
                },
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
        let bytes: usize = self.queues.values().map(|queue| queue.progress.open_bytes()).sum();
        self.open_messages() < OPEN_MESSAGES && bytes < OPEN_BYTES
    }

    fn start_reads(&mut self) {
        if !self.has_room() {
            return;
        }
        let now = Instant::now();
        let mut due: Vec<_> =
            self.queues.iter_mut().filter(|(_, queue)| !queue.reading && queue.due <= now).collect();
        // The queue that has waited longest comes first, so that every queue has its turn when reading is slow.
        due.sort_by_key(|(_, queue)| queue.due);
        let free = READS_AT_ONCE.saturating_sub(self.reads.len());
        for (key, queue) in due.into_iter().take(free) {
            queue.reading = true;
            let key = key.clone();
            let look = Look {
                reader: self.parts.reader.clone(),
                topic: key.0.clone(),
                queue: key.1.clone(),
                next: queue.progress.next(),
                last: queue.progress.last().map(str::to_owned),
                compare: queue.compared.is_none_or(|compared| now > compared + COMPARE_EVERY),
            };
            self.reads.spawn(async move {
                let seen = look.take().await;
                QueueRead { key, seen }
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

    async fn read(&mut self, QueueRead { key, seen }: QueueRead) {
        let now = Instant::now();
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        queue.reading = false;
        match seen {
            Ok(Seen::Page { page, compared, last }) => {
                if compared {
                    queue.compared = Some(now);
                }
                if let Some(last) = last {
                    queue.progress.knows_last(last);
                }
                self.take_page(key, page, now).await;
            }
            Ok(Seen::Changed(change)) => {
                let offset = queue.progress.next();
                queue.progress.begin_anew(change.first);
                (queue.due, queue.compared) = (now, Some(now));
                self.unsaved = true;
                self.tell_position_lost(&key, offset, change);
            }
            Err(error) => {
                queue.due = now + LOOK_AFTER_FAILURE;
                queue.compared = None;
                self.complain(&error);
            }
        }
    }

    async fn take_page(&mut self, key: (Arc<str>, QueueName), page: Page, now: Instant) {
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        let next = queue.progress.next();
        // A broker may begin with messages that stand before the one that was asked for.
        let is_new = |message: &StoredMessage| message.queue_offset >= next;
        let messages: Vec<_> = page.messages.into_iter().filter(is_new).collect();
        let looked_at = page.next_offset.saturating_sub(next);
        let missing = looked_at.saturating_sub(messages.len() as u64);
        if missing > 0 && queue.gap_at.replace(next) != Some(next) {
            queue.due = now + LOOK_AFTER_FAILURE;
            return;
        }
        if missing > 0 {
            self.parts.metrics.downlink.position_lost_total.inc();
            tracing::error!(
                topic = &*key.0, queue = %key.1, offset = next, next = page.next_offset, missing,
                "messages that were not read yet are gone: RocketMQ counts them but does not give them out; reading goes on \
                 behind them"
            );
        }
        if page.next_offset > next {
            queue.silent_since = now;
            queue.due = now;
        } else {
            let part = (now - queue.silent_since) / PART_OF_SILENCE;
            queue.due = now + part.clamp(LOOK_BUSY, LOOK_SILENT);
        }
        let before = queue.progress.position().offset;
        let generation = queue.progress.generation();
        for message in messages {
            queue.progress.handed_on(&message);
            let (topic, queue) = key.clone();
            let place = QueuePosition { topic, queue, offset: message.queue_offset, generation };
            // The receiver of the items is gone only when the process ends.
            let _ = self.parts.items.send(Item { place, message }).await;
        }
        queue.progress.skip_to(page.next_offset);
        self.unsaved |= queue.progress.position().offset != before;
        if page.end > page.next_offset && now > queue.silent_since + SHOWN_AFTER {
            let (topic, queue) = (&key.0, &key.1);
            self.complain(&ReadError {
                what: format!("topic {topic}, queue {queue} at offset {next}"),
                cause: "the broker counts messages there but does not hand them out; see the broker's log"
                    .to_owned(),
                kind: FailureKind::Unknown,
            });
        }
    }

    fn wake(&mut self, topic: Arc<str>, name: QueueName) {
        if let Some(queue) = self.queues.get_mut(&(topic, name)) {
            // RocketMQ may hand it out only a little later.
            queue.silent_since = Instant::now();
            queue.due = queue.silent_since;
        }
    }

    /// That one and those that have ended meanwhile: each turn of the loop looks at all queues, and there may be thousands.
    fn all_ended(&mut self, first: QueuePosition) {
        let mut next = Some(first);
        while let Some(place) = next {
            self.ended(&place);
            next = self.parts.ended.try_recv().ok();
        }
    }

    fn ended(&mut self, place: &QueuePosition) {
        let key = (place.topic.clone(), place.queue.clone());
        if let Some(queue) = self.queues.get_mut(&key) {
            self.unsaved |= queue.progress.ended(place.generation, place.offset);
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
        self.saving = Some(self.parts.data_dir.save_positions(self.parts.name, &self.positions));
    }

    fn saved(&mut self, saved: Result<(), DataDirError>) {
        let Err(error) = saved else { return };
        self.unsaved = true;
        if self.save_errors.is_due() {
            tracing::error!(
                %error,
                "the position in RocketMQ could not be written; after a restart messages come again"
            );
        }
    }

    /// Finds the queues of all topics, and how far behind the follower is.
    async fn look_at_routes(&mut self) {
        for topic in self.parts.topics.clone() {
            if let Err(error) = self.look_at(&topic).await {
                self.complain(&error);
            }
        }
        self.save();
    }

    async fn look_at(&mut self, topic: &Topic) -> Result<(), ReadError> {
        let lag = self.lag_of(topic).await;
        let gauge = &self.parts.metrics.downlink.lag_messages;
        match &lag {
            Ok(Some(lag)) => {
                let lag = i64::try_from(*lag).unwrap_or(i64::MAX);
                gauge.with_label_values(&[&*topic.name]).set(lag);
            }
            // A lag that is not known is removed, because it is not 0. There may be no series to remove.
            Ok(None) | Err(_) => _ = gauge.remove_label_values(&[&*topic.name]),
        }
        lag.map(|_| ())
    }

    /// How many messages have not ended; `None` if that is not known of one of the queues. First adds the queues that are new.
    async fn lag_of(&mut self, topic: &Topic) -> Result<Option<u64>, ReadError> {
        let queues = self.parts.reader.queues(&topic.name).await?;
        let brokers: BTreeSet<Arc<str>> = queues.iter().map(|queue| queue.broker.clone()).collect();
        let mut known = self.queues.keys().filter(|(name, _)| *name == topic.name);
        let all_are_there = known.all(|(_, queue)| brokers.contains(&queue.broker));
        let mut lag = all_are_there.then_some(0);
        let mut failed: BTreeMap<Arc<str>, ReadError> = BTreeMap::new();
        for queue in queues {
            // A broker that does not answer would make us wait again for each of its queues.
            if failed.contains_key(&queue.broker) {
                continue;
            }
            let broker = queue.broker.clone();
            match self.lag_of_queue(topic, queue).await {
                Ok(messages) => lag = lag.zip(messages).map(|(sum, messages)| sum + messages),
                Err(error) => _ = failed.insert(broker, error),
            }
        }
        failed.into_values().next().map_or(Ok(lag), Err)
    }

    async fn lag_of_queue(&mut self, topic: &Topic, queue: QueueName) -> Result<Option<u64>, ReadError> {
        let (min, max) = self.parts.reader.offsets(&topic.name, &queue).await?;
        let key = (topic.name.clone(), queue);
        if !self.queues.contains_key(&key) {
            let position = self.position(topic, &key.1, min, max).await?;
            self.queues.insert(key.clone(), Queue::at(position));
            self.unsaved = true;
        }
        let ended = self.queues.get(&key).map(|queue| queue.progress.position().offset);
        Ok(ended.and_then(|ended| max.checked_sub(ended)))
    }

    /// Where to begin with a queue.
    async fn position(
        &self,
        topic: &Topic,
        queue: &QueueName,
        min: u64,
        max: u64,
    ) -> Result<Position, ReadError> {
        let reader = &*self.parts.reader;
        let compare = |offset, last| compare(reader, &topic.name, queue, offset, last);
        if let Some(saved) = self.positions.get(&topic.name, queue) {
            let last = saved.last.clone();
            return Ok(match compare(saved.offset, last.as_deref()).await? {
                Compared::Same { last: found } => Position { offset: saved.offset, last: last.or(found) },
                Compared::Changed(change) => {
                    self.tell_position_lost(&(topic.name.clone(), queue.clone()), saved.offset, change);
                    Position { offset: change.first, last: None }
                }
            });
        }
        // A new queue of a topic that was followed before holds nothing that was read.
        let begun = self.positions.topics.contains_key(&*topic.name);
        let offset = match topic.start {
            StartAt::Latest if !begun && self.beginning => max,
            StartAt::Latest if !begun => reader.offset_at(&topic.name, queue, self.started_ms).await?,
            StartAt::Latest | StartAt::Earliest => min,
        };
        let last = match compare(offset, None).await? {
            Compared::Same { last } => last,
            // It changed between the two questions; the first look will notice it.
            Compared::Changed(_) => None,
        };
        Ok(Position { offset, last })
    }

    fn tell_position_lost(&self, (topic, queue): &(Arc<str>, QueueName), offset: u64, change: Change) {
        self.parts.metrics.downlink.position_lost_total.inc();
        tracing::error!(
            topic = &**topic, queue = %queue, offset, first = change.first, end = change.end,
            "the queue is not what was read before ({}); it is read again from its first message", change.cause
        );
    }

    fn complain(&mut self, error: &ReadError) {
        if self.read_errors.is_due() {
            let missing = error.kind == FailureKind::TopicMissing;
            tracing::warn!(%error, missing, "a topic cannot be followed at the moment; trying again");
        }
    }
}
