//! A topic that has fewer queues than before: what lies in the others is missed, and not called "nothing found".

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::wait_until;
use crate::support::scratch::Scratch;

const SOON: Duration = Duration::from_secs(60);
const TOPIC: &str = "shrunk";
const ROOMS: u64 = 24;
const READ_AND_WRITE: u32 = 6;

fn say(mosquitto: &Mosquitto, text: &str) {
    let to_room = |room| Message::new(format!("room/message/{room}"), text);
    publish_messages(mosquitto, "somebody", (0..ROOMS).map(to_room).collect());
}

fn history(bridge: &Bridge, room: u64, options: &[&str]) -> Output {
    let (config, room) = (bridge.config_file(), room.to_string());
    roombridge_cli(&[&["history", &room, "-c", &config], options].concat())
}

fn export_all(bridge: &Bridge, folder: &str, options: &[&str]) -> Output {
    let config = bridge.config_file();
    roombridge_cli(&[&["export", "--all", "--json", "--out", folder, "-c", &config], options].concat())
}

/// Lines that were written, and messages that RocketMQ kept back.
#[track_caller]
fn exported(output: &Output, code: i32) -> (usize, usize) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let count = |field: &str| summary[field].as_u64().expect("a number") as usize;
    (count("lines"), count("not_handed_out"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn rooms_in_queues_that_a_topic_has_no_more_are_missed_and_come_back_with_the_queues() {
    // Given rooms in 8 queues
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic(TOPIC, 8);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"{TOPIC}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{TOPIC}\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    ));
    say(&mosquitto, "the first line");
    let stored = rocketmq.read_at_least(TOPIC, ROOMS as usize, SOON);
    let hidden = stored.iter().filter(|message| message.queue_id >= 4).count();
    assert!(hidden > 0 && hidden < stored.len(), "rooms are in both halves of the queues");

    // When the topic gets 4, then history refuses, says how many are not handed out and what to set, and can show the rest
    rocketmq.update_topic(TOPIC, 4, READ_AND_WRITE);
    wait_until("the route has 4 queues", SOON, || history(&bridge, 1, &[]).status.code() == Some(1));
    for command in ["history", "replay", "export"] {
        let refused = roombridge_cli(&[command, "1", "-c", &bridge.config_file()]);
        let told = text(&refused);
        assert_eq!(refused.status.code(), Some(1), "{command}: {told}");
        let how_many = format!("does not hand out {hidden} message");
        assert!(told.contains(&how_many), "{command}: {told}");
        assert!(told.contains("updateTopic") && told.contains("--partial"), "{command}: {told}");
    }
    let scratch = Scratch::new("exported");
    let folder = scratch.join("all").display().to_string();
    let refused = export_all(&bridge, &folder, &[]);
    let told = text(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("does not hand out") && told.contains("--partial"), "{told}");
    assert_eq!(exported(&export_all(&bridge, &folder, &["--partial"]), 4), (stored.len() - hidden, hidden));
    let machine = history(&bridge, 1, &["--json"]);
    let line: Value =
        serde_json::from_slice(&machine.stdout).unwrap_or_else(|_| panic!("{}", text(&machine)));
    assert_eq!(line, json!({ "not_handed_out": hidden }));
    let partial = (0..ROOMS).map(|room| history(&bridge, room, &["--partial"]));
    let shown = partial.filter(|output| {
        assert_eq!(output.status.code(), Some(4), "{}", text(output));
        text(output).contains("the first line")
    });
    assert_eq!(shown.count(), stored.len() - hidden);
    let lag = roombridge_cli(&["lag", "--group", "g", "--topic", TOPIC, "-c", &bridge.config_file()]);
    assert!(lag.status.code() == Some(1) && text(&lag).contains("read queues"), "{}", text(&lag));

    // And on the way up it is no lost connection
    say(&mosquitto, "the second line");
    wait_until("/readyz says it", SOON, || {
        let (_, body) = bridge.get("/readyz").unwrap_or_default();
        body.contains("fewer queues than before") && body.contains("\"reachable\":true")
    });
    let failures =
        |reason: &str| bridge.metrics().value("roombridge_send_failures_total", &[("reason", reason)]);
    assert!(failures("queue_missing") > 0.0 && failures("transport") == 0.0);

    // When the topic has its queues back, then everything is there
    rocketmq.update_topic(TOPIC, 8, READ_AND_WRITE);
    wait_until("everything is stored", SOON, || bridge.metrics().books().stored == 2.0 * ROOMS as f64);
    for room in 0..ROOMS {
        let whole = history(&bridge, room, &[]);
        let told = text(&whole);
        assert_eq!(whole.status.code(), Some(0), "{told}");
        assert!(told.contains("the first line") && told.contains("the second line"), "{told}");
    }
    assert_eq!(exported(&export_all(&bridge, &folder, &[]), 0), (ROOMS as usize + hidden, 0));
}

/// RocketMQ deletes it like all else, so the alarm must come before that.
#[test]
fn what_rocketmq_hands_out_to_nobody_is_behind_in_the_archive_and_is_told() {
    // Given rooms in 8 queues, of which half are taken from the readers
    const TOPIC: &str = "shrunk-archived";
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic(TOPIC, 8);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let scratch = Scratch::new("archived");
    let config = format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"{TOPIC}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{TOPIC}\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    );
    let bridge = Bridge::start(&config);
    say(&mosquitto, "the first line");
    let stored = rocketmq.read_at_least(TOPIC, ROOMS as usize, SOON);
    let hidden = stored.iter().filter(|message| message.queue_id >= 4).count();
    drop(bridge);
    rocketmq.update_topic(TOPIC, 4, READ_AND_WRITE);

    // When a bridge archives
    let archive = format!("[archive]\ndir = \"{}\"\ncut_every_s = 60\n", scratch.path().display());
    let bridge = Bridge::start(&(config + &archive));

    // Then what nobody can read is counted, and told
    let withheld = || bridge.metrics().value("roombridge_archive_withheld_messages", &[]);
    wait_until("the route has 4 queues", SOON, || {
        bridge.get("/readyz").unwrap_or_default().1.contains("hands out to nobody")
    });
    assert_eq!(withheld(), hidden as f64);
    let headroom = bridge.metrics().value("roombridge_archive_headroom_seconds", &[]);
    assert!((71.0 * 3600.0..72.0 * 3600.0).contains(&headroom), "{headroom}");
    let status = roombridge_cli(&["archive", "status", "--json", "-c", &bridge.config_file()]);
    let rows: Vec<Value> = text(&status).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_topic = |handed_out| {
        let is_it = move |row: &&Value| row["topic"] == TOPIC && row["handed_out"] == handed_out;
        rows.iter().filter(is_it).filter_map(|row| row["behind"].as_u64()).sum::<u64>()
    };
    assert_eq!(of_topic(false), hidden as u64, "{}", text(&status));
    assert!(text(&status).contains("updateTopic -r"), "{}", text(&status));

    // And when the queues are there again, then it is archived
    rocketmq.update_topic(TOPIC, 8, READ_AND_WRITE);
    wait_until("everything is archived", 3 * SOON, || {
        bridge.metrics().value("roombridge_archived_total", &[]) == ROOMS as f64
    });
    assert_eq!(bridge.metrics().value("roombridge_archive_lost_total", &[("cause", "deleted")]), 0.0);
}
