//! The API as a program sees it: a real listener, and a RocketMQ in memory.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::oneshot;

use super::*;
use crate::access::{Actions, Claims, Deployment, Nonce, Parents, Role, SigningSecret, Token};
use crate::binding::BindingSettings;
use crate::config::Config;
use crate::http::{WebParts, bind, serve_public};
use crate::index::{IndexWriter, NewRow};
use crate::model::{FailureKind, ManualClock, MessageId, QueueName, StoredMessage};
use crate::piece::Place;
use crate::pipeline::ports::{Page, ReadError, Withheld};

mod document;
mod found;
mod matrix;
mod pages;
mod protocol;
mod rights;
mod rooms;
mod streams;

pub(super) const NOW_MS: u64 = 1_795_168_800_000;
pub(super) const SECRET: &str = "the operator's secret";
const CONFIG: &str = "[mqtt]\nurl = \"mqtt://broker\"\n[rocketmq]\nname_servers = [\"r:9876\"]\n\
     [[binding]]\nfilter = \"room/#\"\n[[binding]]\nfilter = \"roomSend/#\"\nroom = \"{2}\"\nkind = \"{1}\"\n\
     [[binding]]\nfilter = \"desk/#\"\nroom = \"{2}\"\nkind = \"{1}\"\n";

/// Topics of one queue each.
#[derive(Default)]
pub(super) struct Memory(Mutex<Kept>);

#[derive(Default)]
pub(super) struct Kept {
    messages: Vec<StoredMessage>,
    pub away: Vec<String>,
    /// What of topic `room` lies in queues that are not handed out.
    pub withheld: Vec<Withheld>,
    /// Something is said so much later than a second after what came before.
    later: Duration,
    /// Each answer takes so long.
    pub delay: Duration,
}

impl Memory {
    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, topic: &str) -> Vec<StoredMessage> {
        self.lock().messages.iter().filter(|message| message.topic == topic).cloned().collect()
    }
}

impl Kept {
    /// A silence.
    pub(super) fn later(&mut self, silence: Duration) {
        self.later += silence;
    }

    /// The topic of the rooms has fewer read queues than before: RocketMQ keeps so many messages and hands them out to nobody.
    pub(super) fn withhold(&mut self, messages: u64) {
        let queue = QueueName { broker: "a".into(), id: 7 };
        self.withheld.push(Withheld { queue, offsets: 0..messages, may_be_read: true });
    }

    /// Stored a second after what came before.
    pub(super) fn store(&mut self, mqtt_topic: &str, room: &str, client_id: &str, body: &[u8]) -> u64 {
        let number = self.messages.len() as u64;
        let at_ms = NOW_MS - 3_600_000 + number * 1000 + self.later.as_millis() as u64;
        let topic = mqtt_topic.split('/').next().unwrap();
        let id = MessageId::from_parts(0xaa, number);
        let properties = [
            ("topic", mqtt_topic.to_owned()),
            ("rbId", id.to_string()),
            ("rbKind", mqtt_topic.split('/').nth(1).unwrap().to_owned()),
            ("rbArrivedMs", at_ms.to_string()),
            ("clientId", client_id.to_owned()),
            ("UNIQ_KEY", "7F000001ABCD".to_owned()),
        ];
        let of_topic = self.messages.iter().filter(|message| message.topic == topic);
        let queue_offset = of_topic.count() as u64;
        self.messages.push(StoredMessage {
            topic: topic.to_owned(),
            tag: mqtt_topic.split_once('/').unwrap().1.to_owned(),
            keys: format!("{room} {id}"),
            queue: QueueName { broker: "a".into(), id: 0 },
            queue_offset,
            stored_ms: at_ms + 2,
            born_ms: at_ms,
            flag: 0,
            properties: properties.iter().map(|(name, value)| (*name, value.as_str())).collect(),
            body: Bytes::copy_from_slice(body),
        });
        at_ms
    }
}

