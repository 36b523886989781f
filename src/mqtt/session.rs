//! What one MQTT session does with each event: the ledger's hands and eyes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{Disconnect, DisconnectReasonCode, Packet, PingReq, PubAck, Publish};
use tokio::sync::watch;

use super::connection::Outbox;
use super::incoming::ConnAck;
use super::limits::{Limits, Needs};
use super::subscriptions::{Overlap, Subscriptions};
use super::translate;
use crate::binding::Filter;
use crate::data_dir::{DataDir, DataDirError, Saving, SessionState};
use crate::model::{Arrival, Clock, DropReason, Envelope, FilterReason, MessageIds, Qos, SessionStamp};
use crate::pipeline::{
    Admission, Arrived, Delivery, Fingerprint, Full, Intake, LinkState, ReceiptLedger, ReceiptNumber,
    WINDOWS_READ,
};
use crate::telemetry::{Metrics, Readiness, Severity};

/// A receive window that is full for so long is a sign that the broker queues, and will drop beyond its own limit.
const WINDOW_FULL_ALARM_S: u32 = 5;
/// Reached only when the broker does not read what we write.
const OUTBOX_BYTES: usize = 64 * 1024;

/// Everything the session is made of.
pub struct SessionParts {
    pub filters: Vec<String>,
    pub receive_maximum: u16,
    pub data_dir: Arc<DataDir>,
    /// As the last process left it, with this process's generation.
    pub state: SessionState,
    pub ledger: ReceiptLedger,
    pub ids: MessageIds,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub link: watch::Sender<LinkState>,
}

/// The intake is full: the connection must be dropped at once, without an acknowledgement, so that the broker sends again
/// and nothing that came behind overtakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MustReconnect;

/// See the module's words.
pub(crate) struct Session {
    pub(super) parts: SessionParts,
    needs: Needs,
    /// Of the present connection.
    limits: Limits,
    /// Of the present connection.
    pub(super) outbox: Outbox,
    pub(super) subscriptions: Subscriptions,
    /// SUBSCRIBE and UNSUBSCRIBE that leave when the disk has what they change.
    pub(super) waiting: Vec<Packet>,
    /// PUBLISHes of this connection that wait for the answers to SUBSCRIBE; a receive window at most.
    pub(super) held: VecDeque<Publish>,
    pub(super) waits_for_answers: bool,
    stamp: SessionStamp,
    /// Number of the last PUBLISH on this connection.
    sequence: u64,
    has_connected: bool,
    window_full_s: u32,
    /// PUBACKs that the last connection took with it.
    pubacks_lost: usize,
}

impl Session {
    /// `session_expiry_s`: what CONNECT asks for.
    pub(crate) fn new(parts: SessionParts, session_expiry_s: u32) -> Self {
        let stamp = SessionStamp::new(parts.state.stamp.as_str());
        let wanted: Vec<Filter> = parts.filters.iter().filter_map(|text| Filter::parse(text).ok()).collect();
        let (kept, older) = (parts.state.subscriptions.clone(), &parts.state.filters);
        Self {
            needs: Needs { session_expiry_s, filters: parts.filters.clone(), publishes_bytes: None },
            limits: Limits::default(),
            subscriptions: Subscriptions::new(&wanted, kept, older, || fastrand::u32(..)),
            waiting: Vec::new(),
            held: VecDeque::new(),
            waits_for_answers: true,
            parts,
            outbox: Outbox::default(),
            stamp,
            sequence: 0,
            has_connected: false,
            window_full_s: 0,
            pubacks_lost: 0,
        }
    }

    /// Something goes down to the same broker too, of that many bytes at most.
    pub(crate) fn set_publishes_bytes(&mut self, bytes: u64) {
        self.needs.publishes_bytes = Some(bytes);
    }

    /// There is a connection. Its number, and a new session's stamp, must be on the disk before anything is done on it.
    pub(crate) fn greeted(&mut self, connack: &ConnAck) -> Result<Saving, DataDirError> {
        let state = &mut self.parts.state;
        if !connack.session_present {
            if state.connection > 0 {
                self.parts.metrics.session_lost_total.inc();
                tracing::warn!(
                    client_id = state.client_id,
                    "the MQTT broker has lost our session (session_present=0 where a session was expected): messages \
                     that waited there for us are gone; check its persistence and session expiry"
                );
            }
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(DataDirError::Random)?;
            state.stamp = format!("{}#{:016x}", state.client_id, u64::from_be_bytes(random));
            state.connection = 0;
        }
        state.connection += 1;
        self.outbox = Outbox::new(connack);
        self.waits_for_answers = true;
        self.limits = connack.limits.clone();
        let limits = &self.limits;
        self.subscriptions.connected(connack.session_present, limits.identifiers_available, |filter| {
            limits.forbids(filter)
        });
        self.waiting = self.asks().0;
        Ok(self.parts.data_dir.save_session(&self.parts.state))
    }

