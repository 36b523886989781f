//! The uplink's middle: takes messages from the intake, binds them, puts them into their lanes, sends batches, and
//! tells the subscriber which receipts have ended.
//!
//! Promises: every message that came in has exactly one end, counted once; first occurrences of one order key reach
//! one queue in order. Until the spool exists one waiting lane holds every room back after one receive window,
//! because PUBACKs are ordered.
//! Must never: acknowledge, or name a protocol.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::attempts::Sending;
use super::intake::{Arrived, IntakeReceiver};
use super::lanes::{BatchLimits, TopicLanes, Waiting};
use super::ledger::ReceiptNumber;
use super::ports::{Lease, OutgoingMessage};
use super::retry::Retry;
use super::ticket::Ticket;
use crate::binding::{RuleSet, Unbound};
use crate::data_dir::{QueueTables, TopicQueues};
use crate::model::{Clock, DropReason, FilterReason, Kind, Outcome, QueueName};

/// How long no send starts after the loss of the MQTT link: the session's next holder would get the same messages,
/// so the CONNACK is awaited. Longer than that nobody else can have it, because the broker itself is away.
const HOLD_AFTER_LINK_LOSS: Duration = Duration::from_secs(10);
const INTAKE_AT_ONCE: usize = 512;

/// What is known of the MQTT link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Up,
    Down,
    /// Another client took the session: what was not sent belongs to it now.
    TakenOver,
}

/// Keeps the queue tables where the next process finds them.
pub type SaveTables = Box<dyn Fn(&QueueTables) + Send>;

/// Everything the uplink is made of.
pub struct UplinkParts {
    pub rules: Arc<RuleSet>,
    pub sending: Arc<Sending>,
    pub lease: Arc<dyn Lease>,
    pub clock: Arc<dyn Clock>,
    pub intake: IntakeReceiver,
    /// Receipts that have ended, to the subscriber. Bounded; the subscriber never waits for the uplink.
    pub settled: mpsc::Sender<Vec<ReceiptNumber>>,
    pub link: watch::Receiver<Link>,
    pub tables: QueueTables,
    pub save_tables: SaveTables,
    pub limits: BatchLimits,
}

enum Finished {
    Batch {
        topic: Arc<str>,
        queue_index: usize,
        ends: Vec<(Ticket, Outcome)>,
    },
    Lookup {
        topic: Arc<str>,
        queues: Vec<QueueName>,
    },
}

/// See the module's words.
pub struct Uplink {
    parts: UplinkParts,
    topics: HashMap<Arc<str>, TopicLanes>,
    running: JoinSet<Finished>,
    held_until: Option<Duration>,
    logged_drops: [bool; DropReason::ALL.len()],
}

impl Uplink {
    pub fn new(parts: UplinkParts) -> Self {
        Self {
            parts,
            topics: HashMap::new(),
            running: JoinSet::new(),
            held_until: None,
            logged_drops: Default::default(),
        }
    }

    /// Runs until the intake is closed and everything has ended, or until `stop_now`: what is in flight then is
    /// given up without an end, and the MQTT session delivers it again.
    pub async fn run(mut self, stop_now: CancellationToken) {
        let mut arrived = Vec::with_capacity(INTAKE_AT_ONCE);
        let mut open = true;
        let mut subscriber_lives = true;
        while open || !self.is_idle() {
            let due_in = self.next_due_in();
            tokio::select! {
                biased;
                () = stop_now.cancelled() => return,
                Some(finished) = self.running.join_next() => self.finish(finished).await,
                changed = self.parts.link.changed(), if subscriber_lives => {
                    subscriber_lives = changed.is_ok();
                    self.link_changed().await;
                }
                count = self.parts.intake.receiver.recv_many(&mut arrived, INTAKE_AT_ONCE), if open => {
                    open = count > 0;
                    self.take_in(&mut arrived).await;
                }
                () = tokio::time::sleep(due_in.unwrap_or_default()), if due_in.is_some() => {}
            }
            while let Some(finished) = self.running.try_join_next() {
                self.finish(finished).await;
            }
            self.start_what_can_start();
        }
    }

