//! The verdict on one request.
//!
//! Promises: the checks come in the order of this file: topic, sender, rate, form, peer, then the rule for this kind of
//! request. Teachers are never muted, and the rate of a room does not stop them: otherwise a flood could silence the
//! person who can end it. Commands and fences do not count against the room.
//!
//! Must never: apply a change itself, deliver to a room bytes that its sender did not write, or answer each line of a flood.

use std::borrow::Cow;

use bytes::Bytes;

use super::answer;
use super::audit::{Audit, AuditAction};
use super::lines::{ClientRequest, MAX_BODY_BYTES, Refusal, RequestBody};
use super::mutes::{MuteAction, MuteChange, Mutes};
use super::presence::{PresenceChange, PresenceEvent};
use super::rate::{Limiter, Rate};
use super::request::{ClassTopic, Delivery, Reason, Request, SenderRole};
use super::verdict::{End, Verdict};
use crate::model::{ClientId, RoomId, display_name};

/// The settings of the rules.
#[derive(Debug, Clone)]
pub(crate) struct ClassroomSettings {
    /// Groups whose members cannot be muted.
    pub teacher_groups: Vec<String>,
    /// How often one client may send requests.
    pub client_rate: Rate,
    /// How many lines a room may get.
    pub room_rate: Rate,
    /// How often one client gets an answer to a refused request.
    pub refusal_rate: Rate,
    /// So many clients, and so many rooms, have a rate of their own; those beyond share one.
    pub max_buckets: usize,
}

impl Default for ClassroomSettings {
    fn default() -> Self {
        Self {
            teacher_groups: vec!["GID_teacher".to_owned()],
            client_rate: Rate { per_s: 5, burst: 10 },
            room_rate: Rate { per_s: 100, burst: 200 },
            refusal_rate: Rate { per_s: 1, burst: 1 },
            max_buckets: 10_000,
        }
    }
}

/// The rules with their state: the mutes, and how much each client and each room has spoken lately.
#[derive(Debug)]
pub(crate) struct Classroom {
    teacher_groups: Vec<String>,
    mutes: Mutes,
    clients: Limiter<ClientId>,
    rooms: Limiter<RoomId>,
    refusals: Limiter<ClientId>,
}

impl Classroom {
    /// Starts with the mutes that were in force before the start.
    pub(crate) fn new(settings: ClassroomSettings, mutes: Mutes) -> Self {
        Self {
            teacher_groups: settings.teacher_groups,
            mutes,
            clients: Limiter::new(settings.client_rate, settings.max_buckets),
            rooms: Limiter::new(settings.room_rate, settings.max_buckets),
            refusals: Limiter::new(settings.refusal_rate, settings.max_buckets),
        }
    }

    /// The mutes that are on the disk.
    pub(crate) fn mutes(&self) -> &Mutes {
        &self.mutes
    }

    /// Applies a change, which must be on the disk already.
    pub(crate) fn apply(&mut self, change: MuteChange) {
        self.mutes.apply(change);
    }

    /// Drops old changes that can no longer matter. Call it now and then.
    pub(crate) fn forget(&mut self, now_ms: u64) {
        self.mutes.forget(now_ms);
    }

    /// Decides about a request. Counts it against the rates, and changes nothing else.
    pub(crate) fn judge(&mut self, request: &Request) -> Verdict {
        let sub_topic = request.sub_topic.trim_matches('/');
        if is_written_by_the_bridge(sub_topic) {
            return verdict(End::Ignored);
        }
        let Some(sender) = request.sender.as_deref().and_then(ClientId::parse) else {
            return Verdict {
                audit: Some(Audit::of(request, None, None, AuditAction::Refused, Some(Reason::Unverified))),
                ..verdict(End::Refused(Reason::Unverified))
            };
        };
        let line = RequestBody::read(sub_topic, &request.payload);
        match self.decide(request, &sender, &line) {
            Ok(verdict) => verdict,
            Err(refusal) => self.refuse(request, &sender, &line, &refusal),
        }
    }

    fn decide(
        &mut self,
        request: &Request,
        sender: &ClientId,
        line: &RequestBody,
    ) -> Result<Verdict, Refusal> {
        if !self.clients.allow(sender, request.arrived_ms) {
            return Err(Refusal::new(Reason::Rate, "too many messages; wait a little"));
        }
        let presence = |channel: &String, what| Verdict {
            presence: Some(PresenceEvent {
                client: sender.clone(),
                channel: channel.as_str().into(),
                at_ms: request.arrived_ms,
                change: what,
            }),
            ..verdict(End::Accepted)
        };
        let ask = line.request.as_ref().map_err(Refusal::clone)?;
        match ask {
            ClientRequest::Mute { target, room, seconds } => {
                let until_ms = seconds.map(|seconds| request.arrived_ms.saturating_add(seconds * 1000));
                self.change(request, sender, target, room.as_ref(), MuteAction::Mute { until_ms })
            }
            ClientRequest::Unmute { target, room } => {
                self.change(request, sender, target, room.as_ref(), MuteAction::Unmute)
            }
            ClientRequest::Chat { room, name } => {
                own_name_only(sender, line)?;
                self.chat(request, sender, line, room, name.as_deref())
            }
            ClientRequest::Fence { room, reference } => {
                own_name_only(sender, line)?;
                Ok(Verdict {
                    deliveries: vec![answer::fence(sender, room, reference)],
                    ..verdict(End::Accepted)
                })
            }
            ClientRequest::Hello { room, channel, name } => {
                own_name_only(sender, line)?;
                let (room, name) = (room.clone(), name.as_deref().and_then(display_name));
                Ok(presence(channel, PresenceChange::Hello { room, name }))
            }
            ClientRequest::Bye { room, channel } => {
                own_name_only(sender, line)?;
                Ok(presence(channel, PresenceChange::Bye { room: room.clone() }))
            }
        }
    }

