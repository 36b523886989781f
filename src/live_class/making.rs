//! Makes messages for the pipeline from the classroom's decisions.

use bytes::Bytes;

use super::LiveClass;
use crate::binding::{Bound, Derivation, NotStored, own_record};
use crate::classroom::{Audit, AuditAction, ClassTopic, Delivery, derived_id};
use crate::consumer::QueuePosition;
use crate::model::{DeadLetter, Kind};
use crate::pipeline::DerivedOutcome;

/// The ordinal of the audit record; deliveries count from 0.
const AUDIT_ORDINAL: u32 = u32::MAX;

impl LiveClass {
    /// Gives all messages to the pipeline. The request at `place` ends when all of them are stored.
    pub(super) async fn send(&mut self, place: Option<QueuePosition>, messages: Vec<Bound>) {
        self.send_with(place, messages, None).await;
    }

    /// As [`Self::send`]; also stores the request as a dead letter, if the classroom could not understand it.
    pub(super) async fn send_with(
        &mut self,
        place: Option<QueuePosition>,
        messages: Vec<Bound>,
        letter: Option<DeadLetter>,
    ) {
        if messages.is_empty() && letter.is_none() {
            self.end(place);
            return;
        }
        let (derived, number) = self.open.begin(place, messages, letter.is_some());
        if let (Some(letter), Some(number)) = (letter, number) {
            // In a task of its own, so that the class does not wait for the disk.
            let dead_letters = self.parts.dead_letters.clone();
            self.letter_writes.spawn(async move {
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
        for derived in self.open.take_given_back() {
            self.parts.metrics.derived_total.inc();
            self.parts.metrics.in_flight.inc();
            let _ = self.parts.intake.enter_derived(derived).await;
        }
    }

    pub(super) fn take_outcome(&mut self, number: u64, outcome: DerivedOutcome) {
        let place = self.open.take_outcome(number, outcome);
        self.end(place);
    }

    pub(super) fn end(&self, place: Option<QueuePosition>) {
        if let Some(place) = place {
            // The follower is gone only when the process ends.
            let _ = self.parts.ended.send(place);
        }
    }

    /// A delivery as a message for RocketMQ. `source`: id and arrival of the request. `message_expiry_s`: message expiry of a
    /// line that is passed on, which the delivery inherits.
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
            // A notice belongs to the history of its room, although all rooms share one topic for notices; so does a mark.
            room: matches!(delivery.topic, ClassTopic::System | ClassTopic::Lesson(..))
                .then_some(&*delivery.order_key),
            order_key: Some(&delivery.order_key),
            sender: delivery.sender.as_ref().map(|sender| sender.as_str()),
            source,
            arrived_ms,
            message_expiry_s,
            payload: delivery.body.clone(),
        };
        let made = match delivery.topic {
            ClassTopic::Lesson(..) => self.parts.rules.derive_unheard(&derivation, Kind::System),
            ClassTopic::Room(_) | ClassTopic::P2p(_) | ClassTopic::Status | ClassTopic::System => {
                self.parts.rules.derive(&derivation)
            }
        };
        match made {
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
                tracing::error!(
                    mqtt_topic,
                    detail,
                    "a message that the classroom made cannot be stored; it is left out"
                );
                None
            }
        }
    }

    /// The audit record as a message; `None` for a line, which the room's own topic holds already.
    pub(super) fn audit(&self, audit: &Audit) -> Option<Bound> {
        let tag = match audit.what {
            AuditAction::Said => return None,
            AuditAction::Muted => "muted",
            AuditAction::Unmuted => "unmuted",
            AuditAction::Refused => "refused",
            AuditAction::Noticed => "noticed",
            AuditAction::LessonStarted => "lesson_started",
            AuditAction::LessonEnded => "lesson_ended",
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
