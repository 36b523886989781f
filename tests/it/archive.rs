//! What was said outlives RocketMQ: the archiver beside Mosquitto and Apache RocketMQ, as an operator uses it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::apache::{ApacheOptions, ApacheRocketMq};
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::wait_until;
use crate::support::remoting;

const SOON: Duration = Duration::from_secs(30);

fn config(mosquitto: &Mosquitto, rocketmq: &ApacheRocketMq, topic: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{topic}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n[archive]\ncut_every_s = 1\n",
        mosquitto.url(),
        rocketmq.name_server()
    )
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs `roombridge archive` with the bridge's configuration; it must end with that code.
#[track_caller]
fn archive(bridge: &Bridge, arguments: &[&str], code: i32) -> Output {
    let file = bridge.config_file();
    let output = roombridge_cli(&[&["archive"], arguments, &["-c", &file]].concat());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    output
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", text(output)))
}

fn say(mosquitto: &Mosquitto, prefix: &str, count: usize) -> BTreeSet<String> {
    let said: BTreeSet<String> = (0..count).map(|number| format!("{prefix} {number}")).collect();
    let messages = said
        .iter()
        .enumerate()
        .map(|(n, body)| Message::new(format!("room/message/{}", n % 3), body.as_str()));
    publish_messages(mosquitto, prefix, messages.collect());
    said
}

/// The files that count, as another program reads them.
#[track_caller]
fn lines(bridge: &Bridge) -> Vec<Value> {
    let files = archive(bridge, &["files"], 0);
    let mut lines = Vec::new();
    for file in String::from_utf8(files.stdout).unwrap().lines() {
        let text = zstd::decode_all(&*fs::read(file).unwrap()).unwrap();
        lines.extend(
            text.split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice::<Value>(line).unwrap()),
        );
    }
    lines
}

fn bodies(lines: &[Value]) -> BTreeSet<String> {
    lines.iter().map(|line| line["body"].as_str().unwrap().to_owned()).collect()
}

/// The index has each message once, and while the bridge writes it nobody else does.
#[track_caller]
fn all_is_indexed(bridge: &Bridge) {
    wait_until("all is indexed", SOON, || {
        bridge.metrics().value("roombridge_index_rows_total", &[]) == 100.0
    });
    let refused = text(&archive(bridge, &["rebuild-index"], 1));
    assert!(refused.contains("another roombridge writes the index"), "{refused}");
}

#[track_caller]
fn ask(file: &str, arguments: &[&str]) -> String {
    let output = roombridge_cli(&[arguments, &["-c", file]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a user can ask about a room.
#[track_caller]
fn asked(file: &str, room: &str) -> Vec<String> {
    let commands: [&[&str]; 6] = [
        &["history", room, "--json"],
        &["replay", room, "--speed", "max", "--json"],
        &["history", room, "--lesson", "last", "--json"],
        &["export", room],
        &["search", "first -8", "--room", room, "--limit", "7", "--json"],
        &["lessons", room, "--json"],
    ];
    commands.iter().map(|arguments| ask(file, arguments)).collect()
}

#[track_caller]
fn assert_has_lines_of_the_archive(bridge: &Bridge, exported: &str) {
    let archived: BTreeSet<String> = lines(bridge).iter().map(Value::to_string).collect();
    assert_eq!(exported.lines().count(), 20);
    for line in exported.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(archived.contains(&line.to_string()), "{line}");
    }
}

/// A file is written whole, compressed by its name, and not written over.
#[track_caller]
fn assert_is_exported_once(bridge: &Bridge) {
    let (config, path) = (bridge.config_file(), bridge.scratch().join("one.jsonl.zst"));
    let to_file = ["export", "1", "--out", path.to_str().unwrap()];
    ask(&config, &to_file);
    let exported = ask(&config, &["export", "1"]);
    assert_eq!(zstd::decode_all(&*fs::read(&path).unwrap()).unwrap(), exported.into_bytes());
    let again = roombridge_cli(&[&to_file[..], &["-c", &config]].concat());
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again).contains("overwrites nothing"), "{}", text(&again));
}

