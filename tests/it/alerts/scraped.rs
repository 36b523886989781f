//! A real Prometheus, as Debian brings it, beside a real bridge: its metrics are what the rules ask for.

use std::collections::BTreeSet;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;

use super::promtool::rules_file;
use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::Bridge;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions, Persistence};
use crate::support::mqtt_client::publish_all;
use crate::support::ports::wait_until;
use crate::support::prometheus::Prometheus;

fn rules() -> String {
    std::fs::read_to_string(rules_file()).expect("deploy/alerts.yml can be read")
}

fn forgetful_mosquitto() -> Mosquitto {
    Mosquitto::start(MosquittoOptions { persistence: Persistence::Off, ..MosquittoOptions::default() })
}

/// With everything that has metrics of its own.
fn config(mosquitto: &Mosquitto, topic: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{topic}\"\n\
         [rocketmq]\nname_servers = [\"{}\"]\nmax_message_bytes = 4096\n\
         [[rocketmq.lag]]\ngroup = \"archive\"\ntopic = \"{topic}\"\n\
         [pipeline]\nbatch_bytes = 4096\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n\
         [[downlink]]\ntopic = \"{topic}\"\nmqtt_topic = \"down\"\n[archive]\n",
        mosquitto.url(),
        ApacheRocketMq::shared().name_server()
    )
}

fn address(bridge: &Bridge) -> String {
    bridge.url("").trim_start_matches("http://").to_owned()
}

/// Names of ours, and of the process, that the rules ask for.
fn asked_for(rules: &str) -> BTreeSet<&str> {
    let words =
        rules.split(|character: char| !(character.is_ascii_alphanumeric() || "_:".contains(character)));
    words.filter(|word| word.starts_with("roombridge_") || word.starts_with("process_")).collect()
}

#[test]
fn a_session_that_was_lost_and_a_dead_letter_before_the_first_scrape_are_told() {
    ApacheRocketMq::shared().create_topic("alerts-early", 1);
    let mut mosquitto = forgetful_mosquitto();
    let prometheus = Prometheus::start(&rules(), "sidecars");

    // Given a broker that forgot the session while the bridge was away, and a message that is too large
    let mut bridge = Bridge::start(&config(&mosquitto, "alerts-early"));
    bridge.terminate();
    bridge.wait_exit(Duration::from_secs(30));
    mosquitto.stop();
    mosquitto.start_again();
    bridge.start_again();
    let large = "x".repeat(5000);
    publish_all(&mosquitto, "teacher", vec![("room/message/1", large.as_str())], QoS::AtLeastOnce);
    wait_until("it is a dead letter", Duration::from_secs(20), || {
        bridge.metrics().value("roombridge_dead_lettered_total", &[]) == 1.0
    });
    wait_until("the lag is known", Duration::from_secs(20), || {
        bridge.metrics().has("roombridge_consumer_lag_messages")
    });

    // Then all that the rules ask for is there
    let rules = rules();
    wait_until("all that the rules ask for is shown", Duration::from_secs(60), || {
        let metrics = bridge.metrics();
        let missing: Vec<_> = asked_for(&rules).into_iter().filter(|name| !metrics.has(name)).collect();
        if !missing.is_empty() {
            println!("the bridge does not show {missing:?} yet");
        }
        missing.is_empty()
    });

    // When it is scraped for the first time, then both are told, with figures for people
    prometheus.watch(&[&address(&bridge)]);
    let lost = prometheus.wait_fires("RoombridgeSessionLost");
    assert_eq!(lost["labels"]["instance"], address(&bridge));
    assert_eq!(lost["labels"]["job"], "sidecars");
    let dead = prometheus.wait_fires("RoombridgeDeadLetters");
    let summary = format!("{} made dead letters: 1 (too_large, uplink)", address(&bridge));
    assert_eq!(dead["annotations"]["summary"], summary);
    prometheus.wait_silent("RoombridgeDown");
    // No term of it is absent, which would make it absent too.
    assert_eq!(prometheus.value("roombridge:books_difference"), Some(0.0));
    let firing = prometheus.firing();
    assert_eq!(firing.len(), 2, "nothing else is wrong: {firing:#?}");
}

#[test]
fn a_bridge_that_dies_and_one_that_nobody_asks_any_more_are_told_and_so_is_their_return() {
    ApacheRocketMq::shared().create_topic("alerts-down", 1);
    let mosquitto = forgetful_mosquitto();
    let mut bridge = Bridge::start(&config(&mosquitto, "alerts-down"));
    let prometheus = Prometheus::start(&rules(), "sidecars");
    prometheus.watch(&[&address(&bridge)]);
    let known = || prometheus.value("roombridge:up");
    wait_until("Prometheus knows the bridge", Duration::from_secs(20), || known() == Some(1.0));
    prometheus.wait_silent("RoombridgeDown");

    // It dies, and comes back
    bridge.kill();
    let down = prometheus.wait_fires("RoombridgeDown");
    assert_eq!(down["labels"]["instance"], address(&bridge));
    bridge.start_again();
    prometheus.wait_silent("RoombridgeDown");

    // It leaves the discovery, and comes back
    prometheus.watch(&[]);
    let unknown = prometheus.wait_fires("RoombridgeDown");
    assert!(unknown["labels"]["instance"].is_null(), "{unknown}");
    prometheus.watch(&[&address(&bridge)]);
    prometheus.wait_silent("RoombridgeDown");
}