    async fn take_in(&mut self, arrived: &mut Vec<Arrived>) {
        let mut ended = Vec::new();
        for Arrived { envelope, receipt } in arrived.drain(..) {
            let weight_bytes = envelope.weight_bytes();
            match self.parts.rules.bind(&envelope) {
                Ok(bound) => {
                    let ticket = Ticket {
                        receipt,
                        weight_bytes,
                        kind: bound.kind,
                    };
                    let message = OutgoingMessage {
                        tag: bound.tag,
                        keys: bound.keys,
                        properties: bound.properties,
                        body: bound.body,
                    };
                    let since = self.parts.clock.monotonic();
                    let waiting = Waiting {
                        message,
                        ticket,
                        slot: bound.slot,
                        since,
                    };
                    self.lanes(&bound.topic).push(waiting);
                }
                Err(unbound) => {
                    let outcome = self.judge(unbound, &envelope.topic);
                    ended.push((
                        Ticket {
                            receipt,
                            weight_bytes,
                            kind: Kind::Other,
                        },
                        outcome,
                    ));
                }
            }
        }
        if !ended.is_empty() {
            self.settle("", ended).await;
        }
    }

    fn lanes(&mut self, topic: &Arc<str>) -> &mut TopicLanes {
        let table = || self.parts.tables.topics.get(&**topic).cloned();
        self.topics
            .entry(topic.clone())
            .or_insert_with(|| TopicLanes::new(topic.clone(), table()))
    }

    fn judge(&mut self, unbound: Unbound, mqtt_topic: &str) -> Outcome {
        match unbound {
            Unbound::Filtered(reason) => Outcome::Filtered(reason),
            Unbound::Dropped { reason, detail } => {
                let place = DropReason::ALL.iter().position(|each| *each == reason);
                if let Some(logged) = place.and_then(|place| self.logged_drops.get_mut(place))
                    && !std::mem::replace(logged, true)
                {
                    tracing::warn!(
                        reason = reason.as_str(),
                        mqtt_topic = %beginning(mqtt_topic).escape_debug(),
                        "a message can never be stored and is given up ({detail}); it is acknowledged and counted in \
                         roombridge_dropped_total; this cause is logged once"
                    );
                }
                Outcome::Dropped(reason)
            }
        }
    }

    fn start_what_can_start(&mut self) {
        if self.is_held() || !self.parts.lease.is_held() {
            return;
        }
        let now = self.parts.clock.monotonic();
        for lanes in self.topics.values_mut() {
            if !lanes.is_known() && !lanes.lookup_running {
                lanes.lookup_running = true;
                self.running
                    .spawn(look_up(self.parts.sending.clone(), lanes.topic.clone()));
            }
            while let Some(ready) = lanes.next_ready(self.parts.limits, now) {
                self.parts.sending.metrics.batch_messages(ready.tickets.len());
                let (sending, topic) = (self.parts.sending.clone(), lanes.topic.clone());
                self.running.spawn(async move {
                    let ends = sending
                        .until_settled(topic.clone(), ready.queue, ready.messages, ready.tickets)
                        .await;
                    Finished::Batch {
                        topic,
                        queue_index: ready.queue_index,
                        ends,
                    }
                });
            }
        }
    }

    async fn finish(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        match finished {
            Ok(Finished::Batch {
                topic,
                queue_index,
                ends,
            }) => {
                if let Some(lanes) = self.topics.get_mut(&topic) {
                    lanes.free(queue_index);
                }
                self.settle(&topic, ends).await;
            }
            Ok(Finished::Lookup { topic, queues }) => self.know(&topic, queues),
            // Its messages stay without an end and its lane stays busy: not acknowledged, thus not lost.
            Err(error) => tracing::error!(%error, "a send ended without an answer; please report this"),
        }
    }

