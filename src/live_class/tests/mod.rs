//! The running classroom, between a RocketMQ and a pipeline that the tests play.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::binding::{BindingSettings, DownOutcome, read_back, stored_form};
use crate::classroom::LessonEdge;
use crate::config::Config;
use crate::model::{
    Arrival, ClientId, Envelope, FailureKind, FilterReason, Kind, ManualClock, MqttProperties, Qos,
    QueueName, RoomId, SessionStamp, StoredMessage,
};
use crate::pipeline::ports::{Batch, ReadError, Sink};
use crate::pipeline::{Arriving, Derived, IntakeReceiver, Receipt, Ticket, intake};
use crate::spool::memory::MemorySpool;

mod still_disk;

const NOON_MS: u64 = 1_795_456_800_000;
const TEACHER: &str = "GID_teacher@@@1";
const STUDENT: &str = "GID_student@@@1";

/// A RocketMQ that takes no dead letters, so that they stay here.
struct Away;

impl Sink for Away {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async { Err(ReadError::of(FailureKind::Transport)) })
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<crate::model::Sent>> {
        Box::pin(
            async move { vec![crate::model::Sent::Failed(FailureKind::Transport); batch.messages.len()] },
        )
    }
}

struct Story {
    folder: tempfile::TempDir,
    rules: Arc<RuleSet>,
    config: ClassroomConfig,
    clock: Arc<ManualClock>,
    letters: Arc<MemorySpool>,
    ids: MessageIds,
    offset: u64,
}

