//! The verdict has teeth: what is spoiled on purpose, behind the bridge's back, is counted. All rows rest on it.

use rumqttc::v5::mqttbytes::QoS;

use super::lesson::{Key, Lesson, PAYLOAD_BYTES};
use super::row::{Allowed, Victim};
use super::story::{Setup, Stage, TOPIC};
use crate::support::java::NewMessage;
use crate::support::mqtt_client::publish_all;
use crate::support::scratch::Scratch;

#[test]
fn what_is_lost_doubled_damaged_or_out_of_order_is_counted_and_dead_letters_are_found_on_another_disk() {
    let lesson = Lesson { publishers: 2, rooms: 2, per_second: 100, payload_bytes: PAYLOAD_BYTES };
    let says = |publisher, number| lesson.payload(Key { publisher, number });
    let other_disk = Scratch::new("other-disk");
    let mut setup = Setup::new(Victim::Bridge, "00_teeth", "spoiled on purpose", false);
    (setup.lesson, setup.queues) = (lesson, 1);
    setup.first_lines = format!("data_dir = \"{}\"", other_disk.join("data").display());
    setup.rocketmq_lines = "max_message_bytes = 262144".to_owned();
    setup.more_config = "[[binding]]\nfilter = \"elsewhere/#\"\ntopic = \"elsewhere\"\n\
                         [pipeline]\nbatch_bytes = 131072\n[dead_letter]\ntopic = \"\"\n"
        .to_owned();
    let stage = Stage::new(setup);
    stage.rocketmq.create_topic("elsewhere", 1);
    let mut story = stage.open();

    // Acknowledged, and stored where nobody looks; and too large to be stored
    let mut too_large = says(7, 2);
    too_large.resize(300_000, b'x');
    publish_all(
        &story.stage.mosquitto,
        "GID_student@@@7",
        vec![("elsewhere/1", says(7, 1)), ("room/message/0", too_large)],
        QoS::AtLeastOnce,
    );
    story.talk_until_acknowledged(50);
    // A copy, a later number before an earlier one, and one with other bytes
    let mut damaged = says(8, 6);
    damaged[100] = b'y';
    let spoiled = [says(0, 0), says(8, 4), says(8, 2), damaged];
    let spoiled = spoiled.map(|body| NewMessage::new(TOPIC, body));
    story.stage.rocketmq.send(&spoiled);
    story.fault_ends();

    let row = story.end();
    let counted = (row.lost, row.dead_lettered, row.duplicates, row.order_violations, row.damaged);
    assert_eq!(counted, (1, 1, 1, 1, 1), "{row:#?}");
    assert!(row.books_balanced, "the bridge itself has done nothing wrong");
    let verdict = std::panic::catch_unwind(|| row.check(Allowed::default()));
    assert!(verdict.is_err(), "such a row must not pass");
}
