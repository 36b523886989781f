//! `roombridge check --connect` does what `run` does, and leaves nothing behind.

use std::process::Output;
use std::time::Duration;

use serde_json::json;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::ports::{free_port, wait_until};
use crate::support::remoting;
use crate::support::scratch::Scratch;
use crate::support::scripted_broker::{ScriptedBroker, connack_with};

const SOON: Duration = Duration::from_secs(60);
const CANARY: [&str; 2] = ["--canary", "room/message/check"];
const KEY: &str = "[origin]\nkey = \"0123456789abcdef0123456789abcdef\"\n";

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
    let (code, told) = check(&(to_create + down), &[]);
    assert_eq!(code, Some(0), "{told}");
    for topic in ["checked-later", "checked-down", "checked-dead"] {
        let created = format!("topic {topic}: it does not exist yet; the bridge creates it");
        assert!(told.contains(&created), "{told}");
    }

    // And nothing was stored, or created
    assert_eq!(rocketmq.read("checked"), []);
    let (_, told) = check(&(config(&mosquitto, rocketmq, "checked-later", "") + down), &[]);
    assert!(told.contains("FAIL  RocketMQ topic checked-later: "), "{told}");
    assert!(told.contains("FAIL  RocketMQ topic checked-down: "), "{told}");
}

#[test]
fn rocketmq_is_asked_although_the_configuration_names_no_topic() {
    // Given a binding that takes the topic out of the message
    let rocketmq = ApacheRocketMq::shared();
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let config =
        config(&mosquitto, rocketmq, "unnamed", "").replace("topic = \"unnamed\"", "topic = \"{1}\"");
    let (code, told) = check(&config, &[]);
    assert!(code == Some(0) && told.contains("ok    RocketMQ: it answers"), "{told}");

    // When nobody listens where RocketMQ should be, then that is a failure
    let nobody = format!("127.0.0.1:{}", free_port());
    let (code, told) = check(&config.replace(&rocketmq.name_server(), &nobody), &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("FAIL  RocketMQ: ") && told.contains("no name server answers"), "{told}");
}

#[test]
fn what_nobody_may_read_is_a_warning_and_a_failure_with_an_archive() {
    // Given topics that can be written and not read
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("unreadable", 2), ("unreadable-too", 2)]);
    for topic in ["unreadable", "unreadable-too"] {
        rocketmq.update_topic(topic, 2, 2);
    }
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let base = config(&mosquitto, rocketmq, "unreadable", "");

    // Then without an archive that is a warning
    wait_until("the route says it", SOON, || {
        let (code, told) = check(&base, &[]);
        let is_told = told.contains("WARN  RocketMQ topic unreadable: messages are stored, but history");
        code == Some(0) && is_told && told.contains("no queue of it can be read")
    });

    // And with one it is a failure, also of a topic that only the archive reads; one that is not there is none
    let folder = Scratch::new("archive");
    let archive = format!("[archive]\ndir = \"{}\"\n", folder.path().display());
    let (code, told) = check(&(base.clone() + &archive), &[]);
    let lost = "the archive gets none of its messages";
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("FAIL  RocketMQ topic unreadable: {lost}")), "{told}");
    let topics = "topics = [\"unreadable-too\", \"unreadable-never\"]\n";
    wait_until("the route says it of the other one", SOON, || {
        let (code, told) = check(&(base.clone() + &archive + topics), &[]);
        code == Some(1)
            && told.contains(&format!("FAIL  RocketMQ topic unreadable-too: {lost}"))
            && told.contains("WARN  RocketMQ topic unreadable: messages are stored")
            && told.contains(
                "WARN  RocketMQ topic unreadable-never: it does not exist, so nothing of it is archived",
            )
    });
}

#[test]
fn a_message_far_behind_the_queues_that_a_topic_has_left_is_told() {
    // Given a topic with 64 queues, and a message in one of the last
    const SEND_MESSAGE_V2: i64 = 310;
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("far", 64);
    let fields = json!({
        "a": "somebody", "b": "far", "c": "TBW102", "d": "4", "e": "60", "f": "0", "g": "1800000000000", "h": "0",
        "i": "", "j": "0", "k": "false", "m": "false", "n": "broker-a",
    });
    remoting::call(&rocketmq.broker(), SEND_MESSAGE_V2, fields, "hello");

    // When it gets 4, then check finds the message
    rocketmq.update_topic("far", 4, 6);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let config = config(&mosquitto, rocketmq, "far", "");
    wait_until("it is told", SOON, || {
        let (code, told) = check(&config, &[]);
        code == Some(0) && told.contains("1 messages of queue broker-a/60 are handed out to nobody")
    });
}

