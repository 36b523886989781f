//! What RocketMQ answers instead of storing: its words reach the operator, what they mean is counted, and the connection stays.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::Bridge;
use crate::support::lying_rocketmq::{Lie, LyingRocketMq};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::wait_until;

const SOON: Duration = Duration::from_secs(60);
const TOPIC: &str = "answered";

/// Code and words of an answer, the reason that is counted, and what is said of it.
const ANSWERS: [(i64, &str, &str, &[&str]); 5] = [
    (9_999, "nobody knows \u{1b}[31m this", "refused", &["code 9999, nobody knows \\\\u{1b}[31m this"]),
    (
        1,
        "org.apache.rocketmq.acl.common.AclException: Check signature failed for accessKey=roombridge",
        "no_permission",
        &["Check signature failed", "rocketmq.access_key"],
    ),
    (
        16,
        "User:none has no permission to access Topic:answered from 127.0.0.1, no matched policies.",
        "no_permission",
        &["no permission to access Topic:answered", "rocketmq.access_key"],
    ),
    (
        14,
        "service not available now. the broker's disk is full [CL: 0.92 CQ: 0.92 INDEX: 0.92]",
        "disk_full",
        &["CL: 0.92", "make room"],
    ),
    (
        29,
        "request queueId[7] is illegal, TopicConfig [topicName=answered, readQueueNums=4]",
        "queue_missing",
        &["queueId[7]", "fewer queues than before"],
    ),
];

#[test]
fn what_the_broker_answers_is_told_and_counted_for_what_it_says_and_the_connection_stays() {
    // Given a bridge that stores
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic(TOPIC, 1);
    let lies = LyingRocketMq::start(rocketmq);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"answers\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{TOPIC}\"\n",
        mosquitto.url(),
        lies.name_server()
    ));
    let stored = || bridge.metrics().books().stored;
    let failures =
        |reason: &str| bridge.metrics().value("roombridge_send_failures_total", &[("reason", reason)]);
    publish_messages(&mosquitto, "somebody", vec![Message::new("room/message/1", "the first")]);
    wait_until("the first is stored", SOON, || stored() == 1.0);
    let connections = lies.told().connections;

    let mut logged = HashSet::new();
    for (number, (code, words, reason, told)) in (2..).zip(ANSWERS) {
        // When the broker answers so
        let before = failures(reason);
        lies.lie(Lie::Says(code, words));
        publish_messages(&mosquitto, "somebody", vec![Message::new("room/message/1", format!("{number}"))]);

        // Then its words, and what to do, are told by /readyz and in the log, and it counts as there
        wait_until(&format!("{told:?} is told"), SOON, || {
            let (_, body) = bridge.get("/readyz").unwrap_or_default();
            told.iter().all(|told| body.contains(told))
        });
        let (status, body) = bridge.get("/readyz").unwrap();
        let report: Value = serde_json::from_str(&body).unwrap();
        assert!(status == 200 && report["rocketmq"]["reachable"] == true, "{report}");
        assert!(failures(reason) > before, "{reason}");
        // The log has one line for each cause in some time.
        let words = words.split_once('\u{1b}').map_or(words, |(before, _)| before);
        assert!(!logged.insert(reason) || bridge.log_text().contains(words), "{words}");

        // And when it stores again, then that is over
        lies.tell_the_truth();
        wait_until("it is stored", SOON, || stored() == f64::from(number));
        wait_until("nothing is missing", SOON, || {
            let (_, body) = bridge.get("/readyz").unwrap_or_default();
            serde_json::from_str::<Value>(&body)
                .is_ok_and(|report| report["missing"] == serde_json::json!([]))
        });
    }
    assert_eq!(failures("transport"), 0.0);
    assert_eq!(lies.told().connections, connections, "no new connection for an answer");
}