#[test]
fn what_was_said_is_still_there_when_its_topic_is_gone() {
    // given a bridge that archives, and what was said
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("archived", 2);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let mut bridge = Bridge::start(&config(&mosquitto, rocketmq, "archived"));
    let said = say(&mosquitto, "first", 60);
    wait_until("all is archived", SOON, || bridge.metrics().value("roombridge_archived_total", &[]) == 60.0);

    wait_until("all is indexed", SOON, || bridge.metrics().value("roombridge_index_rows_total", &[]) == 60.0);

    let file = bridge.config_file();
    let before = asked(&file, "1");
    let history = || ask(&file, &["history", "1", "--json"]);
    assert_eq!(before[0].lines().count(), 20);
    assert_eq!((&before[1], &before[2]), (&before[0], &before[0]), "replay and lesson are the history");
    assert_has_lines_of_the_archive(&bridge, &before[3]);
    let hits: Value = serde_json::from_str(&before[4]).unwrap();
    assert_eq!((hits["hits"].as_array().unwrap().len(), &hits["total"]["exactly"]), (7, &19.into()));
    let folder = bridge.scratch().join("exported");
    let all = || -> Value {
        let arguments = ["export", "--all", "--out", folder.to_str().unwrap(), "--json"];
        serde_json::from_str(&ask(&file, &arguments)).unwrap()
    };
    assert_eq!((&all()["lines"], &all()["lines"]), (&60.into(), &0.into()));

    // when the topic is gone, every answer is the same, byte for byte
    rocketmq.mqadmin(&["deleteTopic", "-t", "archived", "-c", "DefaultCluster"]);
    assert_eq!(asked(&file, "1"), before);

    // when the topic is made anew, and more is said there
    rocketmq.remake_topic("archived", 2);
    let more = say(&mosquitto, "second", 40);
    wait_until("all is archived", SOON, || bridge.metrics().value("roombridge_archived_total", &[]) == 100.0);

    let both = history();
    assert!(both.starts_with(&before[0]), "{both}");
    assert_eq!(both.lines().count(), 33);
    let added = all();
    assert_eq!((&added["lines"], &added["parts"], &added["in_all"]), (&40.into(), &1.into(), &2.into()));
    assert_is_exported_once(&bridge);

    all_is_indexed(&bridge);
    let last = || ask(&file, &["history", "1", "--json", "--limit", "5"]);
    assert!(both.ends_with(&last()) && last().lines().count() == 5);

    // And both are in the archive, each once, and the books balance
    let found = lines(&bridge);
    assert_eq!(found.len(), 100);
    assert_eq!(bodies(&found), said.union(&more).cloned().collect());
    let verified = json(&archive(&bridge, &["verify", "--json"], 0));
    assert_eq!(
        (&verified["lines"], &verified["lost"], &verified["problems"]),
        (&100.into(), &0.into(), &Value::Array(vec![]))
    );
    let status = text(&archive(&bridge, &["status"], 0));
    assert!(status.contains("BEHIND") && status.contains("archived"), "{status}");
    for failures in ["roombridge_archive_failures_total", "roombridge_index_failures_total"] {
        assert_eq!(bridge.metrics().value(failures, &[]), 0.0, "{}", bridge.log_text());
    }

    // When the bridge is gone, the index is made anew out of archive and RocketMQ.
    bridge.terminate();
    bridge.wait_exit(SOON);
    let rebuilt = json(&archive(&bridge, &["rebuild-index", "--json"], 0));
    assert_eq!(rebuilt["rows"], 100);
    assert_eq!(history(), both);
    assert!(both.ends_with(&last()));
}

/// A broker that keeps nothing for long, in the smallest files that many messages still fit in. It deletes when it is asked to, and never by
/// itself: no hour of the day is the 99th.
fn forgetful() -> ApacheOptions {
    let lines = [
        "mappedFileSizeCommitLog=1048576",
        "fileReservedTime=0",
        "deleteWhen=99",
        // Its first look comes a minute after its start, the others then follow soon.
        "cleanResourceInterval=1000",
    ];
    ApacheOptions { extra_lines: lines.map(str::to_owned).to_vec(), ..ApacheOptions::default() }
}

/// The first offset that RocketMQ still has of a queue.
fn first_offset(rocketmq: &ApacheRocketMq, topic: &str, queue: u32) -> u64 {
    const GET_MIN_OFFSET: i64 = 31;
    let fields = json!({ "topic": topic, "queueId": queue.to_string() });
    let answer = remoting::ask(&rocketmq.broker(), GET_MIN_OFFSET, fields, "");
    let offset = answer["extFields"]["offset"].as_str().and_then(|offset| offset.parse().ok());
    offset.unwrap_or_else(|| panic!("no offset: {answer}"))
}

/// RocketMQ deletes the files of its commit log that are too old, which are all but the last one; the two queues of the topic begin later
/// then.
#[track_caller]
fn let_most_be_forgotten(rocketmq: &ApacheRocketMq, topic: &str, messages: u64) {
    // As `mqadmin deleteExpiredCommitLog`
    const DELETE_EXPIRED_COMMIT_LOG: i64 = 329;
    let commit_log = rocketmq.scratch().join("store/commitlog");
    let files = fs::read_dir(&commit_log).unwrap().count();
    assert!(files > 5, "it does not fill several files: {files}");
    remoting::call(&rocketmq.broker(), DELETE_EXPIRED_COMMIT_LOG, json!({}), "");
    let first_file = commit_log.join(format!("{:020}", 0));
    wait_until("the first file is deleted", Duration::from_secs(150), || !first_file.exists());
    wait_until("RocketMQ has forgotten most of it", SOON, || {
        (0..2).map(|queue| first_offset(rocketmq, topic, queue)).sum::<u64>() > messages / 2
    });
}

