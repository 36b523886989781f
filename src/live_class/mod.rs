//! The running classroom: reads the requests of clients, asks the rules, writes changes of the mutes to the disk, and sends
//! the deliveries.
//!
//! Promises: a change of the mutes is on the disk before anybody hears of it and before a later request of its queue is
//! judged; while the disk does not answer, other queues go on; a request ends only when everything that follows from it is
//! stored; after a crash it is judged again and leads to the same ids; a sender counts as verified only if the binding
//! proves it, on a message that came from MQTT through this deployment.
//! Must never: decide anything itself (`classroom` does), or name a protocol.

mod ask;
mod making;
mod open;
mod requests;
mod status;
mod unwritten;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub(crate) use ask::{ClassNotRunning, ClassQuestion, LiveClassHandle};
pub(crate) use status::{ClientNews, NewsKind};

use crate::binding::RuleSet;
use crate::classroom::{
    Classroom, ClassroomSettings, Coalescer, Mutes, Presence, PresenceSettings, Rate, SnapshotError,
};
use crate::config::ClassroomConfig;
use crate::consumer::{Item, QueuePosition};
use crate::data_dir::{DataDir, DataDirError, answered};
use crate::model::{Clock, MessageIds};
use crate::pipeline::{DeadLetters, DerivedOutcome, Intake, die_with};
use crate::telemetry::Metrics;
use open::OpenRequests;
use requests::Seen;
use unwritten::UnwrittenMutes;

/// So many status messages pass singly in a second; the others are combined.
const SINGLE_STATUS_PER_S: u32 = 5;
const TICK: Duration = Duration::from_millis(200);
/// How often messages that the pipeline gave back are sent again. It gives them back when another bridge takes over.
const AGAIN_EVERY: Duration = Duration::from_secs(1);
/// Questions that wait; when there are so many, the askers wait.
const QUESTIONS: usize = 64;

/// Why the live class cannot start.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveClassError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("the mutes of the classroom in data_dir: {0}")]
    Mutes(#[from] SnapshotError),
}

/// The parts of a live class.
pub(crate) struct LiveClassParts {
    /// Topics, groups and rates.
    pub config: ClassroomConfig,
    /// Bind the deliveries, and prove senders.
    pub rules: Arc<RuleSet>,
    /// Where the mutes are kept.
    pub data_dir: Arc<DataDir>,
    /// Wall time, for what is judged and shown.
    pub clock: Arc<dyn Clock>,
    /// Counts derived messages and unlisted clients.
    pub metrics: Arc<Metrics>,
    /// Takes requests that nobody could understand.
    pub dead_letters: Arc<DeadLetters>,
    /// Takes the messages that the classroom makes.
    pub intake: Intake,
    /// The requests and status notices that the follower reads from RocketMQ.
    pub items: mpsc::Receiver<Item>,
    /// Tells the follower which of them are done.
    pub ended: mpsc::UnboundedSender<QueuePosition>,
    /// What the embedded MQTT broker reports of its clients; bounded, and the broker waits when it is full. `None` = another
    /// broker, which does not report to us.
    pub news: Option<mpsc::Receiver<ClientNews>>,
    /// Gives ids to messages that follow from no request: notices and status.
    pub ids: MessageIds,
}

/// The task of the running classroom, which owns all of its state.
pub(crate) struct LiveClass {
    parts: LiveClassParts,
    classroom: Classroom,
    presence: Presence,
    coalescer: Coalescer,
    seen: Seen,
    unwritten: UnwrittenMutes,
    open: OpenRequests,
    /// Dead letters that are being written; each task gives its number in [`OpenRequests`]. Bounded by those.
    letter_writes: JoinSet<u64>,
    outcomes: mpsc::UnboundedReceiver<(u64, DerivedOutcome)>,
    questions: mpsc::Receiver<ClassQuestion>,
}

