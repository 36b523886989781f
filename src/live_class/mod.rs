//! The running classroom: reads what clients sent, asks the rules, writes down what they change, and lets others hear it.
//!
//! Promises: a change of the mutes is on the disk before anything is done about it, and before anything behind it in its
//! queue is judged; while the disk stands still, other queues go on; a request has ended only when all
//! that follows from it is stored; after a crash it is judged again and leads to the same ids; the sender is whom the
//! binding vouches for, and only on messages that came from MQTT through this deployment.
//! Must never: decide anything itself (that is for `classroom`), or name a protocol.

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

/// Status notices that pass singly in a second; what is beyond is told together.
const SINGLE_STATUS_PER_S: u32 = 5;
const TICK: Duration = Duration::from_millis(200);
/// What another bridge's takeover has thrown back is tried again.
const AGAIN_EVERY: Duration = Duration::from_secs(1);
const ASKS: usize = 64;

/// Why the live class cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveClassError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("the mutes of the classroom in data_dir: {0}")]
    Mutes(#[from] SnapshotError),
}

/// The parts of a live class.
pub(crate) struct LiveClassParts {
    pub config: ClassroomConfig,
    pub rules: Arc<RuleSet>,
    pub data_dir: Arc<DataDir>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub dead_letters: Arc<DeadLetters>,
    pub intake: Intake,
    pub items: mpsc::Receiver<Item>,
    pub ended: mpsc::UnboundedSender<QueuePosition>,
    /// What the MQTT broker says of its clients, if it tells us; bounded, and the broker waits when it is full.
    pub news: Option<mpsc::Receiver<ClientNews>>,
    /// For the ids of what nobody asked for: notices and status.
    pub ids: MessageIds,
}

/// See the module's words.
pub(crate) struct LiveClass {
    parts: LiveClassParts,
    classroom: Classroom,
    presence: Presence,
    coalescer: Coalescer,
    seen: Seen,
    unwritten: UnwrittenMutes,
    open: OpenRequests,
    /// Numbers of [`Open`]; no more than it holds.
    burying: JoinSet<u64>,
    told: mpsc::UnboundedReceiver<(u64, DerivedOutcome)>,
    asks: mpsc::Receiver<ClassQuestion>,
}

impl LiveClass {
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
        let (tell, told) = mpsc::unbounded_channel();
        let (asking, asks) = mpsc::channel(ASKS);
        let live_class = Self {
            classroom: Classroom::new(settings, mutes),
            presence: Presence::new(presence),
            coalescer: Coalescer::new(SINGLE_STATUS_PER_S),
            seen: Seen::default(),
            unwritten: UnwrittenMutes::default(),
            open: OpenRequests::new(tell),
            burying: JoinSet::new(),
            told,
            asks,
            parts,
        };
        Ok((live_class, LiveClassHandle::new(asking)))
    }

    /// Runs until the follower is gone and everything has ended, or until `stop_now`, whatever it waits for then.
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
                told = self.told.recv() => {
                    if let Some((number, told)) = told {
                        self.told(number, told);
                    }
                }
                Some(buried) = self.burying.join_next() => match buried {
                    Ok(number) => self.told(number, DerivedOutcome::Kept),
                    Err(died) => die_with(died),
                },
                written = answered(&mut self.unwritten.saving) => self.mutes_written(written).await,
                _ = again.tick() => {
                    self.write_mutes();
                    self.send_again().await;
                }
                _ = ticks.tick() => self.tick().await,
                news = next_news(&mut self.parts.news), if listening => match news {
                    Some(news) => self.heard(news).await,
                    None => listening = false,
                },
                item = self.parts.items.recv(), if following => match item {
                    Some(item) => self.take(item).await,
                    None => following = false,
                },
                Some(ask) = self.asks.recv() => self.answer(ask).await,
            }
        }
    }

    /// What only time brings: summaries, what can be forgotten.
    async fn tick(&mut self) {
        let now_ms = self.parts.clock.wall_ms();
        self.classroom.forget(now_ms);
        for movement in self.presence.sweep(now_ms) {
            let told = self.coalescer.offer(None, &movement, &self.presence, now_ms);
            self.tell_status(told).await;
        }
        let counted = &self.parts.metrics.presence_unlisted_total;
        counted.inc_by(self.presence.overflowed().saturating_sub(counted.get()));
        let summary = self.coalescer.tick(&self.presence, now_ms);
        self.tell_status(summary).await;
    }
}

async fn next_news(news: &mut Option<mpsc::Receiver<ClientNews>>) -> Option<ClientNews> {
    match news {
        Some(news) => news.recv().await,
        None => None,
    }
}