/// Not a topic that is deleted: one of which RocketMQ deletes the old messages, and has the last ones.
#[test]
fn what_rocketmq_has_forgotten_of_a_topic_that_lives_on_is_still_there() {
    // Given a bridge that archives, and a commit log of several files
    const COUNT: usize = 900;
    let rocketmq = ApacheRocketMq::start_with(forgetful());
    rocketmq.create_topic("forgotten", 2);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    // A batch must fit in a file.
    let small_batches = "[pipeline]\nbatch_bytes = 131072\n";
    let bridge = Bridge::start(&(config(&mosquitto, &rocketmq, "forgotten") + small_batches));
    let more_words = " and so on".repeat(800);
    let said = (0..COUNT)
        .map(|n| Message::new(format!("room/message/{}", n % 3), format!("first {n}{more_words}")))
        .collect();
    publish_messages(&mosquitto, "somebody", said);
    let archived = || bridge.metrics().value("roombridge_archived_total", &[]);
    wait_until("all is archived", 2 * SOON, || archived() == COUNT as f64);
    wait_until("all is indexed", 2 * SOON, || {
        bridge.metrics().value("roombridge_index_rows_total", &[]) == COUNT as f64
    });
    let file = bridge.config_file();
    let rooms = ["0", "1"];
    let before = rooms.map(|room| asked(&file, room));
    for answers in &before {
        assert_eq!(answers[0].lines().count(), COUNT / 3);
        assert_eq!(answers[3].lines().count(), COUNT / 3);
    }

    // When RocketMQ deletes what it has kept long enough
    let_most_be_forgotten(&rocketmq, "forgotten", COUNT as u64);
    let left = rocketmq.read("forgotten").len();
    assert!(left > 0 && left < COUNT / 2, "Apache's client reads {left}");

    // Then every answer is the same, byte for byte
    for (room, before) in rooms.iter().zip(&before) {
        for (answer, before) in asked(&file, room).iter().zip(before) {
            assert!(answer == before, "room {room} was\n{before}\nand is\n{answer}");
        }
    }
    let verified = json(&archive(&bridge, &["verify", "--json"], 0));
    assert_eq!(
        (&verified["lines"], &verified["lost"], &verified["problems"]),
        (&COUNT.into(), &0.into(), &Value::Array(vec![]))
    );

    // And what is said from now on is archived behind it
    say(&mosquitto, "second", 30);
    wait_until("all is archived", SOON, || archived() == COUNT as f64 + 30.0);
    for (room, before) in rooms.iter().zip(&before) {
        let both = ask(&file, &["history", room, "--json"]);
        assert!(both.starts_with(&before[0]), "room {room}: {both}");
        assert_eq!(both.lines().count(), COUNT / 3 + 10);
    }
    assert_eq!(bridge.metrics().value("roombridge_archive_lost_total", &[]), 0.0, "{}", bridge.log_text());
}

#[test]
fn a_stop_archives_what_is_left_and_a_changed_byte_is_named() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("archived-at-a-stop", 1);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let hourly =
        config(&mosquitto, rocketmq, "archived-at-a-stop").replace("cut_every_s = 1", "cut_every_s = 3600");
    let mut bridge = Bridge::start(&hourly);
    let said = say(&mosquitto, "line", 30);
    // RocketMQ confirms messages before it gives them out.
    rocketmq.read_at_least("archived-at-a-stop", 30, SOON);
    bridge.terminate();
    bridge.wait_exit(SOON);

    // What a stop left is there, and another archiver finds nothing more.
    assert_eq!(bodies(&lines(&bridge)), said);
    let flushed = json(&archive(&bridge, &["flush", "--json"], 0));
    assert_eq!((&flushed["pieces"], &flushed["lines"]), (&0.into(), &0.into()));

    let files = archive(&bridge, &["files"], 0);
    let file = String::from_utf8(files.stdout).unwrap().lines().next().unwrap().to_owned();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let verified = text(&archive(&bridge, &["verify"], 1));
    let name = file.rsplit('/').next().unwrap();
    assert!(verified.contains(name) && verified.contains("damaged"), "{verified}");
}

#[test]
fn a_command_without_an_archive_says_what_to_set() {
    let rocketmq = ApacheRocketMq::shared();
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(
        &config(&mosquitto, rocketmq, "never-archived").replace("[archive]\ncut_every_s = 1\n", ""),
    );
    let found = roombridge_cli(&["search", "x", "-c", &bridge.config_file()]);
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found).contains("archive.dir"), "{}", text(&found));
    for command in ["status", "verify", "files", "flush"] {
        let said = text(&archive(&bridge, &[command], 1));
        assert!(said.contains("archive.dir"), "{said}");
    }
}
