//! What one MQTT session does with each event: a connection comes or goes, a second passes, a packet comes, receipts end.
//!
//! Promises: acknowledges only what the ledger gives out; does nothing on a connection before its number is on the disk.
//! Must never: do IO. Packets to send are taken from it ([`Session::take_outgoing`]); what must be written is handed to the
//! caller; time and random numbers come from outside.
//!
//! `deliveries` is the way of the messages and of their PUBACKs, `subscribing` that of the subscriptions.

mod deliveries;
mod subscribing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::limits::{Limits, Needs};
use super::subscriptions::Subscriptions;
use super::wire::{Connack, Publish, ToBroker};
use crate::data_dir::SessionState;
use crate::model::{Clock, MessageIds, SessionStamp, TopicFilter};
use crate::pipeline::ReceiptLedger;
use crate::telemetry::{Metrics, Readiness, Severity};

/// A receive window that is full for so long is a sign that the broker queues, and will drop beyond its own limit.
const WINDOW_FULL_ALARM_S: u32 = 5;

/// Everything that a session is made of.
pub struct SessionParts {
    pub filters: Vec<String>,
    pub receive_maximum: u16,
    /// As the last process left it, with this process's generation.
    pub state: SessionState,
    pub ledger: ReceiptLedger,
    pub ids: MessageIds,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
}

/// The intake is full: the connection must be dropped at once, without an acknowledgement, so that the broker sends the message
/// again and no later one overtakes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MustReconnect;

/// The session with the broker, over all connections of this process.
pub struct Session {
    parts: SessionParts,
    needs: Needs,
    /// Of the present connection.
    limits: Limits,
    /// Packets for the broker, until the caller takes them.
    outgoing: Vec<ToBroker<'static>>,
    /// Of the last SUBSCRIBE or UNSUBSCRIBE on this connection.
    last_packet_id: u16,
    subscriptions: Subscriptions,
    /// SUBSCRIBE and UNSUBSCRIBE that leave when the disk has what they change.
    unsent_requests: Vec<ToBroker<'static>>,
    /// PUBLISHes of this connection that wait for the answers to SUBSCRIBE; a receive window at most.
    undecided: VecDeque<Publish>,
    /// False once so many PUBLISHes were undecided that the answers are not waited for any more.
    waits_for_answers: bool,
    stamp: SessionStamp,
    /// Number of the last PUBLISH on this connection.
    sequence: u64,
    has_connected: bool,
    window_full_s: u32,
    /// PUBACKs that were not written when the last connection was lost.
    pubacks_lost: usize,
}

impl Session {
    /// `session_expiry_s`: what CONNECT asks for. `new_identifier` draws a number for a new subscription.
    pub fn new(parts: SessionParts, session_expiry_s: u32, new_identifier: impl FnMut() -> u32) -> Self {
        let stamp = SessionStamp::new(parts.state.stamp.as_str());
        let wanted: Vec<TopicFilter> =
            parts.filters.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect();
        let (kept, older) = (parts.state.subscriptions.clone(), &parts.state.filters);
        Self {
            needs: Needs { session_expiry_s, filters: parts.filters.clone(), publishes_bytes: None },
            limits: Limits::default(),
            subscriptions: Subscriptions::new(&wanted, kept, older, new_identifier),
            unsent_requests: Vec::new(),
            undecided: VecDeque::new(),
            waits_for_answers: true,
            parts,
            outgoing: Vec::new(),
            last_packet_id: 0,
            stamp,
            sequence: 0,
            has_connected: false,
            window_full_s: 0,
            pubacks_lost: 0,
        }
    }

    /// Messages go down to the same broker too, of that many bytes at most.
    pub(crate) fn set_publishes_bytes(&mut self, bytes: u64) {
        self.needs.publishes_bytes = Some(bytes);
    }

    /// A broker let us in. Its answer is the state that must be on the disk before [`Self::connected`]: the connection's number,
    /// and the stamp of a new session, for which `draw` gives the random part.
    pub fn prepare<E>(
        &mut self,
        connack: &Connack,
        draw: impl FnOnce() -> Result<u64, E>,
    ) -> Result<&SessionState, E> {
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
            state.stamp = format!("{}#{:016x}", state.client_id, draw()?);
            state.connection = 0;
        }
        state.connection += 1;
        self.outgoing.clear();
        self.last_packet_id = 0;
        self.waits_for_answers = true;
        self.limits = connack.limits.clone();
        let limits = &self.limits;
        self.subscriptions.connected(connack.session_present, limits.identifiers_available, |filter| {
            limits.forbids(filter)
        });
        self.unsent_requests = self.due_requests().0;
        Ok(&self.parts.state)
    }

    /// The disk has the state of [`Self::prepare`]: from now on the connection is used, and messages may be acknowledged again.
    pub fn connected(&mut self, connack: &Connack) {
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
        self.report_limits();
        self.state_written();
    }

    /// What the broker does not give: in the log when it is news, and in `/readyz`.
    fn report_limits(&self) {
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

    /// The connection is gone, or must not be trusted any more. `taken_over`: another client has the session now.
    /// `unwritten_pubacks`: those that were taken from here and did not leave.
    pub fn disconnected(&mut self, taken_over: bool, unwritten_pubacks: usize) {
        self.parts.ledger.disconnected();
        if taken_over {
            self.parts.ledger.taken_over();
        }
        self.pubacks_lost += unwritten_pubacks + self.outgoing_pubacks();
        self.outgoing.clear();
        self.undecided.clear();
        self.unsent_requests.clear();
        self.subscriptions.disconnected();
        self.report_subscriptions();
        self.parts.metrics.mqtt_connected.set(0);
        self.parts.readiness.set_mqtt_connected(false);
    }

    fn outgoing_pubacks(&self) -> usize {
        self.outgoing.iter().filter(|packet| matches!(packet, ToBroker::Ack { .. })).count()
    }

    /// Keeps the connection alive, and shows that the broker is there.
    pub(crate) fn ping(&mut self) {
        self.outgoing.push(ToBroker::Ping);
    }

    /// Ends with a clean DISCONNECT, behind the PUBACKs that are already on their way.
    pub(crate) fn say_goodbye(&mut self) {
        self.outgoing.push(ToBroker::Goodbye { ends_session: false });
    }

    /// Once a second: gauges, the pauses of subscriptions, and the alarm of a full receive window.
    pub(crate) fn tick(&mut self, unwritten_pubacks: usize) {
        self.subscriptions.second_passed();
        let oldest = self.parts.ledger.oldest_unsettled();
        let now = self.parts.clock.monotonic();
        let age = oldest.map_or(Duration::ZERO, |oldest| now.saturating_sub(oldest));
        self.parts.metrics.set_lag(age);
        self.count_unsent_pubacks(unwritten_pubacks);
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

    /// What has ended and the MQTT broker was not told. `unwritten`: PUBACKs that were taken from here and did not leave.
    pub(crate) fn count_unsent_pubacks(&self, unwritten: usize) {
        let unsent = self.parts.ledger.owed() + self.pubacks_lost + unwritten + self.outgoing_pubacks();
        self.parts.metrics.pubacks_unsent.set(unsent as i64);
    }
}

#[cfg(test)]
mod tests;