impl Kept {
    /// Somebody else stores another body under the id of the first message, which is of room 7.
    pub(super) fn forge_first(&mut self, body: &[u8]) {
        self.store("room/message/7", "7", "mallory", body);
        let (keys, id) = (self.messages[0].keys.clone(), self.messages[0].properties["rbId"].to_owned());
        let last = self.messages.last_mut().unwrap();
        last.keys = keys;
        last.properties.insert("rbId", id);
    }
}

impl Reader for Memory {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        let queue = self.of(topic).first().map(|message| message.queue.clone());
        let missing = ReadError {
            what: format!("topic {topic}"),
            cause: "it is not there".to_owned(),
            kind: FailureKind::TopicMissing,
        };
        Box::pin(async move { queue.map(|queue| vec![queue]).ok_or(missing) })
    }

    fn away<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        let away = self.lock().away.clone();
        Box::pin(async move { Ok(away) })
    }

    fn withheld<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<Withheld>, ReadError>> {
        let withheld = if topic == "room" { self.lock().withheld.clone() } else { Vec::new() };
        Box::pin(async move { Ok(withheld) })
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        _: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        let end = self.of(topic).len() as u64;
        Box::pin(async move { Ok((0, end)) })
    }

    fn offset_at<'a>(
        &'a self,
        topic: &'a str,
        _: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        let messages = self.of(topic);
        let offset = messages.iter().position(|message| message.stored_ms >= stored_ms);
        Box::pin(async move { Ok(offset.unwrap_or(messages.len()) as u64) })
    }

    fn pull<'a>(
        &'a self,
        topic: &'a str,
        _: &'a QueueName,
        _: Option<&'a str>,
        from: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        let (all, delay) = (self.of(topic), self.lock().delay);
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            let end = all.len() as u64;
            let messages: Vec<_> = all.into_iter().skip(from as usize).take(limit as usize).collect();
            let next_offset = from + messages.len() as u64;
            Ok(Page { messages, next_offset, first: 0, end })
        })
    }
}

/// A running listener.
pub(super) struct World {
    address: SocketAddr,
    pub rocketmq: Arc<Memory>,
    pub clock: Arc<ManualClock>,
    secret: SigningSecret,
    /// Ends the listener when the world is dropped.
    _stop: oneshot::Sender<()>,
}

/// What a program gets.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: axum::http::HeaderMap,
    pub body: Value,
}

fn signing() -> SigningSecret {
    SigningSecret::new(&"access secret".into()).unwrap()
}

pub(super) fn parts(rocketmq: Arc<Memory>, clock: Arc<ManualClock>) -> ArchiveApiParts {
    let config = Config::from_toml("test", CONFIG, &std::collections::BTreeMap::new()).unwrap();
    let settings = BindingSettings { origin_key: b"key".to_vec(), max_message_bytes: 4 << 20 };
    let deployment = Deployment::new("key", "instance", signing(), Parents::default()).unwrap();
    ArchiveApiParts {
        authenticator: Some(Arc::new(Authenticator {
            deployment: Arc::new(deployment),
            teacher_groups: vec!["GID_teacher".to_owned()],
            anonymous_on_loopback: false,
            operators: Vec::new(),
        })),
        operator_secret: Some(SECRET.into()),
        parent: "room".to_owned(),
        send_parent: Some("roomSend".to_owned()),
        rocketmq,
        store: PieceStore::in_memory(),
        folder: "/nonexistent/archive".into(),
        lesson_gap: Duration::from_secs(1800),
        topics: Vec::new(),
        text_fields: Vec::new(),
        rules: Arc::new(RuleSet::compile(&config.bindings, settings).unwrap()),
        clock,
    }
}

