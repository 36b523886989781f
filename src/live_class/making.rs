//! From verdicts to messages: what the classroom decides becomes bound messages for the pipeline.

use bytes::Bytes;

use super::LiveClass;
use crate::binding::{Bound, Derivation, NotStored, own_record};
use crate::classroom::{self, Audit, AuditAction, Delivery, derived_id};
use crate::consumer::QueuePosition;
use crate::model::DeadLetter;
use crate::pipeline::DerivedOutcome;

/// The ordinal of the audit record; deliveries count from 0.
const AUDIT_ORDINAL: u32 = u32::MAX;

impl LiveClass {
    /// Gives everything to the pipeline; the source has ended when all of it is stored.
    pub(super) async fn send(&mut self, place: Option<QueuePosition>, made: Vec<Bound>) {
        self.send_with(place, made, None).await;
    }

    /// The same, and puts the letter aside, with its bytes: what the classroom could make nothing of.
    pub(super) async fn send_with(
        &mut self,
        place: Option<QueuePosition>,
        made: Vec<Bound>,
        letter: Option<DeadLetter>,
    ) {
        if made.is_empty() && letter.is_none() {
            self.end(place);
            return;
        }
        let (derived, number) = self.open.begin(place, made, letter.is_some());
        if let (Some(letter), Some(number)) = (letter, number) {
            // Beside the class, which need not wait for a disk.
            let dead_letters = self.parts.dead_letters.clone();
            self.burying.spawn(async move {
                dead_letters.put(vec![letter]).await;
                number
            });
        }
        for derived in derived {
            self.parts.metrics.derived_total.inc();
            self.parts.metrics.in_flight.inc();
            // The pipeline is gone only when the process ends; the request is then judged again by the next one.
            let _ = self.parts.intake.enter_derived(derived).await;
        }
    }

    pub(super) async fn send_again(&mut self) {
        for derived in self.open.take_again() {
            self.parts.metrics.derived_total.inc();
            self.parts.metrics.in_flight.inc();
            let _ = self.parts.intake.enter_derived(derived).await;
        }
    }

    pub(super) fn told(&mut self, number: u64, told: DerivedOutcome) {
        let place = self.open.told(number, told);
        self.end(place);
    }

    pub(super) fn end(&self, place: Option<QueuePosition>) {
        if let Some(place) = place {
            // The follower is gone only when the process ends.
            let _ = self.parts.ended.send(place);
        }
    }

    /// A delivery as a message of the room's topic. `source`: its id and its arrival. `message_expiry_s`: of a line that
    /// is passed on, whose life goes on with it.
    pub(super) fn delivery(
        &self,
        (source, arrived_ms): (&str, u64),
        message_expiry_s: Option<u32>,
        delivery: &Delivery,
    ) -> Option<Bound> {
        let mqtt_topic = delivery.topic.topic(&self.parts.config.heard_topic);
        let derivation = Derivation {
            id: derived_id(source, delivery.ordinal),
            mqtt_topic: &mqtt_topic,
            // A notice belongs to the history of its room, although its topic is one for all rooms.
            room: (delivery.topic == classroom::ClassTopic::System).then_some(&*delivery.order_key),
            order_key: Some(&delivery.order_key),
            sender: delivery.sender.as_ref().map(|sender| sender.as_str()),
            source,
            arrived_ms,
            message_expiry_s,
            payload: delivery.body.clone(),
        };
        match self.parts.rules.derive(&derivation) {
            Ok(bound) => Some(bound),
            Err(NotStored::Filtered(reason)) => {
                tracing::error!(
                    mqtt_topic,
                    reason = reason.as_str(),
                    "the classroom has nowhere to store what is said: no binding matches; add [[binding]] for it"
                );
                None
            }
            Err(NotStored::Dead { detail, .. }) => {
                tracing::error!(mqtt_topic, detail, "what the classroom made cannot be stored");
                None
            }
        }
    }

    /// What is said lies in the room itself; the rest is kept apart.
    pub(super) fn audit(&self, audit: &Audit) -> Option<Bound> {
        let tag = match audit.what {
            AuditAction::Said => return None,
            AuditAction::Muted => "muted",
            AuditAction::Unmuted => "unmuted",
            AuditAction::Refused => "refused",
            AuditAction::Noticed => "noticed",
        };
        let room = audit.room.as_ref().map(|room| room.as_str());
        let body = serde_json::to_vec(audit).unwrap_or_default();
        Some(own_record(
            &self.parts.config.audit_topic,
            tag,
            room,
            room.unwrap_or(tag),
            derived_id(&audit.source_id, AUDIT_ORDINAL),
            Bytes::from(body),
        ))
    }
}
