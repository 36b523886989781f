//! How far consumer groups are behind: a number where RocketMQ tells it, and no number where it does not.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::apache::{ApacheOptions, ApacheRocketMq};
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::java::{self, NewMessage};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::wait_until;
use crate::support::remoting;
use crate::support::second_broker::SecondBroker;

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "lagging";
const ONLY_ON_B: &str = "elsewhere";

/// What becomes of a group of RocketMQ's gRPC: made by hand, it commits, and has no `%RETRY%` topic.
fn commit(rocketmq: &ApacheRocketMq, group: &str, consumed: i64) {
    const UPDATE_CONSUMER_OFFSET: i64 = 15;
    const UPDATE_AND_CREATE_SUBSCRIPTION_GROUP: i64 = 200;
    let group_config = json!({ "groupName": group }).to_string();
    remoting::call(&rocketmq.broker(), UPDATE_AND_CREATE_SUBSCRIPTION_GROUP, json!({}), &group_config);
    let offset = consumed.to_string();
    let commit = json!({ "consumerGroup": group, "topic": TOPIC, "queueId": "0", "commitOffset": offset });
    remoting::call(&rocketmq.broker(), UPDATE_CONSUMER_OFFSET, commit, "");
}

fn config(mosquitto: &Mosquitto, rocketmq: &ApacheRocketMq) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"lag\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[rocketmq.lag]]\ngroup = \"grpc\"\ntopic = \"{TOPIC}\"\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{ONLY_ON_B}\"\n\
         [[downlink]]\ntopic = \"{TOPIC}\"\nmqtt_topic = \"room\"\nstart = \"earliest\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    )
}

fn ask(bridge: &Bridge, group: &str, topic: &str) -> Output {
    let config = bridge.config_file();
    roombridge_cli(&["lag", "--group", group, "--topic", topic, "-c", &config])
}

/// Of room 7.
fn history(bridge: &Bridge, options: &[&str]) -> (Option<i32>, String) {
    let config = bridge.config_file();
    let output = roombridge_cli(&[&["history", "7", "-c", &config], options].concat());
    (output.status.code(), said(&output))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The command tells that number.
#[track_caller]
fn told(bridge: &Bridge, group: &str, messages: u64, never: bool) {
    let config = bridge.config_file();
    let output = roombridge_cli(&["lag", "--json", "--group", group, "--topic", TOPIC, "-c", &config]);
    let lag: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!(lag["messages"], messages, "{lag}");
    let table = said(&ask(bridge, group, TOPIC));
    assert_eq!(table.contains("(never consumed)"), never, "{table}");
}

/// The command gives no number, ends with 1, and says these words.
#[track_caller]
fn unknown(bridge: &Bridge, group: &str, topic: &str, words: &str) {
    let output = ask(bridge, group, topic);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        output.stdout.is_empty() && said.contains("not known") && said.contains(words),
        "{words:?} is not in: {said}"
    );
}

#[track_caller]
fn metric_says(bridge: &Bridge, messages: Option<f64>) {
    wait_until(&format!("the metric says {messages:?}"), PATIENCE, || {
        let metrics = bridge.metrics();
        let name = "roombridge_consumer_lag_messages";
        let up = metrics.value("roombridge_consumer_lag_up", &[("group", "grpc"), ("topic", TOPIC)]);
        let shown = metrics.has(name).then(|| metrics.value(name, &[]));
        shown == messages && up == f64::from(u8::from(messages.is_some()))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lag_is_told_where_every_master_answered_and_is_no_number_where_not() {
    // Given 6 messages on two brokers, and a group that has no %RETRY% topic
    let mut rocketmq = ApacheRocketMq::start_with(ApacheOptions::default());
    let mut second = SecondBroker::start(&rocketmq);
    rocketmq.create_topic(TOPIC, 1);
    java::create_topics(&rocketmq.name_server(), &second.address(), &[(TOPIC, 1), (ONLY_ON_B, 1)]);
    let texts = (0..6).map(|number| NewMessage::new(TOPIC, number.to_string()));
    rocketmq.send(&texts.collect::<Vec<_>>());
    let stored = rocketmq.read_at_least(TOPIC, 6, PATIENCE);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let mut bridge = Bridge::start(&config(&mosquitto, &rocketmq));

    // Then a group that never consumed is said to be one, with all that is stored
    told(&bridge, "grpc", 6, true);
    assert!(stored.iter().any(|message| message.queue_offset == 1), "broker a has two");

    // And one that has committed is two less behind, in the metric as well
    commit(&rocketmq, "grpc", 2);
    told(&bridge, "grpc", 4, false);
    metric_says(&bridge, Some(4.0));
    wait_until("the positions are kept", PATIENCE, || {
        let kept = bridge.scratch().join("data/positions-downlink.json");
        std::fs::read_to_string(kept).is_ok_and(|text| text.contains("broker-b/0"))
    });

    // and a room's line that lies on b is in its history
    let line = Message::new("room/message/7", "kept on b");
    publish_messages(&mosquitto, "somebody", vec![line]);
    wait_until("the line is told", PATIENCE, || history(&bridge, &[]).1.contains("kept on b"));

    // When one of two masters is away, then what the other says is no answer
    second.kill();
    wait_until("the name server has noticed", PATIENCE, || history(&bridge, &[]).0 == Some(1));
    let (_, refused) = history(&bridge, &[]);
    assert!(refused.contains("broker-b is away") && refused.contains("--partial"), "{refused}");
    let (code, partly) = history(&bridge, &["--partial"]);
    assert!(code == Some(4) && partly.contains("broker-b is away"), "{partly}");
    unknown(&bridge, "grpc", TOPIC, "broker-b");
    unknown(&bridge, "never", TOPIC, "broker-b");
    unknown(&bridge, "grpc", ONLY_ON_B, "no such topic on the brokers that are there");
    metric_says(&bridge, None);
    // and a process that was started meanwhile knows it as well
    bridge.kill();
    bridge.start_again_without_waiting();
    wait_until("the bridge answers", PATIENCE, || bridge.get("/healthz").is_some());
    unknown(&bridge, "grpc", TOPIC, "broker-b");
    metric_says(&bridge, None);
    second.start_again();
    metric_says(&bridge, Some(4.0));
    let (code, whole) = history(&bridge, &[]);
    assert!(code == Some(0) && whole.contains("kept on b"), "{whole}");

    // When nobody is there
    second.kill();
    rocketmq.kill_broker();
    unknown(&bridge, "grpc", TOPIC, "no broker");
    metric_says(&bridge, None);

    // When they are back with access control, and we have no keys, then the broker's words are told
    let conf = rocketmq.scratch().join("broker.conf");
    let open = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, open + ACCESS_CONTROL).unwrap();
    rocketmq.start_broker();
    second.start_again();
    unknown(&bridge, "grpc", TOPIC, "username cannot be null");
    unknown(&bridge, "grpc", TOPIC, "rocketmq.access_key");
}

const ACCESS_CONTROL: &str = "authenticationEnabled=true\n\
     authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider\n\
     authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider\n\
     initAuthenticationUser={\"username\":\"admin\",\"password\":\"a-secret-of-9\"}\n\
     innerClientAuthenticationCredentials={\"accessKey\":\"admin\",\"secretKey\":\"a-secret-of-9\"}\n\
     authorizationEnabled=true\n\
     authorizationProvider=org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider\n\
     authorizationMetadataProvider=org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider\n";
