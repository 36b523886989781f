//! The spool and the dead letters in the hands of an operator: `roombridge spool`, `spool drain`, `deadletter`.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::{free_port, wait_until};
use crate::support::process::Process;

const SOON: Duration = Duration::from_secs(20);
const BINARY: &str = env!("CARGO_BIN_EXE_roombridge");

fn config(mosquitto: &Mosquitto, name_server: &str, topic: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{topic}\"\n[rocketmq]\nname_servers = [\"{name_server}\"]\n\
         [spool]\nafter_ms = 100\nmin_free_bytes = 0\n[[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n",
        mosquitto.url()
    )
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a command of the bridge's configuration, which must end with that code.
#[track_caller]
fn cli(bridge: &Bridge, arguments: &[&str], code: i32) -> Output {
    let file = bridge.config_file();
    let output = roombridge_cli(&[arguments, &["-c", &file]].concat());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    output
}

#[track_caller]
fn json_lines(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {}", text(output))))
        .collect()
}

#[track_caller]
fn json(output: &Output) -> Value {
    json_lines(output).remove(0)
}

#[track_caller]
fn change_config(bridge: &Bridge, from: &str, to: &str) {
    let old = std::fs::read_to_string(bridge.config_file()).unwrap();
    assert!(old.contains(from), "{from:?} is not in {old}");
    bridge.scratch().write("roombridge.toml", &old.replace(from, to));
}

#[test]
fn a_spool_is_shown_while_the_bridge_runs_and_drained_while_it_does_not() {
    // given a bridge that never reached RocketMQ, and messages that it took over
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("emptied", 2);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut bridge = Bridge::start(&config(&mosquitto, &nobody, "emptied"));
    let bodies: Vec<String> = (0..40).map(|number| format!("message {number}")).collect();
    let messages = bodies.iter().map(|body| Message::new("room/message/1", body.as_str()));
    publish_messages(&mosquitto, "somebody", messages.collect());
    wait_until("all is in the spool", SOON, || bridge.metrics().books().spool_depth == 40.0);

    // then the command shows it, for scripts and for people
    let shown = json(&cli(&bridge, &["spool", "--json"], 0));
    assert_eq!((&shown["messages"], &shown["topics"][0]["topic"]), (&40.into(), &"emptied".into()));
    assert!(shown["topics"][0]["oldest_at"].is_string() && shown["full"].is_null());
    assert_eq!(shown["limits"]["when_full"], "hold");
    let for_people = text(&cli(&bridge, &["spool"], 0));
    assert!(
        for_people.contains("emptied") && for_people.contains("messages  40 of 10,000,000"),
        "{for_people}"
    );

    // and draining is refused, because the bridge does it
    let refused = text(&cli(&bridge, &["spool", "drain"], 1));
    assert!(refused.contains("is in use: a bridge that runs drains its spool by itself"), "{refused}");

    // when the bridge is stopped, a drain without RocketMQ waits until it is told to stop, and leaves all there
    bridge.terminate();
    assert_eq!(bridge.wait_exit(SOON).code(), Some(0), "{}", bridge.log_text());
    let log = bridge.log_text();
    assert!(
        log.contains("everything that came in is acknowledged; 40 messages in the spool")
            && !log.contains("has ended"),
        "{log}"
    );
    let mut command = Command::new(BINARY);
    command.args(["spool", "drain", "--json", "-c", &bridge.config_file()]);
    let mut waiting = Process::spawn("drain", command, &bridge.scratch().join("drain.log"));
    wait_until("the drain says what it waits for", SOON, || {
        waiting.log_text().contains("the queues of a RocketMQ topic are not known")
    });
    waiting.terminate();
    assert_eq!(waiting.wait_exit(SOON).code(), Some(3), "{}", waiting.log_text());
    assert!(waiting.log_text().contains("\"left\":40"), "{}", waiting.log_text());

    // when RocketMQ is there, it sends all of it, in order
    change_config(&bridge, &nobody, &rocketmq.name_server());
    let drained = json(&cli(&bridge, &["spool", "drain", "--json"], 0));
    assert_eq!(
        (&drained["at_start"], &drained["stored"], &drained["left"]),
        (&40.into(), &40.into(), &0.into()),
        "{drained}"
    );
    let mut stored = rocketmq.read_at_least("emptied", 40, SOON);
    stored.sort_by_key(|message| message.queue_offset);
    let stored: Vec<&str> = stored.iter().map(|message| message.body_text()).collect();
    assert_eq!(stored, bodies);
    assert!(text(&cli(&bridge, &["spool"], 0)).starts_with("the spool is empty"));
    assert!(text(&cli(&bridge, &["spool", "drain"], 0)).contains("the spool is empty"));
}

#[test]
fn a_data_directory_that_is_not_there_is_no_empty_spool() {
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let folder = crate::support::scratch::Scratch::new("nowhere");
    let absent = folder.join("absent").display().to_string();
    let text_of_config = config(&mosquitto, "127.0.0.1:1", "nowhere");
    let file = folder.write("a.toml", &format!("data_dir = \"{absent}\"\n{text_of_config}"));
    let file = file.display().to_string();
    for command in [&["spool", "-c", &file][..], &["spool", "drain", "-c", &file]] {
        let output = roombridge_cli(command);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(&absent), "{}", text(&output));
    }
    assert!(!folder.join("absent").exists());
}

/// One message that dies of its size, which RocketMQ cannot hold in any topic, and one that has no legal topic.
fn publish_what_dies(mosquitto: &Mosquitto) -> Vec<u8> {
    let large = vec![b'x'; 100_000];
    publish_messages(
        mosquitto,
        "somebody",
        vec![
            Message::new("room/message/1", large.clone()).user_property("who", "me"),
            Message::new("odd/no.name/1", "homeless"),
        ],
    );
    large
}

