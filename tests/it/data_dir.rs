//! A disk under the `data_dir` that stands still stops what needs its answer, and nothing else.

use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::Bridge;
use crate::support::java::NewMessage;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::publish_all;
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::mqtt_witness::MqttWitness;
use crate::support::ports::wait_until;
use crate::support::preload::{Files, FsyncFault};
use crate::support::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(30);

/// The messages of these stories are numbers.
fn number_of(payload: &[u8]) -> Option<u32> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}

/// A bridge on a disk that can stand still; up and down, and a topic that nobody has written to.
struct Story {
    rocketmq: &'static ApacheRocketMq,
    mosquitto: Mosquitto,
    witness: MqttWitness<u32>,
    bridge: Bridge,
    disk: FsyncFault,
    said: u32,
    name: &'static str,
    folder: Scratch,
}

impl Story {
    /// `None` where there is no C compiler.
    fn begin(name: &'static str) -> Option<Story> {
        let folder = Scratch::new(name);
        let data_dir = folder.join("bridge-data");
        let disk = FsyncFault::compile(Files::DataDir(data_dir.clone()))?;
        let rocketmq = ApacheRocketMq::shared();
        let [up, new, down] = ["up", "new", "down"].map(|topic| format!("{name}-{topic}"));
        rocketmq.create_topics(&[(&up, 2), (&new, 2), (&down, 1)]);
        let mosquitto = Mosquitto::start(MosquittoOptions::default());
        let witness = MqttWitness::start(mosquitto.port(), number_of);
        let config = format!(
            "data_dir = \"{}\"\n[mqtt]\nurl = \"{}\"\nclient_id = \"{name}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
             [[binding]]\nfilter = \"room/#\"\ntopic = \"{up}\"\n[[binding]]\nfilter = \"new/#\"\ntopic = \"{new}\"\n\
             [[downlink]]\ntopic = \"{down}\"\nmqtt_topic = \"heard\"\nstart = \"earliest\"\n[shutdown]\ndrain_s = 5\n",
            data_dir.display(),
            witness.url(),
            rocketmq.name_server(),
        );
        let mut bridge = Bridge::start_with_variables(&config, &disk.variables());
        bridge.wait_ready();
        let mut story = Story { rocketmq, mosquitto, witness, bridge, disk, said: 0, name, folder };
        // Its queues are known from here on
        story.say("room/message/1", 1);
        story.hears("before");
        wait_until("nothing is left to write", PATIENCE, || story.unwritten_s() == 0.0);
        Some(story)
    }

    /// So many messages; returns when the bridge has acknowledged all.
    #[track_caller]
    fn say(&mut self, topic: &str, count: u32) {
        let messages = (self.said..self.said + count).map(|number| (topic, number.to_string()));
        publish_all(&self.mosquitto, "student", messages.collect(), QoS::AtLeastOnce);
        self.said += count;
        let all = self.said as usize;
        wait_until("all that is said is acknowledged", PATIENCE, || self.witness.acknowledged_count() == all);
    }

    /// A message goes down, and its position is to be written.
    #[track_caller]
    fn hears(&self, text: &str) {
        let student = Subscriber::start(&self.mosquitto, "listener", "heard/#");
        let topic = format!("{}-down", self.name);
        let message = NewMessage::new(&topic, text).property("mqttSecondTopic", "/message/1");
        self.rocketmq.send(&[message]);
        assert_eq!(&student.wait_for(1, PATIENCE)[0].payload[..], text.as_bytes());
    }

    fn unwritten_s(&self) -> f64 {
        let metrics = self.bridge.metrics();
        metrics.value("roombridge_data_dir_unwritten_seconds", &[])
    }

    #[track_caller]
    fn readyz_says(&self, status: u16, words: &[&str]) {
        wait_until("/readyz tells it", PATIENCE, || {
            let answer = self.bridge.get("/readyz");
            answer.is_some_and(|(answered, text)| {
                answered == status && words.iter().all(|word| text.contains(word))
            })
        });
    }
}

/// Hazard 32
#[test]
fn while_the_disk_stands_still_known_topics_go_on_and_a_new_connection_and_a_new_topic_wait() {
    let Some(mut story) = Story::begin("still") else {
        return println!("SKIPPED: needs cc");
    };

    // Given a disk that stands still while a position is written
    story.disk.hang();
    story.hears("one");
    wait_until("a write waits", PATIENCE, || story.unwritten_s() > 0.0);

    // Then what is said is acknowledged, what is stored is heard, and a new topic waits, in the spool, for nobody's harm
    story.say("room/message/1", 300);
    story.hears("two");
    story.say("new/message/1", 1);
    story.say("room/message/2", 10);
    let metrics = story.bridge.metrics();
    assert_eq!(metrics.value("roombridge_spool_depth", &[]), 1.0, "the new topic");
    let folder = story.folder.join("bridge-data").display().to_string();
    story.readyz_says(200, &[&folder, "positions-downlink.json", "queues.json", "has not answered for"]);
    assert!(story.unwritten_s() >= 5.0);

    // When the connection is cut, then the next one waits before it subscribes, and does not say that it is there
    story.witness.network().cut_all();
    story.readyz_says(503, &["session.json", "not connected to the MQTT broker"]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        story.readyz_says(503, &["not subscribed"]);
    }

    // When the disk answers again, then all that waited goes on by itself, and nothing is lost
    story.disk.heal();
    story.readyz_says(200, &["\"degraded\":false"]);
    story.say("room/message/1", 10);
    wait_until("the new topic is stored", PATIENCE, || {
        let books = story.bridge.metrics().books();
        books.spool_depth == 0.0 && books.in_flight == 0.0
    });
    let (up, new) = (format!("{}-up", story.name), format!("{}-new", story.name));
    assert_eq!(story.rocketmq.read_at_least(&up, 321, PATIENCE).len(), 321);
    assert_eq!(story.rocketmq.read_at_least(&new, 1, PATIENCE).len(), 1);
    story.bridge.assert_books_balanced();
    assert_eq!(story.unwritten_s(), 0.0);
}

#[test]
fn a_disk_that_stands_still_does_not_hold_the_stop_and_what_is_not_written_is_said() {
    let Some(mut story) = Story::begin("stopped") else {
        return println!("SKIPPED: needs cc");
    };
    story.disk.hang();
    story.hears("one");
    wait_until("a write waits", PATIENCE, || story.unwritten_s() > 0.0);
    story.say("room/message/1", 10);
    story.bridge.terminate();
    let status = story.bridge.wait_exit(Duration::from_secs(10));
    let log = story.bridge.log_text();
    assert_eq!(status.code(), Some(0), "all that came in has ended: {log}");
    assert!(
        log.contains("stopped before the disk had these files") && log.contains("positions-downlink.json"),
        "{log}"
    );

    // The next process goes on where the last written position is, and so says it again
    story.disk.heal();
    let student = Subscriber::start(&story.mosquitto, "listener", "heard/#");
    story.bridge.start_again();
    wait_until("it comes again", PATIENCE, || {
        let heard = student.received();
        heard.iter().any(|publish| &publish.payload[..] == b"one")
    });
}
