//! The archive in a bucket, and the archive as other programs read it.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::wait_until;
use crate::support::s3::{S3, archive_tool};

const SOON: Duration = Duration::from_secs(60);

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A bridge that archives at once, and 30 lines in three rooms that are archived.
fn archived(mosquitto: &Mosquitto, rocketmq: &ApacheRocketMq, topic: &str, archive: &str) -> Bridge {
    rocketmq.create_topic(topic, 1);
    let bridge = Bridge::start(&format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{topic}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n[archive]\ncut_every_s = 1\n{archive}",
        mosquitto.url(),
        rocketmq.name_server()
    ));
    let said =
        (0..30).map(|number| Message::new(format!("room/message/{}", number % 3), format!("line {number}")));
    publish_messages(mosquitto, topic, said.collect());
    wait_until("all is archived", SOON, || bridge.metrics().value("roombridge_archived_total", &[]) == 30.0);
    bridge
}

#[track_caller]
fn run(bridge: &Bridge, arguments: &[&str], code: i32) -> String {
    let output = roombridge_cli(&[arguments, &["-c", &bridge.config_file()]].concat());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    text(&output)
}

#[test]
fn an_archive_in_a_bucket_is_read_when_the_topic_is_gone() {
    let (rocketmq, s3) = (ApacheRocketMq::shared(), S3::start());
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bucket = format!(
        "store = \"s3://lessons/roombridge\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\naccess_key = \"a\"\n\
         secret_key = \"very secret\"\n",
        s3.endpoint()
    );
    let bridge = archived(&mosquitto, rocketmq, "in-a-bucket", &bucket);
    let before = run(&bridge, &["history", "1", "--json"], 0);
    assert_eq!(before.lines().count(), 10);
    let files = run(&bridge, &["archive", "files"], 0);
    assert!(files.starts_with("s3://lessons/roombridge/v1/topic=in-a-bucket/"), "{files}");
    let verified: Value = serde_json::from_str(&run(&bridge, &["archive", "verify", "--json"], 0)).unwrap();
    assert_eq!(verified["lines"], 30);
    let checked = run(&bridge, &["check", "--connect"], 0);
    assert!(checked.contains("s3://lessons/roombridge: creates once"), "{checked}");

    rocketmq.mqadmin(&["deleteTopic", "-t", "in-a-bucket", "-c", "DefaultCluster"]);
    assert_eq!(run(&bridge, &["history", "1", "--json"], 0), before);

    // A bucket that is not there: in the store's own words, and without the secret.
    let file = bridge.config_file();
    let wrong = fs::read_to_string(&file).unwrap().replace("s3://lessons/", "s3://other/");
    let wrong_file = format!("{file}.wrong.toml");
    fs::write(&wrong_file, wrong).unwrap();
    let output = roombridge_cli(&["check", "--connect", "-c", &wrong_file]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("NoSuchBucket") && !text(&output).contains("very secret"),
        "{}",
        text(&output)
    );
}

/// What docs/ARCHIVE.md shows.
#[test]
fn other_programs_read_the_archive_as_the_documentation_shows() {
    let rocketmq = ApacheRocketMq::shared();
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = archived(&mosquitto, rocketmq, "for-others", "");
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ARCHIVE.md")).unwrap();
    let (_, section) = page.split_once("## With other programs").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let binaries = std::path::Path::new(env!("CARGO_BIN_EXE_roombridge")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let answers: Vec<String> = section
        .split("```")
        .skip(1)
        .step_by(2)
        .map(|block| {
            let (language, code) = block.split_once('\n').unwrap();
            let mut command = match language {
                "sh" => Command::new("bash"),
                "python" => Command::new(archive_tool("python")),
                other => panic!("who reads {other}?"),
            };
            command.args(["-c", code]).env("PATH", &path).env("ROOMBRIDGE_CONFIG", bridge.config_file());
            let output = command.output().unwrap();
            assert!(output.status.success(), "{code}\n{}", text(&output));
            text(&output)
        })
        .collect();
    assert_eq!(answers.len(), 3, "jq, DuckDB and pandas");
    assert_eq!(answers[0].lines().count(), 10, "{}", answers[0]);
    assert!(answers[1].contains("('0', 10, ") && answers[1].contains("('2', 10, "), "{}", answers[1]);
    assert_eq!(answers[2].trim(), "{'0': 10, '1': 10, '2': 10}");
}

/// Each byte is under a checksum: 200 places over all files, one after the other.
#[test]
fn verify_finds_each_changed_byte() {
    let rocketmq = ApacheRocketMq::shared();
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let mut bridge = archived(&mosquitto, rocketmq, "flipped", "");
    bridge.terminate();
    bridge.wait_exit(SOON);
    run(&bridge, &["archive", "verify"], 0);
    let files: Vec<String> = run(&bridge, &["archive", "files"], 0).lines().map(str::to_owned).collect();
    let mut unseen = Vec::new();
    for number in 0..200 {
        let file = &files[number % files.len()];
        let whole = fs::read(file).unwrap();
        // Spread over the file; each of its eight bits has its turn.
        let place = (number * 7919) % whole.len();
        let mut changed = whole.clone();
        changed[place] ^= 1 << (number % 8);
        fs::write(file, &changed).unwrap();
        let output = roombridge_cli(&["archive", "verify", "-c", &bridge.config_file()]);
        if output.status.code() != Some(1) {
            unseen.push((file.clone(), place));
        }
        fs::write(file, &whole).unwrap();
    }
    assert_eq!(unseen, []);
    run(&bridge, &["archive", "verify"], 0);
}
