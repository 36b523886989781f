//! Hostile input beside a lesson: whatever others send, the lesson is stored and nothing is lost.

use rumqttc::v5::mqttbytes::QoS;

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage};
use crate::support::mqtt_client::{Message, publish_messages};

fn setup(name: &'static str, title: impl Into<String>, full: bool) -> Setup {
    Setup::new(Victim::HostileInput, name, title, full)
}

/// xorshift64: a failing run can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    /// Text with separators of RocketMQ and letters beyond ASCII. Control characters do not come so far: Mosquitto hangs
    /// up on them. The tests of the binding try those.
    fn text(&mut self, length: u64) -> String {
        const ODD: [char; 8] = ['|', '*', ' ', '%', '"', '\\', '\u{e9}', '\u{4e2d}'];
        (0..length)
            .map(|_| match self.below(3) {
                0 => ODD[self.below(ODD.len() as u64) as usize],
                _ => char::from(b'a' + self.below(26) as u8),
            })
            .collect()
    }
}

fn fuzzed(random: &mut Random, count: usize) -> Vec<Message> {
    let mut message = || {
        let length = 1 + random.below(20);
        let level = random.text(length);
        let length = random.below(3000);
        // Its first byte is not the "p" of the lesson, and it is not empty, which is told otherwise.
        let payload = [b"\xff".to_vec(), random.bytes(length)].concat();
        let (name, value) = (random.text(6), random.text(30));
        Message::new(format!("room/{level}/{}", length % 9), payload)
            .qos(QoS::AtLeastOnce)
            .user_property(&name, &value)
    };
    (0..count).map(|_| message()).collect()
}

/// The lesson goes on beside these; each of them must be found in RocketMQ or among the dead letters.
fn beside_a_lesson(setup: Setup, batches: Vec<Vec<Message>>) {
    let sent: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
    let mut story = Stage::new(setup).open();
    story.talk_until_acknowledged(200);
    for batch in batches {
        publish_messages(&story.stage.mosquitto, "hostile", batch);
    }
    story.fault_ends();
    story.talk(1.0);
    let url = story.bridge.url("/metrics");
    let dead = move || {
        let (_, text) = crate::support::bridge::get(&url).expect("the bridge answers");
        crate::support::metrics::Metrics::parse(&text).value("roombridge_dead_lettered_total", &[]) as u64
    };
    let (row, dead) = story.end_and(dead);
    row.check(Allowed::default());
    println!("{sent} hostile messages: {} stored, {dead} dead letters", row.foreign);
    assert_eq!(row.foreign + dead, sent, "each is stored or a dead letter: {row:#?}");
}

fn fuzz(count: usize, full: bool) {
    let title = format!("{count} messages with random bytes, odd topics and odd properties");
    let batch = fuzzed(&mut Random(20_261_124), count);
    beside_a_lesson(setup("01_fuzzed", title, full), vec![batch]);
}

#[test]
fn short_fuzzed() {
    fuzz(300, false);
}

#[test]
#[ignore = "make faults"]
fn full_fuzzed() {
    fuzz(20_000, true);
}

#[test]
#[ignore = "make faults"]
fn full_topics_and_bodies_at_their_limits() {
    let title = "topics from 1 to 65,000 bytes, 100 levels, and 40 bodies of 1 MiB";
    let of = |topic: String| Message::new(topic, "\u{ff}limit").qos(QoS::AtLeastOnce);
    let mut topics = vec![of(format!("room/{}", vec!["x"; 100].join("/")))];
    topics.extend(
        [1_usize, 60, 127, 128, 255, 256, 4000, 6000, 7000, 8000, 32_000, 65_000]
            .map(|length| of(format!("room/message/{}", "r".repeat(length)))),
    );
    let bodies = (0..40).map(|room| {
        let body = [b"\xff".to_vec(), vec![room as u8; (1 << 20) - 1]].concat();
        Message::new(format!("room/message/{room}"), body).qos(QoS::AtLeastOnce)
    });
    beside_a_lesson(setup("02_limits", title, true), vec![topics, bodies.collect()]);
}

#[test]
#[ignore = "make faults"]
fn full_ten_thousand_rooms() {
    let title = "10,000 different rooms, first met within a minute";
    let mut setup = setup("03_many_rooms", title, true).per_second(1000);
    setup.lesson.rooms = 10_000;
    let mut story = Stage::new(setup).open();
    story.talk(45.0);
    story.fault_ends();
    let row = story.end();
    assert!(row.published > 40_000, "each publisher has met each room: {row:#?}");
    row.check(Allowed::default());
}

#[test]
#[ignore = "make faults"]
fn full_publishers_faster_than_the_bridge() {
    let title = "publishers as fast as Mosquitto takes it (up to 40,000 msg/s) for 10 s";
    let mut story = Stage::new(setup("04_flood", title, true).per_second(40_000)).open();
    story.talk(10.0);
    story.fault_ends();
    story.end().check(Allowed::default());
}
