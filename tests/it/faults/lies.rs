//! Test b of the hazards: RocketMQ lies about sends. Good neighbours are stored, first occurrences keep their order,
//! copies are bounded, other rooms flow, and the one illegal message becomes a dead letter.

use std::time::{Duration, Instant};

use super::row::{Allowed, Row, Victim};
use super::story::{Setup, Stage, Story};
use crate::support::lying_rocketmq::{Lie, LyingRocketMq, code};
use crate::support::metrics::Metrics;

/// An answer that does not come is not waited for so long in these stories.
const SEND_TIMEOUT: &str = "send_timeout_ms = 500";

fn open(setup: Setup) -> (Story, LyingRocketMq) {
    let mut stage = Stage::new(setup);
    let lying = LyingRocketMq::start(&stage.rocketmq);
    stage.name_server = lying.name_server();
    (stage.open(), lying)
}

fn setup(name: &'static str, title: impl Into<String>, full: bool) -> Setup {
    let mut setup = Setup::new(Victim::RocketMq, name, title, full);
    setup.rocketmq_lines = SEND_TIMEOUT.to_owned();
    setup
}

/// Lies for so long; returns the row and how often it lied.
fn lied_to(setup: Setup, lie: Lie, seconds: f64) -> (Row, u64) {
    let (mut story, lying) = open(setup);
    story.talk_until_acknowledged(300);
    lying.lie(lie);
    story.talk(seconds);
    lying.tell_the_truth();
    story.fault_ends();
    story.talk(2.0);
    let row = story.end();
    let told = lying.told();
    println!("{told:?}, {} copies", row.duplicates);
    row.check(Allowed::default());
    assert!(told.lies > 0, "nobody was lied to");
    (row, told.lies)
}

/// Hazard 7: what was stored without an answer is sent again as the same batch, before anything newer of its lane.
fn answers_swallowed(full: bool) {
    let seconds = if full { 15.0 } else { 2.0 };
    let title = format!("answers to sends swallowed for {seconds} s, though all is stored");
    let (row, lies) = lied_to(setup("11_answers_swallowed", title, full), Lie::Swallow, seconds);
    assert!(row.duplicates <= row.stored, "copies are bounded: {row:#?}");
    // Eight queues, one send at a time in each, which takes the send timeout at least.
    assert!(lies as f64 <= 8.0 * (seconds / 0.5 + 2.0), "{lies} sends in {seconds} s");
}

#[test]
fn short_answers_swallowed() {
    answers_swallowed(false);
}

#[test]
#[ignore = "make faults"]
fn full_answers_swallowed() {
    answers_swallowed(true);
}

/// Hazard 7: an answer that comes after the retry settles nothing twice.
#[test]
#[ignore = "make faults"]
fn full_answers_late() {
    let title = "answers to sends 30 s late, for 20 s";
    lied_to(setup("12_answers_late", title, true), Lie::Delay(Duration::from_secs(30)), 20.0);
}

/// One thread holds the MQTT connection and the connections to RocketMQ. A socket that is full must not hold it: PINGs leave
/// within the keep-alive of 5 s, what the spool has is acknowledged, and sends end at their deadline.
#[test]
#[ignore = "make faults"]
fn full_takes_nothing() {
    let seconds = 30.0;
    let title = format!("RocketMQ's socket accepts nothing for {seconds} s");
    let mut setup = setup("11_takes_nothing", title, true).per_second(8);
    // Larger than what the kernel keeps for a connection, with one batch in each of eight queues.
    setup.lesson.payload_bytes = 1_000_000;
    setup.mqtt_lines = "keep_alive_s = 5".to_owned();
    setup.more_config = "[spool]\nafter_ms = 500\n".to_owned();
    let (mut story, lying) = open(setup);
    story.talk_until_acknowledged(30);
    lying.lie(Lie::TakesNothing);
    story.talk(2.0);
    let (before, acknowledged) = (story.bridge.metrics(), story.stage.witness.acknowledged_count());
    story.talk(seconds - 2.0);
    let (after, still) = (story.bridge.metrics(), story.stage.witness.acknowledged_count());
    lying.tell_the_truth();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());

    let more = |name: &str, labels: &[(&str, &str)]| after.value(name, labels) - before.value(name, labels);
    assert!(still - acknowledged > 4 * (seconds as usize - 4), "{acknowledged} PUBACKs, then {still}");
    assert!(
        more("roombridge_send_failures_total", &[("reason", "timeout")]) > 4.0,
        "sends end at their deadline"
    );
    assert_eq!(after.value("roombridge_reconnects_total", &[]), 0.0, "PINGs left in time");
}

