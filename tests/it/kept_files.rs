//! A data directory that an earlier version left: this build starts on it, sends what waits there byte for byte, and
//! leaves a file of a newer version as it is.
//!
//! `tests/fixtures/data_dir-0.1` was written by version 0.1 through `write_a_data_dir`; its README says what is in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::java::NewMessage;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::ports::{free_port, wait_until};

const SOON: Duration = Duration::from_secs(30);
const TEACHER: &str = "GID_teacher@@@1";
const MUTED: &str = "GID_student@@@ben";
const JSON_FILES: [&str; 6] = [
    "mutes.json",
    "origin-key.json",
    "positions-classroom.json",
    "positions-downlink.json",
    "queues.json",
    "session.json",
];
const DATABASES: [&str; 2] = ["spool.sqlite3", "dead-letters.sqlite3"];

/// What the spool and the local dead letters hold, read without the product.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Contents {
    spooled: Vec<Spooled>,
    dead_letters: Vec<Letter>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Spooled {
    topic: String,
    slot: i64,
    tag: String,
    keys: String,
    properties: Vec<(String, String)>,
    body_base64: String,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Letter {
    id: String,
    reason: String,
    mqtt_topic: String,
    payload_base64: String,
}

impl Contents {
    fn of(data_dir: &Path) -> Self {
        let open = |name| {
            Connection::open_with_flags(data_dir.join(name), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
        };
        let spool = open("spool.sqlite3");
        let mut rows = spool
            .prepare(
                "SELECT topic, slot, tag, keys, properties, body FROM messages JOIN lanes USING(lane) ORDER BY position",
            )
            .unwrap();
        let spooled = rows.query_map([], |row| {
            Ok(Spooled {
                topic: row.get(0)?,
                slot: row.get(1)?,
                tag: row.get(2)?,
                keys: row.get(3)?,
                properties: serde_json::from_str(&row.get::<_, String>(4)?).unwrap(),
                body_base64: STANDARD.encode(row.get::<_, Vec<u8>>(5)?),
            })
        });
        let letters = open("dead-letters.sqlite3");
        let mut rows =
            letters.prepare("SELECT id, reason, mqtt_topic, payload FROM letters ORDER BY letter").unwrap();
        let dead_letters = rows.query_map([], |row| {
            Ok(Letter {
                id: row.get(0)?,
                reason: row.get(1)?,
                mqtt_topic: row.get(2)?,
                payload_base64: STANDARD.encode(row.get::<_, Vec<u8>>(3)?),
            })
        });
        Self {
            spooled: spooled.unwrap().map(Result::unwrap).collect(),
            dead_letters: dead_letters.unwrap().map(Result::unwrap).collect(),
        }
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data_dir-0.1")
}

/// A class: what its clients send is stored in `roomSend`, what they hear comes down from `room`.
fn config(mqtt_url: &str, name_server: &str, data_dir: &Path) -> String {
    format!(
        "data_dir = {data_dir:?}\n[mqtt]\nurl = \"{mqtt_url}\"\nclient_id = \"bridge-of-0.1\"\n\
         [rocketmq]\nname_servers = [\"{name_server}\"]\nmax_message_bytes = 65536\n\
         [spool]\nafter_ms = 100\nmin_free_bytes = 0\n[dead_letter]\ntopic = \"\"\n\
         [[binding]]\nfilter = \"roomSend/#\"\norder_key_field = \"roomId\"\nsender = {{ user_property = \"client\" }}\n\
         [[binding]]\nfilter = \"lesson/#\"\n[[binding]]\nfilter = \"room/#\"\n[[downlink]]\ntopic = \"room\"\n[classroom]\n"
    )
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in JSON_FILES.iter().chain(&DATABASES) {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn bytes_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = JSON_FILES.iter().chain(&DATABASES);
    names.map(|name| ((*name).to_owned(), fs::read(folder.join(name)).unwrap())).collect()
}

fn rocketmq() -> ApacheRocketMq {
    let rocketmq = ApacheRocketMq::start();
    for topic in ["room", "roomSend", "lesson", "roombridge_audit"] {
        rocketmq.create_topic(topic, 2);
    }
    rocketmq
}

/// Messages of all shapes, in three rooms.
fn lesson() -> Vec<Message> {
    let mut messages: Vec<Message> = (0..24)
        .map(|number| {
            let topic = format!("lesson/message/{}", number % 3);
            Message::new(topic, format!("第{number}句 \u{1f44b}"))
        })
        .collect();
    messages.push(Message::new("lesson/message/0", vec![0, 1, 2, 255, 254, 10, 13]));
    messages.push(Message::new("lesson/message/1", Vec::new()));
    messages.push(Message::new("lesson/status", vec![b'x'; 20_000]));
    let described = Message::new("lesson/message/2", "with properties")
        .user_property("who", "é\u{3042}|% ")
        .content_type("text/plain")
        .expires_after_s(4_000_000_000)
        .response_topic("lesson/answers", b"\0\x01one");
    messages.push(described);
    messages
}

/// Not a test: how the fixture was made. `WRITE_DATA_DIR=FOLDER cargo test --test it write_a_data_dir -- --ignored`, by a
/// build of the version that the folder is named after.
#[test]
#[ignore = "writes a fixture"]
fn write_a_data_dir() {
    let target = PathBuf::from(std::env::var("WRITE_DATA_DIR").expect("the folder to write"));
    let mut rocketmq = rocketmq();
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let scratch = crate::support::scratch::Scratch::new("fixture");
    let data_dir = scratch.join("data");
    let mut bridge = Bridge::start(&config(&mosquitto.url(), &rocketmq.name_server(), &data_dir));

    // A mute, a line that is stored and heard, and one of a plain producer: queue tables, positions, mutes
    let hears = Subscriber::start(&mosquitto, "watcher", "room/#");
    let mute = serde_json::json!({"type": "shutUp", "peer": MUTED, "roomId": "7"}).to_string();
    let mute = Message::new("roomSend/command", mute).user_property("client", TEACHER);
    publish_messages(&mosquitto, "teacher", vec![mute]);
    hears.wait_for(1, SOON);
    publish_messages(&mosquitto, "pupil", vec![Message::new("lesson/message/0", "stored at once")]);
    rocketmq.read_at_least("lesson", 1, SOON);
    let plain = NewMessage::new("room", "by a plain producer").property("mqttSecondTopic", "message/7");
    rocketmq.send(&[plain]);
    hears.wait_for(2, SOON);

    // A dead letter, and RocketMQ away: rows in the spool
    rocketmq.kill_broker();
    let mut messages = lesson();
    messages.push(Message::new("lesson/message/1", vec![b'y'; 70_000]));
    let spooled = messages.len() as f64 - 1.0;
    publish_messages(&mosquitto, "pupil", messages);
    wait_until("all is in the spool", SOON, || {
        let books = bridge.metrics().books();
        books.spool_depth == spooled && books.dead_lettered == 1.0
    });
    bridge.terminate();
    bridge.wait_exit(SOON);

    copy(&data_dir, &target);
    let contents = serde_json::to_string_pretty(&Contents::of(&data_dir)).unwrap();
    fs::write(target.join("contents.json"), contents + "\n").unwrap();
}

#[test]
fn what_version_0_1_left_is_sent_byte_for_byte_and_stays_known() {
    // given the folder that a bridge of version 0.1 left, and a RocketMQ with the same queues
    let expected: Contents =
        serde_json::from_str(&fs::read_to_string(fixture().join("contents.json")).unwrap()).unwrap();
    assert!(expected.spooled.len() == 28 && expected.dead_letters.len() == 1);
    let rocketmq = rocketmq();
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let scratch = crate::support::scratch::Scratch::new("of-0.1");
    let data_dir = scratch.join("data");
    copy(&fixture(), &data_dir);

    // when this build starts on it
    let mut bridge = Bridge::start(&config(&mosquitto.url(), &rocketmq.name_server(), &data_dir));
    wait_until("the spool is empty", SOON, || bridge.metrics().books().spool_depth == 0.0);
    bridge.assert_books_balanced();

    // then all that waited is stored: bodies, tags, keys and properties, in the order of each room and each queue
    let mut stored = rocketmq.read_at_least("lesson", expected.spooled.len(), SOON);
    stored.sort_by_key(|message| (message.queue_id, message.queue_offset));
    assert_eq!(stored.len(), expected.spooled.len());
    for slot in expected.spooled.iter().map(|row| row.slot) {
        let of_slot = expected.spooled.iter().filter(|row| row.slot == slot);
        let of_slot: Vec<_> = of_slot.map(|row| (&row.keys, row)).collect();
        let found = stored
            .iter()
            .filter(|message| of_slot.iter().any(|(keys, _)| message.keys.as_deref() == Some(keys)))
            .collect::<Vec<_>>();
        assert_eq!(found.len(), of_slot.len());
        for ((_, row), message) in of_slot.iter().zip(found) {
            assert_eq!(message.keys.as_deref(), Some(&*row.keys), "the order of a slot");
            assert_eq!(STANDARD.encode(&message.body), row.body_base64);
            assert_eq!(message.tags.as_deref(), Some(&*row.tag));
            for (name, value) in &row.properties {
                assert_eq!(message.property(name), Some(&**value), "{name}");
            }
        }
    }

    // and the session, the mute, the dead letter and the positions are those of before
    let kept =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(data_dir.join(name)).unwrap()).unwrap() };
    let was =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(fixture().join(name)).unwrap()).unwrap() };
    assert_eq!(
        kept("session.json")["generation"].as_u64(),
        was("session.json")["generation"].as_u64().map(|before| before + 1)
    );
    assert_eq!(kept("origin-key.json"), was("origin-key.json"));
    assert_eq!(kept("queues.json")["topics"]["lesson"], was("queues.json")["topics"]["lesson"]);
    assert_eq!(Contents::of(&data_dir).dead_letters, expected.dead_letters);
    let hears = Subscriber::start(&mosquitto, "watcher", "room/#");
    let says = |client: &str, text: &str| {
        let body = serde_json::json!({"peer": client, "roomId": "7", "msg": text}).to_string();
        Message::new("roomSend/message", body).user_property("client", client)
    };
    publish_messages(
        &mosquitto,
        "class",
        vec![says(MUTED, "can you hear me?"), says("GID_student@@@anna", "I can speak")],
    );
    let is_line =
        |publish: &rumqttc::v5::mqttbytes::v5::Publish| publish.topic == "room/message/7".as_bytes();
    wait_until("Anna is heard", SOON, || hears.received().iter().any(is_line));
    let heard = hears.received();
    let heard: Vec<_> = heard.iter().filter(|publish| is_line(publish)).collect();
    assert!(
        heard.len() == 1 && String::from_utf8_lossy(&heard[0].payload).contains("I can speak"),
        "the mute of before still holds: {heard:?}"
    );
    bridge.terminate();
    assert_eq!(bridge.wait_exit(SOON).code(), Some(0), "{}", bridge.log_text());
}

