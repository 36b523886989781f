//! Stories of a classroom: what is said, who is muted, who is there, and a class that attacks.

mod chat;
mod coalesce;
mod commands;
mod hostile;
mod lines;
mod mutes;
mod presence;
mod presence_order;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::model::{ClientId, RoomId, display_name};

const TEACHER: &str = "GID_teacher@@@001";
const LI: &str = "GID_student@@@001";
const HAN: &str = "GID_student@@@002";
const START_MS: u64 = 1_700_000_000_000;

fn room(text: &str) -> RoomId {
    RoomId::parse(text).unwrap()
}

fn client(text: &str) -> ClientId {
    ClientId::parse(text).unwrap()
}

/// A classroom with a clock; a second passes with each request, so that only tests of rates meet them.
struct Class {
    classroom: Classroom,
    now_ms: u64,
    requests: u64,
}

impl Class {
    fn new() -> Self {
        Self {
            classroom: Classroom::new(ClassroomSettings::default(), Mutes::default()),
            now_ms: START_MS,
            requests: 0,
        }
    }

    fn request(&mut self, sender: &str, sub_topic: &str, body: impl Into<Bytes>) -> Request {
        self.requests += 1;
        let is_teacher = sender.starts_with("GID_teacher@@@");
        Request {
            source_id: format!("00000000000000aa-{:x}", self.requests),
            sub_topic: sub_topic.to_owned(),
            sender: Some(sender.to_owned()),
            role: if is_teacher { SenderRole::Teacher } else { SenderRole::Student },
            payload: body.into(),
            arrived_ms: self.now_ms,
            now_ms: self.now_ms,
        }
    }

    /// Judges as the bridge does: a change is taken in before anything is sent.
    fn judge(&mut self, request: &Request) -> Verdict {
        let verdict = self.classroom.judge(request);
        if let Some(change) = verdict.change.clone() {
            self.classroom.apply(change);
        }
        verdict
    }

    fn hears(&mut self, sender: &str, sub_topic: &str, body: impl Into<Bytes>) -> Verdict {
        self.now_ms += 1_000;
        let request = self.request(sender, sub_topic, body);
        self.judge(&request)
    }

    fn says(&mut self, sender: &str, room: &str) -> Verdict {
        self.hears(sender, "message", chat(sender, room))
    }

    fn commands(&mut self, sender: &str, body: &'static str) -> Verdict {
        self.hears(sender, "command", body)
    }
}

fn chat(sender: &str, room: &str) -> String {
    format!(r#"{{"peer":"{sender}","roomId":"{room}","msg":"hi","ref":"r1"}}"#)
}

/// The only delivery of a verdict.
fn only(verdict: &Verdict) -> &Delivery {
    assert_eq!(verdict.deliveries.len(), 1, "{verdict:?}");
    &verdict.deliveries[0]
}

fn json_of(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.body).unwrap()
}

/// The answer that a refused sender gets, which lies in its own p2p topic.
fn answer(verdict: &Verdict, sender: &str) -> Value {
    let delivery = only(verdict);
    assert_eq!(delivery.topic, ClassTopic::P2p(client(sender)));
    json_of(delivery)
}
