//! The way of a message through the session: a PUBLISH of the broker into the pipeline, and its end back to a PUBACK.

use std::time::Duration;

use super::{MustReconnect, Session};
use crate::model::{Arrival, DropReason, Envelope, FilterReason, MessageId, Qos};
use crate::mqtt::subscriptions::Overlap;
use crate::mqtt::wire::{Publish, ToBroker};
use crate::pipeline::{Admission, Arrived, Delivery, Fingerprint, Full, ReceiptNumber, WINDOWS_READ};

/// A message that is to be taken in. Without a receipt (QoS 0) it is not acknowledged.
struct Admitted {
    id: MessageId,
    receipt: Option<ReceiptNumber>,
    maybe_copy_of: Option<MessageId>,
}

impl Session {
    /// A PUBLISH came. `enter` takes a message into the pipeline's intake, or gives it back if that is full.
    ///
    /// The PUBLISH waits while it is not known yet which subscriptions a kept session still has.
    pub fn published(
        &mut self,
        publish: Publish,
        mut enter: impl FnMut(Arrived) -> Result<(), Full>,
    ) -> Result<(), MustReconnect> {
        if !self.must_wait() {
            return self.take_in(publish, &mut enter);
        }
        self.undecided.push_back(publish);
        if self.undecided.len() < usize::from(self.parts.receive_maximum) {
            return Ok(());
        }
        // The broker sends on without an answer, so what it sent is judged by what is known. Where that leaves a doubt, the
        // message is stored.
        self.waits_for_answers = false;
        self.decide(enter)
    }

    /// Takes in what has waited, if the wait is over.
    pub fn decide(
        &mut self,
        mut enter: impl FnMut(Arrived) -> Result<(), Full>,
    ) -> Result<(), MustReconnect> {
        while let Some(publish) = self.next_decided() {
            self.take_in(publish, &mut enter)?;
        }
        Ok(())
    }

    /// As [`Self::decide`], while the bridge drains.
    pub(crate) fn decide_while_draining(&mut self) {
        while let Some(publish) = self.next_decided() {
            self.published_while_draining(publish);
        }
    }

    fn next_decided(&mut self) -> Option<Publish> {
        if self.must_wait() { None } else { self.undecided.pop_front() }
    }

    fn must_wait(&self) -> bool {
        self.waits_for_answers && self.subscriptions.is_unsure()
    }

    fn take_in(
        &mut self,
        publish: Publish,
        enter: &mut impl FnMut(Arrived) -> Result<(), Full>,
    ) -> Result<(), MustReconnect> {
        self.parts.metrics.received(publish.payload.len());
        self.sequence += 1;
        let monotonic = self.parts.clock.monotonic();
        let overlap = self.overlap(&publish);
        let Some(admitted) = self.admit(&publish, overlap, monotonic) else {
            return Ok(());
        };
        let arrival = Arrival {
            session: self.stamp.clone(),
            connection: self.parts.state.connection,
            sequence: self.sequence,
            generation: self.parts.state.generation,
            wall_ms: self.parts.clock.wall_ms(),
            monotonic,
        };
        let envelope = Envelope {
            id: admitted.id,
            maybe_copy_of: admitted.maybe_copy_of,
            arrival,
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            duplicate: publish.duplicate,
            packet_id: publish.packet_id,
            properties: publish.properties,
        };
        self.parts.metrics.in_flight.inc();
        match enter(Arrived { envelope, receipt: admitted.receipt }) {
            Ok(()) => Ok(()),
            Err(Full(refused)) => self.intake_is_full(refused.receipt),
        }
    }

    /// Whether another subscription brings the same message.
    fn overlap(&mut self, publish: &Publish) -> Overlap {
        let window_open = self.parts.ledger.unacknowledged() < usize::from(self.parts.receive_maximum);
        let identifiers = &publish.subscription_identifiers;
        let overlap = self.subscriptions.judge(&publish.topic, identifiers, window_open);
        let came = !identifiers.is_empty();
        if (came || overlap == Overlap::Doubt) && self.subscriptions.note_identifiers(came) {
            self.report_subscriptions();
        }
        overlap
    }