/// What a check says before a broker that answers each SUBSCRIBE by that code, and the packets that it sent after CONNECT. RocketMQ
/// is away.
async fn checked_before(
    filters: &[&str],
    code_of: impl Fn(&Subscribe) -> u8,
    options: &'static [&'static str],
) -> (String, Vec<u8>, Vec<Subscribe>) {
    let broker = ScriptedBroker::start().await;
    let bindings =
        filters.iter().map(|filter| format!("[[binding]]\nfilter = \"{filter}\"\ntopic = \"t\"\n"));
    let config = format!(
        "{KEY}[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n[rocketmq]\nname_servers = [\"127.0.0.1:9\"]\n{}",
        broker.port(),
        bindings.collect::<String>()
    );
    let checking = tokio::task::spawn_blocking(move || check(&config, options));
    // The first connection shows what the broker offers.
    let mut scene = broker.accept().await;
    scene.write(&connack_with(false, &[])).await;
    while scene.next_packet().await.is_some() {}
    drop(scene);
    let mut scene = broker.accept().await;
    scene.write(&connack_with(false, &[])).await;
    let (mut kinds, mut subscribes) = (Vec::new(), Vec::new());
    while let Some((first, body)) = scene.next_packet().await {
        kinds.push(first >> 4);
        if first >> 4 == SUBSCRIBE {
            let subscribe = Subscribe::read(&body);
            scene.write(&[0x90, 4, body[0], body[1], 0, code_of(&subscribe)]).await;
            subscribes.push(subscribe);
        }
    }
    drop(scene);
    let (_, told) = checking.await.unwrap();
    (told, kinds, subscribes)
}

const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;

/// A SUBSCRIBE for one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subscribe {
    filter: String,
    has_identifier: bool,
}

impl Subscribe {
    fn read(body: &[u8]) -> Subscribe {
        let properties = usize::from(body[2]);
        let filter = &body[3 + properties..];
        let length = usize::from(u16::from_be_bytes([filter[0], filter[1]]));
        let filter = String::from_utf8(filter[2..2 + length].to_vec()).unwrap();
        Subscribe { filter, has_identifier: properties > 0 }
    }

    fn of(filter: &str, has_identifier: bool) -> Subscribe {
        Subscribe { filter: filter.to_owned(), has_identifier }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_subscribes_as_a_bridge_does() {
    // A filter that a wider one covers is not asked for
    let (told, _, asked) = checked_before(&["room/message/#", "room/#"], |_| 1, &[]).await;
    assert_eq!(asked, [Subscribe::of("room/#", true)], "{told}");
    assert!(told.contains("ok    MQTT subscription room/#: granted with QoS 1"), "{told}");

    // but it is while the wider one is refused
    let refuses_all = |subscribe: &Subscribe| if subscribe.filter == "room/#" { 0x87 } else { 1 };
    let (told, _, asked) = checked_before(&["room/message/#", "room/#"], refuses_all, &[]).await;
    assert_eq!(asked, [Subscribe::of("room/#", true), Subscribe::of("room/message/#", true)], "{told}");
    assert!(told.contains("ok    MQTT subscription room/message/#: granted with QoS 1"), "{told}");

    // A broker without subscription identifiers is asked again without one
    let takes_none = |subscribe: &Subscribe| if subscribe.has_identifier { 0xa1 } else { 1 };
    let (told, _, asked) = checked_before(&["room/#"], takes_none, &[]).await;
    assert_eq!(asked, [Subscribe::of("room/#", true), Subscribe::of("room/#", false)], "{told}");
    assert!(told.contains("ok    MQTT subscription room/#: granted with QoS 1"), "{told}");
    assert!(!told.contains("FAIL  MQTT"), "{told}");

    // And what is granted with QoS 0 is a warning
    let (told, _, _) = checked_before(&["room/#"], |_| 0, &[]).await;
    assert!(told.contains("WARN  MQTT: the MQTT broker grants \"room/#\" with QoS 0 only"), "{told}");
    assert!(!told.contains("MQTT subscription room/#") && !told.contains("FAIL  MQTT"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_told_and_no_canary_is_sent_after_it() {
    let began = std::time::Instant::now();
    let (told, packets, _) = checked_before(&["room/#"], |_| 0x87, &CANARY).await;
    assert!(
        told.contains("FAIL  MQTT subscription room/#: the broker refuses it: 0x87 not authorized"),
        "{told}"
    );
    assert!(
        told.contains("WARN  MQTT message on room/message/check: not published, because no subscription"),
        "{told}"
    );
    assert!(!told.contains("did not come back"), "{told}");
    assert!(packets.contains(&SUBSCRIBE) && !packets.contains(&PUBLISH), "{packets:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "nothing was waited for: {:?}", began.elapsed());
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

    // Then the subscription is granted, and only the canary tells
    let (code, told) = check(&config(&mute, rocketmq, "canary", KEY), &[]);
    assert!(code == Some(0) && told.contains("was not tried"), "{told}");
    let (code, told) = check(&config(&mute, rocketmq, "canary", KEY), &CANARY);
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