    /// What [`Self::greeted`] asked for is on the disk: only now may anything be acknowledged again.
    pub(crate) fn connected(&mut self, connack: &ConnAck) {
        self.stamp = SessionStamp::new(self.parts.state.stamp.as_str());
        self.pubacks_lost = 0;
        self.sequence = 0;
        self.window_full_s = 0;
        if std::mem::replace(&mut self.has_connected, true) {
            self.parts.metrics.reconnects_total.inc();
        }
        self.parts.ledger.connected(connack.session_present);
        self.parts.metrics.mqtt_connected.set(1);
        self.parts.readiness.set_mqtt_connected(true);
        self.parts.link.send_replace(LinkState::Up);
        tracing::info!(
            session_present = connack.session_present,
            connection = self.parts.state.connection,
            "connected to the MQTT broker"
        );
        self.say_limits();
        self.written();
    }

    /// What the broker does not give: in the log when it is news, and in `/readyz`.
    fn say_limits(&self) {
        let limits = self.limits.against(&self.needs);
        if !self.parts.readiness.set_mqtt_limits(limits.clone()) {
            return;
        }
        for limit in &limits {
            match limit.severity {
                Severity::Remark => tracing::info!("{}", limit.text),
                Severity::Warning => tracing::warn!("{}", limit.text),
                Severity::Fatal => tracing::error!("{}", limit.text),
            }
        }
    }

    pub(super) fn push(&mut self, packet: &Packet) {
        if let Err(error) = self.outbox.push(packet) {
            tracing::error!(%error, "a packet cannot be sent to the MQTT broker; check its limit for packets");
        }
    }

    /// The connection is gone, or must not be trusted any more.
    pub(crate) fn disconnected(&mut self, link: LinkState) {
        self.parts.ledger.disconnected();
        if link == LinkState::TakenOver {
            self.parts.ledger.taken_over();
        }
        self.pubacks_lost += self.outbox.pubacks_at_most();
        self.outbox.clear();
        self.held.clear();
        self.waiting.clear();
        self.subscriptions.disconnected();
        self.report_subscriptions();
        self.parts.link.send_replace(link);
        self.parts.metrics.mqtt_connected.set(0);
        self.parts.readiness.set_mqtt_connected(false);
        self.parts.readiness.set_mqtt_subscribed(false);
    }

    pub(super) fn take_in(&mut self, mut publish: Publish, intake: &Intake) -> Result<(), MustReconnect> {
        self.parts.metrics.received(publish.payload.len());
        self.sequence += 1;
        let qos = translate::qos(publish.qos);
        let (packet_id, retain, duplicate) = (publish.pkid, publish.retain, publish.dup);
        let monotonic = self.parts.clock.monotonic();
        let identifiers = publish.properties.as_mut();
        let identifiers = identifiers.map(|all| std::mem::take(&mut all.subscription_identifiers));
        let translated = translate::publish(publish);
        let overlap = self.overlap(&translated.topic, &identifiers.unwrap_or_default());
        let (receipt, id, maybe_copy_of) = if qos == Qos::AtMostOnce {
            if overlap == Overlap::Copy {
                self.parts.metrics.filtered(FilterReason::Overlap);
                return Ok(());
            }
            (None, self.parts.ids.next_id(), None)
        } else {
            let fingerprint = Fingerprint::of(&translated.topic, &translated.payload);
            let delivery = Delivery { packet_id, duplicate, fingerprint, arrived: monotonic };
            if overlap == Overlap::Copy {
                let left_out = self.parts.ledger.leave_out(delivery);
                let reason = if left_out { FilterReason::Overlap } else { FilterReason::Redelivered };
                self.parts.metrics.filtered(reason);
                self.acknowledge();
                return Ok(());
            }
            let in_doubt = overlap == Overlap::Doubt;
            let doubted = in_doubt.then(|| self.parts.ledger.last_with(fingerprint)).flatten();
            let ids = &mut self.parts.ids;
            let (admission, id) = self.parts.ledger.admit(delivery, || ids.next_id());
            match admission {
                Admission::Redelivered => {
                    self.parts.metrics.filtered(FilterReason::Redelivered);
                    self.acknowledge();
                    return Ok(());
                }
                Admission::New { receipt, copy_of, maybe_copy_of } => {
                    let maybe_copy_of = maybe_copy_of.or(doubted.filter(|_| copy_of.is_none()));
                    self.parts.metrics.redelivered_copies_total.inc_by(u64::from(copy_of.is_some()));
                    self.parts.metrics.maybe_copies_total.inc_by(u64::from(maybe_copy_of.is_some()));
                    (Some(receipt), id, maybe_copy_of)
                }
            }
        };
        let arrival = Arrival {
            session: self.stamp.clone(),
            connection: self.parts.state.connection,
            sequence: self.sequence,
            generation: self.parts.state.generation,
            wall_ms: self.parts.clock.wall_ms(),
            monotonic,
        };
        let translate::Translated { topic, payload, properties } = translated;
        let envelope = Envelope {
            id,
            maybe_copy_of,
            arrival,
            topic,
            payload,
            qos,
            retain,
            duplicate,
            packet_id,
            properties,
        };
        self.enter(Arrived { envelope, receipt }, intake)
    }