/// One process of the classroom.
struct Running {
    items: mpsc::Sender<Item>,
    ended: mpsc::UnboundedReceiver<QueuePosition>,
    pipeline: IntakeReceiver,
    news: mpsc::Sender<ClientNews>,
    handle: LiveClassHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Story {
    fn new() -> Self {
        let config = Config::for_dev().unwrap();
        let settings =
            BindingSettings { origin_key: b"a key of this deployment".to_vec(), max_message_bytes: 4 << 20 };
        Self {
            folder: tempfile::tempdir().unwrap(),
            rules: Arc::new(RuleSet::compile(&config.bindings, settings).unwrap()),
            config: config.classroom.unwrap(),
            clock: Arc::new(ManualClock::at(NOON_MS)),
            letters: Arc::default(),
            ids: MessageIds::new(7),
            offset: 0,
        }
    }

    fn start(&self) -> Running {
        self.start_on(DataDir::open(self.folder.path()).unwrap())
    }

    fn start_on(&self, data_dir: DataDir) -> Running {
        let (items, taken) = mpsc::channel(64);
        let (ending, ended) = mpsc::unbounded_channel();
        let (intake, pipeline) = intake(self.rules.clone(), 1000, 1 << 20);
        let (news, heard) = mpsc::channel(64);
        let (live_class, handle) = LiveClass::new(LiveClassParts {
            config: self.config.clone(),
            rules: self.rules.clone(),
            data_dir: Arc::new(data_dir),
            clock: self.clock.clone(),
            metrics: Arc::new(Metrics::new(&[]).unwrap()),
            dead_letters: Arc::new(DeadLetters {
                sink: Arc::new(Away),
                topic: None,
                store: self.letters.clone(),
                max_message_bytes: 4 << 20,
                next_queue: AtomicUsize::new(0),
            }),
            intake,
            items: taken,
            ended: ending,
            news: Some(heard),
            ids: MessageIds::new(9),
        })
        .unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(live_class.run(stop.clone()));
        Running { items, ended, pipeline, news, handle, stop, task }
    }

    /// What the bridge stored for that client's publish, as RocketMQ gives it back.
    fn sent(&mut self, client: &str, sub_topic: &str, body: &str) -> Item {
        let envelope = Envelope {
            id: self.ids.next_id(),
            maybe_copy_of: None,
            arrival: Arrival {
                session: SessionStamp::new("s"),
                connection: 1,
                sequence: 1,
                generation: 1,
                wall_ms: self.clock.wall_ms(),
                monotonic: Duration::ZERO,
            },
            topic: format!("roomSend/{sub_topic}"),
            payload: Bytes::copy_from_slice(body.as_bytes()),
            qos: Qos::AtLeastOnce,
            retain: false,
            duplicate: false,
            packet_id: 1,
            properties: MqttProperties {
                user: vec![("x-mqtt-client-id".to_owned(), client.to_owned())],
                ..MqttProperties::default()
            },
        };
        let bound = self.rules.bind(&envelope).unwrap();
        let topic = bound.topic.to_string();
        self.item(stored_form(&topic, &bound.message))
    }

    fn item(&mut self, mut message: StoredMessage) -> Item {
        message.queue_offset = self.offset;
        message.stored_ms = self.clock.wall_ms();
        self.offset += 1;
        Item {
            place: QueuePosition {
                topic: message.topic.as_str().into(),
                queue: message.queue.clone(),
                offset: message.queue_offset,
                generation: 0,
            },
            message,
        }
    }
}

impl Running {
    /// The next message that the classroom gives to the pipeline.
    async fn made(&mut self) -> Derived {
        let arriving = tokio::time::timeout(Duration::from_secs(5), self.pipeline.receiver.recv()).await;
        match arriving.expect("something is made").unwrap() {
            Arriving::Bound(bound, Ticket { receipt: Some(Receipt::Derived(receipt)), .. }) => {
                Derived { bound, receipt }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Checks that no message is made and no request ends.
    async fn rests(&mut self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(self.pipeline.receiver.try_recv().is_err());
        assert!(self.ended.try_recv().is_err());
    }

    async fn ended(&mut self) -> u64 {
        let ended = tokio::time::timeout(Duration::from_secs(5), self.ended.recv()).await;
        ended.expect("it ends").unwrap().offset
    }

    async fn die(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn keep(derived: &Derived) {
    let receipt = &derived.receipt;
    receipt.outcomes.send((receipt.number, DerivedOutcome::Kept)).unwrap();
}

fn property<'a>(derived: &'a Derived, wanted: &str) -> Option<&'a str> {
    derived.bound.message.property(wanted)
}

fn body(derived: &Derived) -> serde_json::Value {
    serde_json::from_slice(&derived.bound.message.body).unwrap()
}

fn chat(room: &str, text: &str) -> String {
    format!(r#"{{"peer":"{STUDENT}","roomId":"{room}","msg":"{text}"}}"#)
}

#[tokio::test]
async fn what_a_student_says_reaches_the_room_and_ends_when_it_is_stored() {
    let mut story = Story::new();
    let mut running = story.start();
    let said = chat("123456", "hello");
    running.items.send(story.sent(STUDENT, "message", &said)).await.unwrap();

    let made = running.made().await;
    assert_eq!((&*made.bound.topic, made.bound.message.tag()), ("room", "message/123456"));
    assert_eq!(made.bound.message.body, said.as_bytes(), "the same bytes");
    assert_eq!(property(&made, "clientId"), Some(STUDENT));
    assert_eq!(made.bound.slot, crate::binding::slot_of("123456"));
    running.rests().await;
    keep(&made);
    assert_eq!(running.ended().await, 0);
}

/// Hazard 21: a crash between storing and committing must not make two messages of one.
#[tokio::test]
async fn a_request_that_is_judged_again_after_a_crash_leads_to_the_same_ids() {
    let mut story = Story::new();
    let item = story.sent(STUDENT, "message", &chat("1", "hi"));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut running = story.start();
        running.items.send(item.clone()).await.unwrap();
        ids.push(property(&running.made().await, "rbId").unwrap().to_owned());
        running.die().await;
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_message_that_lies_there_twice_is_heard_once() {
    let mut story = Story::new();
    let mut running = story.start();
    let item = story.sent(STUDENT, "message", &chat("1", "hi"));
    let copy = story.item(item.message.clone());
    running.items.send(item).await.unwrap();
    running.items.send(copy).await.unwrap();
    let made = running.made().await;
    assert_eq!(running.ended().await, 1, "the copy ends at once");
    running.rests().await;
    keep(&made);
    assert_eq!(running.ended().await, 0);
}

/// Rule 15: whoever writes to RocketMQ can write the id that comes next, and must not silence its line by that.
#[tokio::test]
async fn a_line_is_heard_although_somebody_took_its_id_before() {
    let mut story = Story::new();
    let mut running = story.start();
    let item = story.sent(STUDENT, "message", &chat("1", "hi"));
    let mut forged = item.message.clone();
    forged.body = Bytes::from(chat("1", "forged"));
    running.items.send(story.item(forged)).await.unwrap();
    let audit = running.made().await;
    assert_eq!(audit.bound.message.tag(), "refused");
    keep(&audit);
    running.ended().await;
    running.items.send(item).await.unwrap();
    assert_eq!(body(&running.made().await)["msg"], "hi");
}

#[tokio::test]
async fn a_mute_is_on_the_disk_before_anybody_hears_of_it_and_survives_a_restart() {
    let mut story = Story::new();
    let mut running = story.start();
    let command = format!(r#"{{"type":"shutUp","peer":"{STUDENT}","roomId":"1"}}"#);
    running.items.send(story.sent(TEACHER, "command", &command)).await.unwrap();

    let told = running.made().await;
    let written = std::fs::read_to_string(story.folder.path().join("mutes.json")).unwrap();
    assert!(written.contains(STUDENT), "{written}");
    assert_eq!(told.bound.message.tag(), format!("p2p/{STUDENT}"));
    assert_eq!(body(&told)["type"], "shutUp");
    let audit = running.made().await;
    assert_eq!((&*audit.bound.topic, audit.bound.message.tag()), ("roombridge_audit", "muted"));
    running.die().await;

    // After the crash the command comes again, and then the student speaks
    story.clock.advance(Duration::from_secs(1));
    let mut running = story.start();
    running.items.send(story.sent(STUDENT, "message", &chat("1", "hi"))).await.unwrap();
    let answer = running.made().await;
    assert_eq!(answer.bound.message.tag(), format!("p2p/{STUDENT}"));
    assert_eq!((&body(&answer)["type"], &body(&answer)["reason"]), (&"refused".into(), &"muted".into()));
    let muted = running.handle.mutes(RoomId::parse("1").unwrap()).await.unwrap();
    assert_eq!((muted.len(), muted[0].client_id.as_str(), muted[0].by.as_str()), (1, STUDENT, TEACHER));
}

/// Hazard 26: without a proof of its origin, a sender is not believed and gets no answer.
#[tokio::test]
async fn what_did_not_come_by_this_bridge_is_put_aside_whatever_it_says_of_its_sender() {
    let mut story = Story::new();
    let mut running = story.start();
    let mut forged = story.sent(TEACHER, "command", r#"{"type":"shutUp","peer":"x"}"#).message;
    forged.body = Bytes::from(format!(r#"{{"type":"shutUp","peer":"{STUDENT}"}}"#));
    let forged = story.item(forged);
    running.items.send(forged).await.unwrap();
    let audit = running.made().await;
    assert_eq!(audit.bound.message.tag(), "refused");
    assert_eq!(body(&audit)["reason"], "unverified");
    keep(&audit);
    running.ended().await;
    let letters = story.letters.letters();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].detail.contains("unverified"), "{}", letters[0].detail);
}

#[tokio::test]
async fn nonsense_is_answered_put_aside_and_forgotten() {
    let mut story = Story::new();
    let mut running = story.start();
    running.items.send(story.sent(STUDENT, "message", "no JSON")).await.unwrap();
    let answer = running.made().await;
    assert_eq!(body(&answer)["reason"], "malformed");
    let audit = running.made().await;
    keep(&answer);
    running.rests().await;
    keep(&audit);
    running.ended().await;
    assert_eq!(&*story.letters.letters()[0].payload, b"no JSON");
}

#[tokio::test(start_paused = true)]
async fn what_a_takeover_throws_back_is_given_again() {
    let mut story = Story::new();
    let mut running = story.start();
    running.items.send(story.sent(STUDENT, "message", &chat("1", "hi"))).await.unwrap();
    let made = running.made().await;
    let receipt = &made.receipt;
    receipt.outcomes.send((receipt.number, DerivedOutcome::GivenUp)).unwrap();
    let again = running.made().await;
    assert_eq!(again.bound, made.bound);
    keep(&again);
    assert_eq!(running.ended().await, 0);
}

fn news(client: &str, channel: &str, at_ms: u64, what: NewsKind) -> ClientNews {
    ClientNews {
        client_id: client.to_owned(),
        channel_id: channel.to_owned(),
        remote: "127.0.0.1:5000".to_owned(),
        at_ms,
        what,
    }
}

#[tokio::test]
async fn the_brokers_news_goes_to_the_documented_topics_and_makes_members() {
    // Given a broker that reports a student who connects and subscribes to a room
    let mut story = Story::new();
    let mut running = story.start();
    let tell = |what| news(STUDENT, "c1", NOON_MS, what);
    running.news.send(tell(NewsKind::Connected)).await.unwrap();
    running.news.send(tell(NewsKind::Subscribed(vec!["room/message/7".to_owned()]))).await.unwrap();

    // Then the notice is stored as ApsaraMQ would store it
    let notice = running.made().await;
    assert_eq!((&*notice.bound.topic, notice.bound.message.tag()), ("GID_student_MQTT", "connect"));
    let expected = BTreeMap::from([
        ("clientId", serde_json::json!(STUDENT)),
        ("time", serde_json::json!(NOON_MS)),
        ("eventType", serde_json::json!("connect")),
        ("channelId", serde_json::json!("c1")),
        ("clientIp", serde_json::json!("127.0.0.1:5000")),
    ]);
    assert_eq!(body(&notice), serde_json::to_value(expected).unwrap());
    keep(&notice);

    // When it comes back from there, then the rooms hear the same bytes, and the student is a member
    let stored = stored_form(&notice.bound.topic, &notice.bound.message);
    running.items.send(story.item(stored)).await.unwrap();
    let status = running.made().await;
    assert_eq!(
        (status.bound.message.tag(), &status.bound.message.body),
        ("status", &notice.bound.message.body)
    );
    keep(&status);
    running.ended().await;
    let members = running.handle.members(RoomId::parse("7").unwrap()).await.unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(
        (members[0].client_id.as_str(), members[0].online, members[0].role),
        (STUDENT, true, "student")
    );

    // A client of an unknown group creates no topic
    running.news.send(news("GID_any@@@1", "c2", NOON_MS, NewsKind::Connected)).await.unwrap();
    let status = running.made().await;
    assert_eq!(&*status.bound.topic, "room");
}

#[tokio::test]
async fn a_notice_is_heard_by_the_room_and_written_down() {
    let story = Story::new();
    let mut running = story.start();
    let room = RoomId::parse("7").unwrap();
    let asked = {
        let handle = running.handle.clone();
        tokio::spawn(async move { handle.notice(room, "five more minutes".to_owned(), None).await })
    };
    let notice = running.made().await;
    assert_eq!(notice.bound.message.tag(), "system");
    assert_eq!(
        (&body(&notice)["roomId"], &body(&notice)["text"]),
        (&"7".into(), &"five more minutes".into())
    );
    let id = asked.await.unwrap().unwrap().unwrap();
    assert_eq!(property(&notice, "rbId"), Some(id.to_string().as_str()));
    assert_eq!(running.made().await.bound.message.tag(), "noticed");
    let empty = running.handle.notice(RoomId::parse("7").unwrap(), " ".to_owned(), None).await;
    assert!(empty.unwrap().is_err());
}

#[tokio::test]
async fn a_lesson_mark_is_stored_with_a_proof_and_goes_down_to_nobody() {
    let story = Story::new();
    let mut running = story.start();
    let room = RoomId::parse("7").unwrap();
    let asked = {
        let (handle, room, by) = (running.handle.clone(), room.clone(), ClientId::parse("GID_teacher@@@1"));
        let title = Some("Algebra".to_owned());
        tokio::spawn(async move { handle.lesson(room, LessonEdge::Start, title, by).await })
    };
    let mark = running.made().await;
    assert_eq!((&*mark.bound.topic, mark.bound.message.tag()), ("room", "lesson/start/7"));
    assert_eq!((&body(&mark)["roomId"], &body(&mark)["title"]), (&"7".into(), &"Algebra".into()));
    let id = asked.await.unwrap().unwrap().unwrap();
    let stored = stored_form(&mark.bound.topic, &mark.bound.message);
    let recorded = read_back(&stored);
    assert_eq!(
        (recorded.id, recorded.room.as_deref(), recorded.kind, recorded.mqtt_topic.as_str()),
        (Some(id), Some("7"), Kind::System, "room/lesson/start/7")
    );
    assert!(story.rules.came_from_mqtt(&stored, &recorded), "nobody else can make one");
    let down = story.rules.to_mqtt(&stored, "room", NOON_MS);
    assert_eq!(down, DownOutcome::Filtered(FilterReason::FromMqtt));
    let audit = running.made().await;
    assert_eq!(audit.bound.message.tag(), "lesson_started");
    assert_eq!(
        (&body(&audit)["sender"], &body(&audit)["detail"]),
        (&"GID_teacher@@@1".into(), &"Algebra".into())
    );

    let long = running.handle.lesson(room, LessonEdge::End, Some("x".repeat(300)), None).await;
    assert!(long.unwrap().is_err());
}