#[track_caller]
fn listed(bridge: &Bridge) -> BTreeMap<String, Value> {
    let letters = json_lines(&cli(bridge, &["deadletter", "list", "--json"], 0));
    let by_reason = letters.into_iter().map(|letter| (letter["reason"].as_str().unwrap().to_owned(), letter));
    by_reason.collect()
}

#[test]
fn dead_letters_are_listed_shown_sent_again_and_thrown_away() {
    // given a bridge with a small limit and an odd rule, and two messages that die of them
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("living", 1), ("graveyard", 1)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let config = config(&mosquitto, &rocketmq.name_server(), "living");
    let config = config.replace("[spool]", "max_message_bytes = 65536\n[spool]")
        + "[[binding]]\nfilter = \"odd/+/+\"\ntopic = \"{1}\"\n[dead_letter]\ntopic = \"graveyard\"\n";
    let bridge = Bridge::start(&config);
    let large = publish_what_dies(&mosquitto);
    wait_until("both are dead letters", SOON, || bridge.metrics().books().dead_lettered == 2.0);
    bridge.assert_books_balanced();

    // then both are listed, each where it lies
    let letters = listed(&bridge);
    let (too_large, homeless) = (&letters["too_large"], &letters["illegal_topic"]);
    assert_eq!((&too_large["place"], &too_large["payload_bytes"]), (&"local".into(), &100_000.into()));
    assert_eq!((&homeless["place"], &homeless["mqtt_topic"]), (&"rocketmq".into(), &"odd/no.name/1".into()));
    let (large_id, homeless_id) = (too_large["id"].as_str().unwrap(), homeless["id"].as_str().unwrap());
    let shown = json(&cli(&bridge, &["deadletter", "show", large_id, "--json"], 0));
    assert_eq!(shown["payload"].as_str().map(str::as_bytes), Some(large.as_slice()));
    assert_eq!(shown["user_properties"], serde_json::json!([["who", "me"]]));
    let for_people = text(&cli(&bridge, &["deadletter", "show", homeless_id], 0));
    assert!(for_people.contains("homeless"), "{for_people}");
    cli(&bridge, &["deadletter", "show", "0000000000000000-0"], 1);

    // and sent again too early they are as dead as before
    let too_early = text(&cli(&bridge, &["deadletter", "resend", "--all"], 1));
    assert!(
        too_early.contains("0 sent again, 2 still dead") && too_early.contains("may only hold letters"),
        "{too_early}"
    );
    assert_eq!(listed(&bridge).len(), 2);

    // when the causes are gone, they are sent again while the bridge runs, with their ids
    change_config(&bridge, "max_message_bytes = 65536", "max_message_bytes = 262144");
    change_config(&bridge, "topic = \"{1}\"", "topic = \"living\"");
    let resent = cli(&bridge, &["deadletter", "resend", "--all", "--json"], 0);
    assert!(
        json_lines(&resent).iter().all(|line| line["stored"] == true && line["topic"] == "living"),
        "{}",
        text(&resent)
    );
    let stored = rocketmq.read_at_least("living", 2, SOON);
    let stored: BTreeMap<&str, &[u8]> =
        stored.iter().map(|message| (message.property("rbId").unwrap(), message.body.as_slice())).collect();
    assert_eq!(stored[large_id], large);
    assert_eq!(stored[homeless_id], b"homeless");
    let local = text(&cli(&bridge, &["deadletter", "list", "--local"], 0));
    assert!(local.contains("no dead letters"), "{local}");
    let kept = text(&cli(&bridge, &["deadletter", "purge", homeless_id], 1));
    assert!(kept.contains("leaves with its retention"), "{kept}");

    // when one more dies, it can be thrown away
    publish_what_dies(&mosquitto);
    wait_until("two more dead letters", SOON, || bridge.metrics().books().dead_lettered == 4.0);
    let again = listed(&bridge)["too_large"]["id"].as_str().unwrap().to_owned();
    let purged = json(&cli(&bridge, &["deadletter", "purge", "--json", &again], 0));
    assert_eq!(purged["purged"], 1);
    assert!(!listed(&bridge).contains_key("too_large"));
}

#[test]
fn what_the_local_store_holds_is_shown_while_rocketmq_is_away() {
    // given a dead letter in the local store, since there is no RocketMQ
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let nobody = format!("127.0.0.1:{}", free_port());
    let config = config(&mosquitto, &nobody, "away").replace("[spool]", "max_message_bytes = 65536\n[spool]");
    let bridge = Bridge::start(&config);
    publish_messages(&mosquitto, "somebody", vec![Message::new("room/message/1", vec![0; 100_000])]);
    wait_until("it is a dead letter", SOON, || bridge.metrics().books().dead_lettered == 1.0);

    // then the list shows it, says that it is not complete, and fails
    let output = cli(&bridge, &["deadletter", "list", "--json"], 1);
    let [letter] = &json_lines(&output)[..] else { panic!("{}", text(&output)) };
    assert!(text(&output).contains("the list is not complete"), "{}", text(&output));

    // and it can be shown and thrown away all the same
    let id = letter["id"].as_str().unwrap();
    let shown = json(&cli(&bridge, &["deadletter", "show", id, "--json"], 0));
    assert_eq!(shown["payload_bytes"], 100_000);
    let resent = text(&cli(&bridge, &["deadletter", "resend", id], 1));
    assert!(resent.contains("error:"), "{resent}");
    assert_eq!(json(&cli(&bridge, &["deadletter", "purge", "--all", "--json"], 0))["purged"], 1);
}