    /// Gives the message its id and opens its receipt. `None`: another delivery of the message is kept, and this one ends here.
    fn admit(&mut self, publish: &Publish, overlap: Overlap, arrived: Duration) -> Option<Admitted> {
        if publish.qos == Qos::AtMostOnce {
            if overlap == Overlap::Copy {
                self.parts.metrics.filtered(FilterReason::Overlap);
                return None;
            }
            return Some(Admitted { id: self.parts.ids.next_id(), receipt: None, maybe_copy_of: None });
        }
        let fingerprint = Fingerprint::of(&publish.topic, &publish.payload);
        let delivery =
            Delivery { packet_id: publish.packet_id, duplicate: publish.duplicate, fingerprint, arrived };
        if overlap == Overlap::Copy {
            let left_out = self.parts.ledger.leave_out(delivery);
            let reason = if left_out { FilterReason::Overlap } else { FilterReason::Redelivered };
            self.parts.metrics.filtered(reason);
            self.acknowledge();
            return None;
        }
        let in_doubt = overlap == Overlap::Doubt;
        let doubted = in_doubt.then(|| self.parts.ledger.last_with(fingerprint)).flatten();
        let ids = &mut self.parts.ids;
        let (admission, id) = self.parts.ledger.admit(delivery, || ids.next_id());
        match admission {
            Admission::Redelivered => {
                self.parts.metrics.filtered(FilterReason::Redelivered);
                self.acknowledge();
                None
            }
            Admission::New { receipt, copy_of, maybe_copy_of } => {
                let maybe_copy_of = maybe_copy_of.or(doubted.filter(|_| copy_of.is_none()));
                self.parts.metrics.redelivered_copies_total.inc_by(u64::from(copy_of.is_some()));
                self.parts.metrics.maybe_copies_total.inc_by(u64::from(maybe_copy_of.is_some()));
                Some(Admitted { id, receipt: Some(receipt), maybe_copy_of })
            }
        }
    }

    fn intake_is_full(&mut self, receipt: Option<ReceiptNumber>) -> Result<(), MustReconnect> {
        self.parts.metrics.in_flight.dec();
        match receipt {
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

    /// A PUBLISH came while the bridge drains: a copy of an open message gets its PUBACK here; anything else is not
    /// taken in and not acknowledged, so the next process gets it.
    pub fn published_while_draining(&mut self, publish: Publish) {
        let is_copy = self.parts.ledger.rearm(Delivery {
            packet_id: publish.packet_id,
            duplicate: publish.duplicate,
            fingerprint: Fingerprint::of(&publish.topic, &publish.payload),
            arrived: self.parts.clock.monotonic(),
        });
        if is_copy {
            self.parts.metrics.received(publish.payload.len());
            self.parts.metrics.filtered(FilterReason::Redelivered);
            self.acknowledge();
        }
    }

    /// These receipts have ended: the PUBACKs that may leave now are sent.
    pub fn settled(&mut self, receipts: &[ReceiptNumber]) {
        for receipt in receipts {
            self.parts.ledger.settle(*receipt);
        }
        self.acknowledge();
    }

    /// Sends the PUBACKs that may leave now.
    fn acknowledge(&mut self) {
        let now = self.parts.clock.monotonic();
        while let Some(acknowledgement) = self.parts.ledger.next_acknowledgement() {
            self.outgoing.push(ToBroker::Ack { packet_id: acknowledgement.packet_id });
            let age = now.saturating_sub(acknowledgement.arrived);
            self.parts.metrics.store_seconds(age.as_secs_f64());
        }
    }

    /// What is to be sent on the present connection, in order.
    pub fn take_outgoing(&mut self) -> impl Iterator<Item = ToBroker<'static>> + '_ {
        self.outgoing.drain(..)
    }

    /// Whether the broker may be read: see [`WINDOWS_READ`].
    pub fn may_read(&self) -> bool {
        self.parts.ledger.unacknowledged() < usize::from(self.parts.receive_maximum) * WINDOWS_READ
    }
}