/// Writes what a newer version might have written into one file of the folder.
fn make_newer(file: &Path) {
    let name = file.file_name().unwrap().to_str().unwrap();
    if DATABASES.contains(&name) {
        let database = Connection::open(file).unwrap();
        database.pragma_update(None, "user_version", 999).unwrap();
        // A newer version may keep its journal otherwise.
        database.pragma_update(None, "journal_mode", "DELETE").unwrap();
        return;
    }
    let newer = match serde_json::from_slice(&fs::read(file).unwrap()).unwrap() {
        Value::Object(mut fields) => {
            fields.insert("version".to_owned(), 999.into());
            Value::Object(fields)
        }
        other => serde_json::json!({"version": 999, "value": other}),
    };
    fs::write(file, newer.to_string()).unwrap();
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_nothing_is_touched() {
    for newer in JSON_FILES.iter().chain(&DATABASES) {
        let scratch = crate::support::scratch::Scratch::new("newer");
        let data_dir = scratch.join("data");
        copy(&fixture(), &data_dir);
        make_newer(&data_dir.join(newer));
        let before = bytes_of(&data_dir);
        let nobody = free_port();
        let config = config(&format!("mqtt://127.0.0.1:{nobody}"), &format!("127.0.0.1:{nobody}"), &data_dir);
        let file = scratch.write("roombridge.toml", &config).display().to_string();

        for command in [&["run"][..], &["spool", "drain"], &["deadletter", "resend", "--all"]] {
            let output = roombridge_cli(&[command, &["-c", &file]].concat());
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{newer}, {command:?}: {text}");
            // A letter that is sent again does not pass through the spool.
            let concerned = command[0] != "deadletter" || *newer != "spool.sqlite3";
            assert!(
                !concerned
                    || text.contains(newer) && text.contains("newer roombridge") && text.contains("999"),
                "{newer}, {command:?}: {text}"
            );
            let after = bytes_of(&data_dir);
            let changed: Vec<_> = before.keys().filter(|file| before[*file] != after[*file]).collect();
            assert!(changed.is_empty(), "{newer}, {command:?} changed {changed:?}");
        }
    }
}
