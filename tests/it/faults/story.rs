//! The stage of a fault: brokers of its own, a bridge whose MQTT connection is witnessed, and the row at the end.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lesson::{Key, Lesson, PAYLOAD_BYTES, key_of};
use super::row::{Row, Victim, commit};
use super::verdict::Verdict;
use super::watch::Watch;
use crate::support::apache::{ApacheOptions, ApacheRocketMq};
use crate::support::bridge::Bridge;
use crate::support::java_bodies::StoredBody;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Publisher, Target};
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::mqtt_witness::MqttWitness;

pub const TOPIC: &str = "lesson";
pub const DEAD_LETTERS: &str = "roombridge_dead_letter";

pub struct Setup {
    /// Of the file that holds the row; the table is sorted by it.
    pub name: &'static str,
    pub title: String,
    pub victim: Victim,
    pub full: bool,
    pub lesson: Lesson,
    pub queues: u32,
    pub mosquitto: MosquittoOptions,
    pub apache: ApacheOptions,
    /// Lines before all tables of the bridge's configuration.
    pub first_lines: String,
    /// Lines for `[mqtt]` of the bridge's configuration.
    pub mqtt_lines: String,
    /// Lines for `[rocketmq]`.
    pub rocketmq_lines: String,
    /// Tables behind all others.
    pub more_config: String,
    /// A plain MQTT subscriber with a persistent session listens beside the bridge.
    pub plain_subscriber: bool,
}

impl Setup {
    /// Four publishers in 40 rooms say 500 messages a second.
    pub fn new(victim: Victim, name: &'static str, title: impl Into<String>, full: bool) -> Setup {
        Setup {
            name,
            title: title.into(),
            victim,
            full,
            lesson: Lesson { publishers: 4, rooms: 40, per_second: 500, payload_bytes: PAYLOAD_BYTES },
            queues: 8,
            mosquitto: MosquittoOptions::default(),
            apache: ApacheOptions::default(),
            first_lines: String::new(),
            mqtt_lines: String::new(),
            rocketmq_lines: String::new(),
            more_config: String::new(),
            plain_subscriber: victim == Victim::Mqtt,
        }
    }

    /// Its row, without figures yet.
    pub fn row(&self) -> Row {
        Row {
            name: self.name.to_owned(),
            title: self.title.clone(),
            victim: self.victim,
            full: self.full,
            day: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            commit: commit(Path::new(env!("CARGO_MANIFEST_DIR"))),
            ..Row::default()
        }
    }

    /// Its row says so in the table, so that nobody takes it for one that was forgotten.
    pub fn skip(self, why: &str) {
        println!("SKIPPED {}: {why}", self.name);
        let mut row = self.row();
        row.skipped = Some(why.to_owned());
        row.save();
    }

    pub fn per_second(mut self, per_second: u32) -> Setup {
        self.lesson.per_second = per_second;
        self
    }
}

/// Brokers run and the topic exists; the bridge and the publishers do not yet.
pub struct Stage {
    pub setup: Setup,
    pub mosquitto: Mosquitto,
    pub rocketmq: ApacheRocketMq,
    pub witness: MqttWitness<Key>,
    pub name_server: String,
}

impl Stage {
    pub fn new(setup: Setup) -> Stage {
        let rocketmq = ApacheRocketMq::start_with(setup.apache.clone());
        rocketmq.create_topics(&[(TOPIC, setup.queues), (DEAD_LETTERS, 1)]);
        let mosquitto = Mosquitto::start(MosquittoOptions {
            extra_lines: setup.mosquitto.extra_lines.clone(),
            credentials: None,
            ..setup.mosquitto
        });
        let witness = MqttWitness::start(mosquitto.port(), key_of);
        Stage { name_server: rocketmq.name_server(), setup, mosquitto, rocketmq, witness }
    }

    pub fn config(&self) -> String {
        format!(
            "{}\n[mqtt]\nurl = \"{}\"\nclient_id = \"bridge\"\n{}\n[rocketmq]\nname_servers = [\"{}\"]\n{}\n\
             [[binding]]\nfilter = \"room/#\"\ntopic = \"{TOPIC}\"\n{}",
            self.setup.first_lines,
            self.witness.url(),
            self.setup.mqtt_lines,
            self.name_server,
            self.setup.rocketmq_lines,
            self.setup.more_config
        )
    }

    /// The bridge is ready, and the publishers begin.
    pub fn open(self) -> Story {
        let bridge = Bridge::start(&self.config());
        self.open_with(bridge)
    }

    pub fn open_with(self, bridge: Bridge) -> Story {
        let plain = self
            .setup
            .plain_subscriber
            .then(|| Subscriber::start_persistent(&self.mosquitto, "plain", "room/#"));
        let publishers = Arc::new(self.setup.lesson.begin(&Target::from(&self.mosquitto)));
        let watch = Watch::begin(publishers.clone(), bridge.url("/metrics"));
        Story { stage: self, bridge, publishers, watch, plain, fault_ended: None, read_wiped: None }
    }
}

pub type ReadWiped = Box<dyn FnOnce(&mut ApacheRocketMq) -> Vec<StoredBody>>;

/// Everything runs and people talk.
pub struct Story {
    pub stage: Stage,
    pub bridge: Bridge,
    pub(super) publishers: Arc<Vec<Publisher>>,
    pub(super) watch: Watch,
    pub(super) plain: Option<Subscriber>,
    pub(super) fault_ended: Option<(Instant, Vec<u64>)>,
    /// Reads what RocketMQ had stored and the fault destroyed there; called when everything is at rest.
    pub read_wiped: Option<ReadWiped>,
}

/// What still runs when the story has ended.
pub struct Rest {
    pub stage: Stage,
    pub bridge: Bridge,
}

impl Story {
    /// The lesson goes on for a while.
    pub fn talk(&self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }

    /// So many messages have come to their end at the bridge.
    #[track_caller]
    pub fn talk_until_acknowledged(&self, count: usize) {
        let start = Instant::now();
        while self.stage.witness.acknowledged_count() < count {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{} of {count} messages after a minute\n{}",
                self.stage.witness.acknowledged_count(),
                self.bridge.log_text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// So many messages were handed to the MQTT clients of all publishers.
    pub fn made(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.published().made).sum()
    }

    /// The moment from which recovery counts. The last call wins.
    pub fn fault_ends(&mut self) {
        let made = self.publishers.iter().map(|publisher| publisher.published().made);
        self.fault_ended = Some((Instant::now(), made.collect()));
    }

    /// Publishers come to an end, the bridge comes to rest, and the witnesses are heard.
    #[track_caller]
    pub fn end(self) -> Row {
        self.end_and(|| ()).0
    }

    /// The same, and asks something of the bridge while it still runs.
    #[track_caller]
    pub fn end_and<T>(self, ask: impl FnOnce() -> T) -> (Row, T) {
        let (row, answer, _) = Verdict::hear(self, ask);
        println!("{row:#?}");
        row.save();
        (row, answer)
    }

    /// The same, and everything runs on for more to be asked.
    #[track_caller]
    pub fn end_and_stay(self) -> (Row, Rest) {
        let (row, (), rest) = Verdict::hear(self, || ());
        println!("{row:#?}");
        (row, rest)
    }
}