/// Hazard 8: the master has the batch already, and each retry appends it again: a few, then the spool at a slow pace.
fn not_durable(name: &'static str, what: &str, code: i64, full: bool) {
    let seconds = if full { 20.0 } else { 4.0 };
    let title = format!("RocketMQ answers {what} for {seconds} s, though all is stored");
    let setup = setup(name, title, full);
    let said = u64::from(setup.lesson.per_second) * seconds as u64;
    let (row, lies) = lied_to(setup, Lie::StoredBut(code), seconds);
    assert!(row.duplicates < said, "fewer copies than messages were said meanwhile: {row:#?}");
    // One batch of each of eight queues, with pauses that begin at 0.35 s and double: some seven in 20 s. Whoever takes the
    // answer for stored, or for one that was lost, sends hundreds.
    assert!(lies <= 8 * 10, "{lies} sends in {seconds} s");
}

#[test]
fn short_flush_disk_timeout() {
    not_durable("13_flush_disk_timeout", "FLUSH_DISK_TIMEOUT", code::FLUSH_DISK_TIMEOUT, false);
}

#[test]
#[ignore = "make faults"]
fn full_flush_disk_timeout() {
    not_durable("13_flush_disk_timeout", "FLUSH_DISK_TIMEOUT", code::FLUSH_DISK_TIMEOUT, true);
}

#[test]
#[ignore = "make faults"]
fn full_slave_not_available() {
    not_durable("14_slave_not_available", "SLAVE_NOT_AVAILABLE", code::SLAVE_NOT_AVAILABLE, true);
}

#[test]
#[ignore = "make faults"]
fn full_flush_slave_timeout() {
    not_durable("15_flush_slave_timeout", "FLUSH_SLAVE_TIMEOUT", code::FLUSH_SLAVE_TIMEOUT, true);
}

fn refused(name: &'static str, what: &str, code: i64) {
    let title = format!("RocketMQ refuses every send with {what} for 15 s");
    let mut setup = setup(name, title, true);
    // The default: a send that takes half a second on a busy machine is not refused, and sent again it would be a copy.
    setup.rocketmq_lines.clear();
    let (row, _) = lied_to(setup, Lie::Refused(code), 15.0);
    assert_eq!(row.duplicates, 0, "what was refused was not stored: {row:#?}");
}

#[test]
#[ignore = "make faults"]
fn full_system_busy() {
    refused("16_system_busy", "SYSTEM_BUSY", code::SYSTEM_BUSY);
}

/// Apache's broker looks at its own permission, not at the topic's, when a message comes: a topic that is closed for
/// writing refuses nothing until clients ask for its route again. So this refusal is told by the proxy.
#[test]
#[ignore = "make faults"]
fn full_write_refused() {
    refused("09_write_refused", "NO_PERMISSION", code::NO_PERMISSION);
}

#[test]
#[ignore = "make faults"]
fn full_topic_missing() {
    refused("17_topic_missing", "TOPIC_NOT_EXIST", code::TOPIC_NOT_EXIST);
}