impl LiveClass {
    /// Reads the mutes of `data_dir`. Gives the task, and the handle by which others ask it.
    pub(crate) fn new(parts: LiveClassParts) -> Result<(Self, LiveClassHandle), LiveClassError> {
        let mutes = match parts.data_dir.mutes()? {
            Some(snapshot) => Mutes::from_snapshot(&snapshot)?,
            None => Mutes::default(),
        };
        let config = &parts.config;
        let settings = ClassroomSettings {
            teacher_groups: config.teacher_groups.clone(),
            client_rate: Rate { per_s: config.client_per_s, burst: config.client_burst },
            room_rate: Rate { per_s: config.room_per_s, burst: config.room_burst },
            ..ClassroomSettings::default()
        };
        let presence = PresenceSettings {
            down_parent: config.heard_topic.clone(),
            broker_events: parts.news.is_some(),
            ..PresenceSettings::default()
        };
        let (outcome_sender, outcomes) = mpsc::unbounded_channel();
        let (question_sender, questions) = mpsc::channel(QUESTIONS);
        let live_class = Self {
            classroom: Classroom::new(settings, mutes),
            presence: Presence::new(presence),
            coalescer: Coalescer::new(SINGLE_STATUS_PER_S),
            seen: Seen::default(),
            unwritten: UnwrittenMutes::default(),
            open: OpenRequests::new(outcome_sender),
            letter_writes: JoinSet::new(),
            outcomes,
            questions,
            parts,
        };
        Ok((live_class, LiveClassHandle::new(question_sender)))
    }

    /// Runs until the follower is gone and every request has ended, or until `stop_now`, even if requests are open then.
    pub(crate) async fn run(mut self, stop_now: CancellationToken) {
        tokio::select! {
            biased;
            () = stop_now.cancelled() => {}
            () = self.hold_class() => {}
        }
    }

    async fn hold_class(&mut self) {
        let mut ticks = tokio::time::interval(TICK);
        let mut again = tokio::time::interval(AGAIN_EVERY);
        for timer in [&mut ticks, &mut again] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut following = true;
        let mut listening = self.parts.news.is_some();
        while following || !self.open.is_empty() || !self.unwritten.is_empty() {
            tokio::select! {
                biased;
                outcome = self.outcomes.recv() => {
                    if let Some((number, outcome)) = outcome {
                        self.take_outcome(number, outcome);
                    }
                }
                Some(written) = self.letter_writes.join_next() => match written {
                    Ok(number) => self.take_outcome(number, DerivedOutcome::Kept),
                    Err(died) => die_with(died),
                },
                written = answered(&mut self.unwritten.saving) => self.mutes_written(written).await,
                _ = again.tick() => {
                    self.write_mutes();
                    self.send_again().await;
                }
                _ = ticks.tick() => self.tick().await,
                news = next_news(&mut self.parts.news), if listening => match news {
                    Some(news) => self.take_news(news).await,
                    None => listening = false,
                },
                item = self.parts.items.recv(), if following => match item {
                    Some(item) => self.take(item).await,
                    None => following = false,
                },
                Some(question) = self.questions.recv() => self.answer(question).await,
            }
        }
    }

    /// What must be done from time to time: summaries, and forgetting what is old.
    async fn tick(&mut self) {
        let now_ms = self.parts.clock.wall_ms();
        self.classroom.forget(now_ms);
        for update in self.presence.sweep(now_ms) {
            let status = self.coalescer.offer(None, &update, &self.presence, now_ms);
            self.send_status(status).await;
        }
        let unlisted = &self.parts.metrics.presence_unlisted_total;
        unlisted.inc_by(self.presence.overflowed().saturating_sub(unlisted.get()));
        let summary = self.coalescer.tick(&self.presence, now_ms);
        self.send_status(summary).await;
    }
}

async fn next_news(news: &mut Option<mpsc::Receiver<ClientNews>>) -> Option<ClientNews> {
    match news {
        Some(news) => news.recv().await,
        None => None,
    }
}