    /// Whether another subscription brings the same message.
    fn overlap(&mut self, topic: &str, identifiers: &[usize]) -> Overlap {
        let window_open = self.parts.ledger.unacknowledged() < usize::from(self.parts.receive_maximum);
        let overlap = self.subscriptions.judge(topic, identifiers, window_open);
        let came = !identifiers.is_empty();
        if (came || overlap == Overlap::Doubt) && self.subscriptions.note_identifiers(came) {
            self.report_subscriptions();
        }
        overlap
    }

    /// One PUBLISH came while the bridge drains: a copy of an open message gets its PUBACK here; anything else is not
    /// taken in and not acknowledged, so the next process gets it.
    pub(crate) fn redelivered(&mut self, publish: Publish) {
        let bytes = publish.payload.len();
        let (packet_id, duplicate) = (publish.pkid, publish.dup);
        let translated = translate::publish(publish);
        let is_copy = self.parts.ledger.rearm(Delivery {
            packet_id,
            duplicate,
            fingerprint: Fingerprint::of(&translated.topic, &translated.payload),
            arrived: self.parts.clock.monotonic(),
        });
        if is_copy {
            self.parts.metrics.received(bytes);
            self.parts.metrics.filtered(FilterReason::Redelivered);
            self.acknowledge();
        }
    }

    fn enter(&mut self, arrived: Arrived, intake: &Intake) -> Result<(), MustReconnect> {
        self.parts.metrics.in_flight.inc();
        let Err(Full(refused)) = intake.try_enter(arrived) else {
            return Ok(());
        };
        self.parts.metrics.in_flight.dec();
        match refused.receipt {
            None => {
                self.parts.metrics.dropped(DropReason::IntakeFull, 1);
                Ok(())
            }
            Some(receipt) => {
                self.parts.ledger.forget(receipt);
                self.parts.metrics.filtered(FilterReason::HeldBack);
                Err(MustReconnect)
            }
        }
    }

    /// These receipts have ended: send what PUBACKs may leave now.
    pub(crate) fn settled(&mut self, receipts: &[ReceiptNumber]) {
        for receipt in receipts {
            self.parts.ledger.settle(*receipt);
        }
        self.acknowledge();
    }

    /// Puts what PUBACKs may leave into the outbox.
    fn acknowledge(&mut self) {
        let now = self.parts.clock.monotonic();
        while let Some(acknowledgement) = self.parts.ledger.next_acknowledgement() {
            self.push(&Packet::PubAck(PubAck::new(acknowledgement.packet_id, None)));
            let age = now.saturating_sub(acknowledgement.arrived);
            self.parts.metrics.store_seconds(age.as_secs_f64());
        }
    }

    /// Whether the broker may be read: see [`WINDOWS_READ`] and [`OUTBOX_BYTES`].
    pub(crate) fn may_read(&self) -> bool {
        let limit = usize::from(self.parts.receive_maximum) * WINDOWS_READ;
        self.parts.ledger.unacknowledged() < limit && self.outbox.len_bytes() < OUTBOX_BYTES
    }

    /// What the connection has to write.
    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Keeps the connection alive, and shows that the broker is there.
    pub(crate) fn ping(&mut self) {
        self.push(&Packet::PingReq(PingReq));
    }

    /// Once a second: gauges, the pauses of subscriptions, and the alarm of a full receive window.
    pub(crate) fn tick(&mut self) {
        self.subscriptions.second_passed();
        let oldest = self.parts.ledger.oldest_unsettled();
        let now = self.parts.clock.monotonic();
        let age = oldest.map_or(Duration::ZERO, |oldest| now.saturating_sub(oldest));
        self.parts.metrics.set_lag(age);
        self.count_unsent(true);
        let full = self.parts.ledger.unacknowledged() >= usize::from(self.parts.receive_maximum);
        self.window_full_s = if full { self.window_full_s + 1 } else { 0 };
        let alarm = self.window_full_s >= WINDOW_FULL_ALARM_S;
        self.parts.metrics.receive_window_full.set(i64::from(alarm));
        if self.window_full_s == WINDOW_FULL_ALARM_S {
            tracing::warn!(
                receive_maximum = self.parts.receive_maximum,
                "the receive window is full for {WINDOW_FULL_ALARM_S} s: the MQTT broker queues for us, and drops what \
                 is beyond its own queue limit"
            );
        }
    }

    /// Lets sends start although the link is down.
    pub(crate) fn release_hold(&self) {
        self.parts.link.send_replace(LinkState::Up);
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.parts.readiness
    }

    /// Ends with a clean DISCONNECT, behind the PUBACKs that are already on their way.
    pub(crate) fn say_goodbye(&mut self) -> &mut Outbox {
        let disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        self.push(&Packet::Disconnect(disconnect));
        &mut self.outbox
    }

    /// After the end: what the MQTT broker was not told. `connected`: up to now there was a connection.
    pub(crate) fn count_unsent(&self, connected: bool) {
        let waiting = if connected { self.outbox.pubacks_at_most() } else { 0 };
        let unsent = self.parts.ledger.owed() + self.pubacks_lost + waiting;
        self.parts.metrics.pubacks_unsent.set(unsent as i64);
    }
}