/// Hazard 3: PUBACKs are ordered, and still one queue that takes nothing must not hold the rooms of the others.
fn one_queue_refuses(full: bool) {
    let seconds = if full { 20.0 } else { 3.0 };
    let title = format!("one queue of eight refuses with NO_PERMISSION for {seconds} s");
    let (mut story, lying) = open(setup("18_one_queue_refuses", title, full));
    story.talk_until_acknowledged(300);
    lying.lie_about_queue(Lie::Refused(code::NO_PERMISSION), 3);
    story.talk(1.5);
    let stored = |story: &Story| story.bridge.metrics().value("roombridge_stored_total", &[]);
    let (stored_before, made_before) = (stored(&story), story.made());
    story.talk(seconds);
    // What was really said meanwhile counts: on a busy machine publishers are slower than they should be.
    let of_others = (story.made() - made_before) as f64 * 7.0 / 8.0;
    assert!(of_others > 100.0, "{of_others} messages are too few to tell");
    let deadline = Instant::now() + Duration::from_secs(10);
    while stored(&story) - stored_before < of_others * 0.9 {
        let stored = stored(&story) - stored_before;
        assert!(
            Instant::now() < deadline,
            "other rooms flow: {stored} of {of_others} were stored, and 10 s went by"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    lying.tell_the_truth();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());
}

#[test]
fn short_one_queue_refuses() {
    one_queue_refuses(false);
}

#[test]
#[ignore = "make faults"]
fn full_one_queue_refuses() {
    one_queue_refuses(true);
}

/// Hazard 6: a refused batch is bisected until the one that is illegal is alone.
fn one_illegal(full: bool) {
    let title = "RocketMQ calls one message of each batch it is in illegal";
    let mut setup = setup("19_one_illegal", title, full);
    setup.more_config = "[pipeline]\nlinger_ms = 300\n".to_owned();
    let mut stage = Stage::new(setup);
    let lying = LyingRocketMq::start(&stage.rocketmq);
    stage.name_server = lying.name_server();
    // Number 200 of publisher 1 goes to room 0 of 40.
    lying.lie(Lie::IllegalWith(b"p1-0-200 ".to_vec()));
    let mut story = stage.open();
    story.talk_until_acknowledged(1500);
    story.fault_ends();
    let row = story.end();
    row.check(Allowed::default());
    assert_eq!((row.dead_lettered, row.stored), (1, row.acked_to_publisher - 1), "{row:#?}");
    assert!(lying.told().lies > 1, "its batch had good neighbours: {:?}", lying.told());
}

#[test]
fn short_one_illegal() {
    one_illegal(false);
}

#[test]
#[ignore = "make faults"]
fn full_one_illegal() {
    one_illegal(true);
}

/// About a tenth of the inflow: a stored message takes some 900 bytes on the wire.
#[test]
#[ignore = "make faults"]
fn full_ten_times_slower_for_a_minute() {
    let title = "RocketMQ 10 times slower than the inflow (1,000 msg/s) for a minute";
    let setup = Setup::new(Victim::RocketMq, "20_ten_times_slower", title, true).per_second(1000);
    let (row, _) = lied_to(setup, Lie::Slow(90_000), 60.0);
    assert!(row.most_spooled > 10_000, "it was slow: {row:#?}");
}

/// Number 200 of publisher 1 goes to room 0 of 40.
const ONE_MESSAGE: &[u8] = b"p1-0-200 ";

fn refuse_one() -> Lie {
    Lie::RefusedWith(ONE_MESSAGE.to_vec(), code::SYSTEM_ERROR)
}

/// Hazard 33: code 1 for one message, whatever it is sent with: it holds its own room only, and not for good.
fn one_refused(full: bool) {
    let title = "RocketMQ answers code 1 to one message, alone or in a batch";
    let (mut story, lying) = open(setup("30_one_refused", title, full));
    lying.lie(refuse_one());
    let patience = if full { 40.0 } else { 20.0 };
    story.talk(patience);
    story.fault_ends();
    let row = story.end();
    row.check(Allowed::default());
    let stored = (row.dead_lettered, row.stored);
    assert_eq!(stored, (1, row.acked_to_publisher - 1), "{row:#?}");
    assert!(lying.told().lies >= 6, "{:?}", lying.told());
}

#[test]
fn short_one_refused() {
    one_refused(false);
}

#[test]
#[ignore = "make faults"]
fn full_one_refused() {
    one_refused(true);
}

/// Hazard 33: code 1 for everything says nothing about any message.
#[test]
#[ignore = "make faults"]
fn full_everything_refused() {
    let title = "RocketMQ answers code 1 to everything for 20 s";
    let (row, _) =
        lied_to(setup("31_everything_refused", title, true), Lie::Refused(code::SYSTEM_ERROR), 20.0);
    assert_eq!(row.dead_lettered, 0, "{row:#?}");
}

/// Hazard 33: the one that is to blame is still found when the others are taken again.
#[test]
#[ignore = "make faults"]
fn full_everything_refused_and_then_one() {
    let title = "RocketMQ answers code 1 to everything for 20 s, and to one message for good";
    let (mut story, lying) = open(setup("32_everything_then_one", title, true));
    lying.lie(refuse_one());
    story.talk_until_acknowledged(1000);
    lying.lie(Lie::Refused(code::SYSTEM_ERROR));
    story.talk(20.0);
    lying.lie(refuse_one());
    story.fault_ends();
    story.talk(20.0);
    let row = story.end();
    row.check(Allowed::default());
    assert_eq!((row.dead_lettered, row.stored), (1, row.acked_to_publisher - 1), "{row:#?}");
}

/// Hazard 31: batches that are full to the limit are taken; none is over it.
#[test]
#[ignore = "make faults"]
fn full_batches_at_the_limit() {
    const LIMIT: usize = 16_384;
    let title = "every batch full to rocketmq.max_message_bytes (16 KiB, 2,000 msg/s)";
    let mut setup = setup("33_batches_at_the_limit", title, true).per_second(2000);
    setup.rocketmq_lines = format!("{SEND_TIMEOUT}\nmax_message_bytes = {LIMIT}");
    setup.more_config = "[pipeline]\nlinger_ms = 300\n".to_owned();
    let (mut story, lying) = open(setup);
    story.talk(15.0);
    story.fault_ends();
    let (row, refused) = {
        let url = story.bridge.url("/metrics");
        story.end_and(move || {
            let (_, text) = crate::support::bridge::get(&url).expect("the bridge runs");
            let failed =
                |reason| Metrics::parse(&text).value("roombridge_send_failures_total", &[("reason", reason)]);
            failed("message_illegal") + failed("refused")
        })
    };
    row.check(Allowed::default());
    assert_eq!((row.dead_lettered, refused), (0, 0.0), "{row:#?}");
    let largest = lying.told().largest_bytes;
    assert!((LIMIT * 3 / 4..=LIMIT).contains(&largest), "{largest} bytes");
}