    fn know(&mut self, topic: &Arc<str>, queues: Vec<QueueName>) {
        let table = TopicQueues::first(queues);
        tracing::info!(topic = %topic, queues = table.queues().len(), "the topic's queues are known and written down");
        self.parts.tables.topics.insert(topic.to_string(), table.clone());
        (self.parts.save_tables)(&self.parts.tables);
        if let Some(lanes) = self.topics.get_mut(topic) {
            lanes.lookup_running = false;
            lanes.know(table);
        }
    }

    async fn settle(&mut self, topic: &str, ends: Vec<(Ticket, Outcome)>) {
        let metrics = &self.parts.sending.metrics;
        let mut stored = [0; Kind::ALL.len()];
        let mut weight_bytes = 0;
        for (ticket, outcome) in &ends {
            weight_bytes += ticket.weight_bytes;
            match outcome {
                Outcome::Stored(_) => {
                    let place = Kind::ALL.iter().position(|kind| *kind == ticket.kind);
                    if let Some(count) = place.and_then(|place| stored.get_mut(place)) {
                        *count += 1;
                    }
                }
                Outcome::Filtered(reason) => metrics.filtered(*reason),
                Outcome::Dropped(reason) => metrics.dropped(*reason),
            }
        }
        for (kind, count) in Kind::ALL.into_iter().zip(stored).filter(|(_, count)| *count > 0) {
            metrics.stored(topic, kind, count);
        }
        metrics.in_flight.sub(ends.len() as i64);
        self.parts.intake.leave(ends.len(), weight_bytes);
        let receipts: Vec<_> = ends
            .into_iter()
            .filter_map(|(ticket, _)| ticket.receipt)
            .collect();
        // A closed channel means that the subscriber is gone, and with it the right to acknowledge.
        let _ = self.parts.settled.send(receipts).await;
    }

    async fn link_changed(&mut self) {
        let link = *self.parts.link.borrow_and_update();
        self.parts
            .sending
            .taken_over
            .store(link == Link::TakenOver, Ordering::Relaxed);
        match link {
            Link::Up => self.held_until = None,
            Link::Down => self.held_until = Some(self.parts.clock.monotonic() + HOLD_AFTER_LINK_LOSS),
            Link::TakenOver => {
                self.held_until = None;
                let tickets: Vec<_> = self.topics.values_mut().flat_map(TopicLanes::abandon).collect();
                let outcome = Outcome::Filtered(FilterReason::SessionTakenOver);
                self.settle(
                    "",
                    tickets
                        .into_iter()
                        .map(|ticket| (ticket, outcome.clone()))
                        .collect(),
                )
                .await;
            }
        }
    }

    fn is_held(&self) -> bool {
        self.held_until
            .is_some_and(|until| self.parts.clock.monotonic() < until)
    }

    fn next_due_in(&self) -> Option<Duration> {
        let now = self.parts.clock.monotonic();
        if self.is_held() {
            return self.held_until.map(|until| until.saturating_sub(now));
        }
        if self.parts.limits.linger.is_zero() {
            return None;
        }
        let due = self
            .topics
            .values()
            .filter_map(|lanes| lanes.next_due(self.parts.limits))
            .min()?;
        Some(due.saturating_sub(now))
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.topics.values().all(TopicLanes::is_idle)
    }
}

/// A topic can have 64 KiB; a log line should not.
fn beginning(mqtt_topic: &str) -> &str {
    const SHOWN_BYTES: usize = 200;
    mqtt_topic
        .get(..mqtt_topic.floor_char_boundary(SHOWN_BYTES))
        .unwrap_or(mqtt_topic)
}

/// Asks for the topic's queues until RocketMQ answers with some.
async fn look_up(sending: Arc<Sending>, topic: Arc<str>) -> Finished {
    let mut retry = Retry::send();
    loop {
        let kind = match sending.sink.queues(&topic).await {
            Ok(queues) if !queues.is_empty() => {
                sending.readiness.set_rocketmq_reachable(true);
                return Finished::Lookup { topic, queues };
            }
            Ok(_) => crate::model::FailureKind::TopicMissing,
            Err(kind) => kind,
        };
        let pause = retry.next_pause_after(kind);
        sending.report_lookup(&topic, kind, pause);
        tokio::time::sleep(pause).await;
    }
}