impl World {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut ArchiveApiParts)) -> Self {
        let rocketmq = Arc::new(Memory::default());
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let mut archive = parts(rocketmq.clone(), clock.clone());
        change(&mut archive);
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "web.listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let parts = WebParts { class: None, archive: Some(archive) };
        let stopped = async move { drop(stopped.await) };
        tokio::spawn(serve_public(listener, parts, Vec::new(), stopped));
        Self { address, rocketmq, clock, secret: signing(), _stop: stop }
    }

    /// Lines of three people in rooms 7 and 8, a private one, and one that is not judged yet.
    pub(super) fn say_something(&self) {
        let mut kept = self.rocketmq.lock();
        for number in 0..5 {
            let client_id = ["anna", "ben", "teacher"][number % 3];
            kept.store("room/message/7", "7", client_id, format!("line {number}").as_bytes());
            kept.store("room/message/8", "8", "zoe", b"in another room");
        }
        kept.store("room/message/7", "7", "anna", &[0xff, 0xfe]);
        kept.store("desk/p2p/7", "7", "anna", b"for one only");
        kept.store("roomSend/message/7", "7", "ben", b"not judged yet");
    }

    /// An index of rooms 7 and 8, as of what [`Self::say_something`] says; the world must have been started with that folder.
    pub(super) fn index_something(&self, folder: &std::path::Path) {
        let mut index = IndexWriter::open(folder, 0).unwrap();
        for message in self.rocketmq.of("room") {
            let recorded = crate::binding::read_back(&message);
            let room = recorded.room.unwrap();
            let place = Place { topic: message.topic.clone(), queue: message.queue.clone(), generation: 0 };
            let row = NewRow {
                place: &place,
                offset: message.queue_offset,
                name: &message.name(),
                at_ms: message.stored_ms - 2,
                eff_ms: message.stored_ms,
                rooms: &[&room],
                client_id: recorded.client_id.as_deref(),
                kind: recorded.kind,
                id: recorded.id,
                text: str::from_utf8(&message.body).ok(),
                is_line: true,
                mark: None,
            };
            index.add(&row).unwrap();
        }
        index.commit().unwrap();
    }

    /// A token of that role for these resources, valid for an hour.
    pub(super) fn token(&self, role: Option<Role>, resources: &[&str]) -> String {
        let claims = Claims {
            access_key: "key".to_owned(),
            instance: "instance".to_owned(),
            resources: resources.iter().map(|resource| (*resource).to_owned()).collect(),
            actions: Actions::ReadWrite,
            expires_at_ms: NOW_MS + 3_600_000,
            client_id: None,
            role,
            nonce: Nonce::random().unwrap(),
        };
        Token::issue(claims, &self.secret, NOW_MS).unwrap()
    }

    /// The id of a replay that this token makes.
    pub(super) async fn replay_id(&self, token: &str, body: &Value) -> String {
        let authorization = [("authorization", format!("Bearer {token}"))];
        let headers = authorization.each_ref().map(|(name, value)| (*name, value.as_str()));
        let made = self.ask("POST", "/api/v1/rooms/7/replays", &headers, Some(&body.to_string())).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["id"].as_str().unwrap().to_owned()
    }

    pub(super) fn teacher_of_7(&self) -> String {
        self.token(Some(Role::Teacher), &["room/message/7", "room/system"])
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, &[("authorization", &format!("Bearer {token}"))], None).await
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let mut request = axum::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.unwrap_or_default().to_owned()).unwrap();
        let asked = tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .proxy(None)
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(30)))
                .build()
                .into();
            let mut response = agent.run(request).unwrap();
            let text = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
            let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
            Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
        });
        asked.await.unwrap()
    }
}

impl Answer {
    #[track_caller]
    pub(super) fn bodies(&self) -> Vec<&str> {
        assert_eq!(self.status, 200, "{self:?}");
        let lines = self.body["messages"].as_array().unwrap().iter();
        lines.map(|line| line["body"].as_str().unwrap_or("(bytes)")).collect()
    }

    #[track_caller]
    pub(super) fn is_refused(&self, status: u16, word: &str) {
        let error = self.body["error"].as_str().unwrap_or_default();
        assert!(self.status == status && error.contains(word), "{status} {word:?}: {self:?}");
    }
}
