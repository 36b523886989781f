//! Requests: each message below the send topic is a request of a client; each other message is a notice about a client.

use std::collections::{HashSet, VecDeque};

use sha2::{Digest, Sha256};

use super::LiveClass;
use super::unwritten::HeldRequest;
use crate::binding::{id_of, letter_of_stored, message_expiry_s, read_back};
use crate::classroom::{End, Reason, Request, SenderRole, Verdict};
use crate::consumer::Item;
use crate::model::{ClientId, DeadReason, StoredMessage};

/// So many are remembered. Copies of one message come close together, so these are enough.
const SEEN: usize = 10_000;

/// The latest requests, by id and body, so that a message that RocketMQ holds twice is judged once. An id alone proves nothing: whoever
/// writes to RocketMQ could take the next one, and the line that it belongs to would not be heard.
#[derive(Debug, Default)]
pub(super) struct Seen {
    known: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Seen {
    /// `false` if it was there already.
    pub(crate) fn add(&mut self, id: &str, body: &[u8]) -> bool {
        let id_bytes = (id.len() as u64).to_be_bytes();
        let hashed = Sha256::new().chain_update(id_bytes).chain_update(id).chain_update(body);
        let message: [u8; 32] = hashed.finalize().into();
        if !self.known.insert(message) {
            return false;
        }
        self.order.push_back(message);
        if self.order.len() > SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl LiveClass {
    pub(super) async fn take(&mut self, item: Item) {
        if *item.place.topic != *self.parts.config.send_topic {
            return self.broker_notice(item.place, &item.message).await;
        }
        let Some(item) = self.unwritten.hold_behind(item) else {
            return;
        };
        let request = self.request(&item.message);
        if !self.seen.add(&request.source_id, &request.payload) {
            return self.end(Some(item.place));
        }
        let mut verdict = self.classroom.judge(&request);
        match verdict.change.take() {
            Some(change) => {
                self.hold(HeldRequest { item, request, change, verdict, behind: VecDeque::new() })
            }
            None => self.carry_out(item, &request, verdict).await,
        }
    }

    fn request(&self, message: &StoredMessage) -> Request {
        let recorded = read_back(message);
        let parent = format!("{}/", self.parts.config.send_topic);
        let sub_topic = recorded.mqtt_topic.strip_prefix(&parent).unwrap_or_default();
        let is_genuine = self.parts.rules.came_from_mqtt(message, &recorded);
        let sender = recorded.client_id.clone().filter(|_| is_genuine);
        let proved_role = recorded.properties.get("rbSenderRole").filter(|_| is_genuine);
        Request {
            source_id: id_of(&recorded, message),
            sub_topic: sub_topic.to_owned(),
            role: self.role_of(sender.as_deref(), proved_role),
            sender,
            payload: recorded.payload,
            arrived_ms: recorded.received_ms.unwrap_or(message.stored_ms),
            now_ms: self.parts.clock.wall_ms(),
        }
    }

    /// By the proof of the embedded broker, which knows the token; where it has none, by the group of the client id.
    pub(super) fn role_of(&self, client: Option<&str>, proved_role: Option<&str>) -> SenderRole {
        let group = client.and_then(ClientId::parse).and_then(|client| client.group().map(str::to_owned));
        let teaches = |group: &String| self.parts.config.teacher_groups.contains(group);
        match proved_role {
            Some("teacher") => SenderRole::Teacher,
            // Its token says so, or it has shown nothing that only a teacher has; whatever it calls itself.
            Some("student") => SenderRole::Student,
            Some(_) | None if group.as_ref().is_some_and(teaches) => SenderRole::Teacher,
            Some(_) | None => SenderRole::Student,
        }
    }

    /// Does everything that the verdict asks for. Its change, if it has one, is on the disk already.
    pub(super) async fn carry_out(&mut self, item: Item, request: &Request, verdict: Verdict) {
        let Item { place, message } = item;
        if let Some(event) = &verdict.presence {
            let update = self.presence.apply(event, request.now_ms);
            let status = self.coalescer.offer(None, &update, &self.presence, request.now_ms);
            self.send_status(status).await;
        }
        let letter = match verdict.end {
            End::Refused(reason @ (Reason::Malformed | Reason::Unknown | Reason::Unverified)) => {
                let detail = format!("the classroom refuses it: {}", reason.as_str());
                Some(letter_of_stored(&message, DeadReason::RefusedByClassroom, detail))
            }
            End::Refused(Reason::Room | Reason::Peer | Reason::Muted | Reason::Rate | Reason::NotTeacher)
            | End::Accepted
            | End::Ignored => None,
        };
        let deliveries = verdict.deliveries.iter();
        let source = (request.source_id.as_str(), request.arrived_ms);
        let expiry_s = message_expiry_s(&message);
        let mut messages: Vec<_> = deliveries
            .filter_map(|delivery| {
                // A client's line keeps its message expiry; the bridge's answers have none.
                let expiry_s = delivery.sender.as_ref().and(expiry_s);
                self.delivery(source, expiry_s, delivery)
            })
            .collect();
        messages.extend(verdict.audit.as_ref().and_then(|audit| self.audit(audit)));
        self.send_with(Some(place), messages, letter).await;
    }
}
