//! `roombridge check --connect` does what `run` does, and leaves nothing behind.

use std::process::Output;
use std::time::Duration;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::ports::wait_until;
use crate::support::scratch::Scratch;

const SOON: Duration = Duration::from_secs(60);
const CANARY: [&str; 2] = ["--canary", "room/message/check"];

fn config(mosquitto: &Mosquitto, rocketmq: &ApacheRocketMq, topic: &str, more: &str) -> String {
    format!(
        "{more}\n[mqtt]\nurl = \"{}\"\nclient_id = \"{topic}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    )
}

fn check(config: &str, options: &[&str]) -> (Option<i32>, String) {
    let folder = Scratch::new("check");
    let file = folder.write("roombridge.toml", config).display().to_string();
    told(&roombridge_cli(&[&["check", "--connect", "-c", &file], options].concat()))
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn topics_are_written_and_read_for_trial_and_nothing_is_stored() {
    // Given one topic that is there, and a downlink and dead letters whose topics are not
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("checked", 4);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let base = config(&mosquitto, rocketmq, "checked", "") + "[dead_letter]\ntopic = \"checked-dead\"\n";
    let down = "[[downlink]]\ntopic = \"checked-down\"\nmqtt_topic = \"room\"\n";

    // Then the first will do, the downlink will not, and dead letters stay here
    let (code, told) = check(&(base.clone() + down), &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("topic checked: 4 queues can be written to, 4 queues can be read"), "{told}");
    assert!(told.contains("FAIL  RocketMQ topic checked-down: "), "{told}");
    assert!(told.contains("WARN  RocketMQ topic checked-dead: dead letters stay on this disk"), "{told}");
    assert!(
        told.contains("MQTT subscription room/#: granted with QoS 1; whether it delivers was not tried"),
        "{told}"
    );

    // And without the downlink all is well, also before the topics are there, if the bridge may create them
    let (code, told) = check(&base, &[]);
    assert_eq!(code, Some(0), "{told}");
    let to_create =
        config(&mosquitto, rocketmq, "checked-later", "") + "[dead_letter]\ntopic = \"checked-dead\"\n";
    let to_create = to_create.replace("[rocketmq]\n", "[rocketmq]\ncreate_topics = true\n");
    let (code, told) = check(&to_create, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("topic checked-later: it does not exist yet; its first message creates it"),
        "{told}"
    );

    // And nothing was stored, or created
    assert_eq!(rocketmq.read("checked"), []);
    let (_, told) = check(&config(&mosquitto, rocketmq, "checked-later", ""), &[]);
    assert!(told.contains("FAIL  RocketMQ topic checked-later: "), "{told}");
}

#[test]
fn a_canary_shows_whether_a_granted_subscription_delivers_and_is_stored_by_nobody() {
    // Given a broker whose bridge may publish and subscribe, and not read
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("canary", 1);
    let rules = Scratch::new("acl");
    let file = rules.write("acl", "topic write room/#\n");
    let mute = Mosquitto::start(MosquittoOptions {
        extra_lines: vec![format!("acl_file {}", file.display())],
        ..MosquittoOptions::default()
    });
    let key = "[origin]\nkey = \"0123456789abcdef0123456789abcdef\"\n";

    // Then the subscription is granted, and only the canary tells
    let (code, told) = check(&config(&mute, rocketmq, "canary", key), &[]);
    assert!(code == Some(0) && told.contains("was not tried"), "{told}");
    let (code, told) = check(&config(&mute, rocketmq, "canary", key), &CANARY);
    assert!(code == Some(1) && told.contains("did not come back"), "{told}");
    assert!(told.contains("the right to read"), "{told}");

    // Given a broker that delivers, and no key: then it is refused, unless one message may be stored
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let elsewhere = "data_dir = \"/nowhere/at/all\"\n";
    let (code, told) = check(&config(&mosquitto, rocketmq, "canary", elsewhere), &CANARY);
    assert!(code == Some(1) && told.contains("--canary-stored"), "{told}");

    // When a bridge runs, then the canary comes, and the bridge takes it for its own
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "canary", ""));
    let at_home =
        roombridge_cli(&[&["check", "--connect", "-c", &bridge.config_file()], &CANARY[..]].concat());
    let (code, told) = self::told(&at_home);
    assert!(code == Some(0) && told.contains("published, and delivered"), "{told}");
    let filtered = || bridge.metrics().value("roombridge_filtered_total", &[("reason", "from_rocketmq")]);
    wait_until("the bridge knows it", SOON, || filtered() == 1.0);
    assert_eq!(rocketmq.read("canary"), []);

    // And without a mark it is stored like any other
    let (code, told) = check(
        &config(&mosquitto, rocketmq, "canary", elsewhere),
        &[&CANARY[..], &["--canary-stored"]].concat(),
    );
    assert!(code == Some(0), "{told}");
    assert_eq!(rocketmq.read_at_least("canary", 1, SOON).len(), 1);
}