    fn chat(
        &mut self,
        request: &Request,
        sender: &ClientId,
        line: &RequestBody,
        room: &RoomId,
        name: Option<&str>,
    ) -> Result<Verdict, Refusal> {
        let is_teacher = request.role == SenderRole::Teacher;
        let mute = self.mutes.in_force(sender, room, request.arrived_ms);
        if let Some(mute) = mute.filter(|_| !is_teacher) {
            return Err(Refusal {
                reason: Reason::Muted,
                detail: Cow::Borrowed("a teacher has muted you"),
                until_ms: mute.until_ms(),
            });
        }
        if !self.rooms.allow(room, request.arrived_ms) && !is_teacher {
            return Err(Refusal::new(Reason::Rate, "too many messages in this room; wait a little"));
        }
        let body =
            if line.peer.is_some() { request.payload.clone() } else { with_peer(&request.payload, sender) };
        if body.len() > MAX_BODY_BYTES {
            return Err(Refusal::new(Reason::Malformed, "with its peer the message is larger than 64 KiB"));
        }
        Ok(Verdict {
            deliveries: vec![Delivery {
                sender: Some(sender.clone()),
                name: name.and_then(display_name),
                ..Delivery::own(ClassTopic::Room(room.clone()), Some(room), body)
            }],
            audit: Some(Audit::of(request, Some(room), Some(sender), AuditAction::Said, None)),
            ..verdict(End::Accepted)
        })
    }

    fn change(
        &mut self,
        request: &Request,
        sender: &ClientId,
        target: &ClientId,
        room: Option<&RoomId>,
        action: MuteAction,
    ) -> Result<Verdict, Refusal> {
        if request.role != SenderRole::Teacher {
            return Err(Refusal::new(Reason::NotTeacher, "only a teacher can mute and unmute"));
        }
        // Otherwise whoever gets hold of one teacher's token could silence all the others.
        if target.group().is_some_and(|group| self.teacher_groups.iter().any(|known| known == group)) {
            return Err(Refusal::new(Reason::Peer, "a teacher cannot be muted"));
        }
        let change = MuteChange {
            client: target.clone(),
            room: room.cloned(),
            action,
            by: sender.clone(),
            at_ms: request.arrived_ms,
            source_id: request.source_id.clone(),
        };
        if !self.mutes.can_take(&change) {
            return Err(Refusal::new(
                Reason::Rate,
                "too many mutes are in force; lift some, or mute for all rooms",
            ));
        }
        let (delivery, audit_action) = match action {
            MuteAction::Mute { until_ms } => (answer::muted(target, room, until_ms), AuditAction::Muted),
            MuteAction::Unmute => (answer::unmuted(target, room), AuditAction::Unmuted),
        };
        Ok(Verdict {
            change: Some(change),
            deliveries: vec![delivery],
            audit: Some(Audit::of(request, room, Some(sender), audit_action, None)),
            ..verdict(End::Accepted)
        })
    }

    fn refuse(
        &mut self,
        request: &Request,
        sender: &ClientId,
        line: &RequestBody,
        refusal: &Refusal,
    ) -> Verdict {
        let room = line.room.as_ref();
        let answered = self.refusals.allow(sender, request.now_ms);
        let answer = answered.then(|| answer::refused(sender, room, line.reference.as_deref(), refusal));
        Verdict {
            deliveries: answer.into_iter().collect(),
            audit: Some(Audit::of(request, room, Some(sender), AuditAction::Refused, Some(refusal.reason))),
            ..verdict(End::Refused(refusal.reason))
        }
    }
}

fn verdict(end: End) -> Verdict {
    Verdict { change: None, presence: None, deliveries: Vec::new(), audit: None, end }
}

/// If up and down share a parent topic, as in the first edition of the vendor's solution, the bridge reads its own messages.
fn is_written_by_the_bridge(sub_topic: &str) -> bool {
    let (kind, below) = sub_topic.split_once('/').unwrap_or((sub_topic, ""));
    match kind {
        "status" | "system" | "p2p" => true,
        "message" => !below.is_empty(),
        _ => false,
    }
}

fn own_name_only(sender: &ClientId, line: &RequestBody) -> Result<(), Refusal> {
    match &line.peer {
        Some(peer) if peer != sender.as_str() => {
            Err(Refusal::new(Reason::Peer, "peer is not the client that sent this"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The sender's bytes with the field `peer` put first. The body is known to be a JSON object with at least one field.
fn with_peer(body: &Bytes, sender: &ClientId) -> Bytes {
    let Some(brace) = body.iter().position(|byte| *byte == b'{') else {
        return body.clone();
    };
    let peer = serde_json::Value::from(sender.as_str());
    let mut named = Vec::with_capacity(body.len() + 2 * sender.as_str().len() + 16);
    named.extend_from_slice(&body[..=brace]);
    named.extend_from_slice(format!("\"peer\":{peer},").as_bytes());
    named.extend_from_slice(&body[brace + 1..]);
    named.into()
}
