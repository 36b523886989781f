//! `roombridge run` in the hands of an operator: credentials, configuration errors, checks, consumer lag and stops.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::{free_port, wait_until};
use crate::support::process::{Process, run_to_end};
use crate::support::scratch::Scratch;

const SOON: Duration = Duration::from_secs(20);
const PASSWORD: &str = "a-Secret-of-9";
const BINARY: &str = env!("CARGO_BIN_EXE_roombridge");

fn config(mqtt: &str, name_server: &str, topic: &str) -> String {
    format!(
        "[mqtt]\n{mqtt}\nclient_id = \"bridge-{topic}\"\n[rocketmq]\nname_servers = [\"{name_server}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n"
    )
}

fn url(mosquitto: &Mosquitto) -> String {
    format!("url = \"{}\"", mosquitto.url())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn wait_log(bridge: &Bridge, words: &str) {
    wait_until(&format!("the log says {words:?}"), SOON, || bridge.log_text().contains(words));
}

/// Status and the sentences about what is missing.
#[track_caller]
fn readiness(bridge: &Bridge) -> (u16, String) {
    let (status, body) = bridge.get("/readyz").expect("the bridge answers /readyz");
    let report: Value = serde_json::from_str(&body).expect("/readyz is JSON");
    assert_eq!(report["ready"], Value::from(status == 200), "{report}");
    (status, report["missing"].to_string())
}

fn secured() -> Mosquitto {
    Mosquitto::start(MosquittoOptions {
        credentials: Some(("bridge".to_owned(), PASSWORD.to_owned())),
        tls: true,
        ..MosquittoOptions::default()
    })
}

#[test]
fn tls_and_a_password_from_a_file_work_and_the_password_is_never_shown() {
    // given a broker that wants TLS and a password, and a bridge that logs all it can
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("secured", 1);
    let mosquitto = secured();
    let folder = Scratch::new("secrets");
    let password_file = folder.write("password", &format!("{PASSWORD}\n"));
    let mqtt = format!(
        "url = \"{}\"\nca_file = \"{}\"\nusername = \"bridge\"\npassword_file = \"{}\"",
        mosquitto.tls_url(),
        mosquitto.certificates().ca_file.display(),
        password_file.display()
    );
    let config = config(&mqtt, &rocketmq.name_server(), "secured");
    let mut bridge = Bridge::start(&(config.clone() + "[log]\nlevel = \"trace\"\n"));

    // then messages flow
    publish_messages(&mosquitto, "somebody", vec![Message::new("room/message/1", "hi")]);
    let stored = rocketmq.read_at_least("secured", 1, SOON);
    assert_eq!(stored[0].body_text(), "hi");
    let checked = roombridge_cli(&["check", "--connect", "-c", &bridge.config_file()]);
    assert!(checked.status.success(), "{}", text(&checked));
    bridge.terminate();
    assert_eq!(bridge.wait_exit(SOON).code(), Some(0));
    assert!(
        !bridge.log_text().contains(PASSWORD) && !text(&checked).contains(PASSWORD),
        "the password is in a log"
    );

    // and an authority that did not sign the broker's certificate is a matter of TLS, said as such
    let stranger = crate::support::certificates::Certificates::new(&folder);
    let trusted = mosquitto.certificates().ca_file.display().to_string();
    let wrong = config.replace(&trusted, &stranger.ca_file.display().to_string());
    let bridge = Bridge::start_without_waiting(&wrong);
    wait_log(&bridge, "an authority that is not trusted here; set mqtt.ca_file");
    assert_eq!(readiness(&bridge).0, 503);
}

#[test]
fn a_wrong_password_is_said_clearly_and_the_right_one_may_come_from_the_environment() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("password", 1);
    let mosquitto = secured();
    let mqtt = format!("{}\nusername = \"bridge\"", url(&mosquitto));

    // given a wrong password
    let wrong = config(&(mqtt.clone() + "\npassword = \"wrong\""), &rocketmq.name_server(), "password");
    let bridge = Bridge::start_without_waiting(&wrong);
    wait_log(&bridge, "check mqtt.username, mqtt.password");
    let (status, missing) = readiness(&bridge);
    assert!(status == 503 && missing.contains("not connected to the MQTT broker"), "{missing}");
    let checked = roombridge_cli(&["check", "--connect", "-c", &bridge.config_file()]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked).contains("FAIL  MQTT"), "{}", text(&checked));

    // when the environment has the right one
    let folder = Scratch::new("environment");
    let (data, port) = (folder.join("data"), free_port());
    let config = config(&mqtt, &rocketmq.name_server(), "password");
    let config = format!("data_dir = \"{}\"\n{config}", data.display());
    let file = folder.write("roombridge.toml", &config);
    let mut command = Command::new(BINARY);
    command
        .args(["run", "-c"])
        .arg(file)
        .env("ROOMBRIDGE_MQTT_PASSWORD", PASSWORD)
        .env("ROOMBRIDGE_HTTP_LISTEN", format!("127.0.0.1:{port}"))
        .env("ROOMBRIDGE_LOG_LEVEL", "trace");
    let process = Process::spawn("roombridge", command, &folder.join("log"));

    // then messages flow, and the log does not hold it
    wait_until("the bridge is subscribed", SOON, || process.log_text().contains("subscribed"));
    publish_messages(&mosquitto, "somebody", vec![Message::new("room/message/1", "hi")]);
    rocketmq.read_at_least("password", 1, SOON);
    assert!(!process.log_text().contains(PASSWORD), "the password is in the log");
}

/// Runs `roombridge run` with that configuration, which must end by itself with that code; returns what it said.
#[track_caller]
fn refused(config: &str, code: i32) -> String {
    let folder = Scratch::new("refused");
    let config = format!("data_dir = \"{}\"\n{config}", folder.join("data").display());
    let file = folder.write("odd.toml", &config);
    let mut command = Command::new(BINARY);
    command.args(["run", "-c"]).arg(file).env("ROOMBRIDGE_HTTP_LISTEN", format!("127.0.0.1:{}", free_port()));
    let output = run_to_end(command, SOON);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

#[test]
fn a_wrong_configuration_ends_with_code_2_and_names_file_and_key() {
    let config = config("url = \"mqtt://127.0.0.1:1\"", "127.0.0.1:2", "room");
    let wrong = |from: &str, to: &str| refused(&config.replace(from, to), 2);
    for (said, wanted) in [
        (wrong("client_id", "clientid"), ["odd.toml line 4", "mqtt.clientid", "client_id"]),
        (wrong("\"bridge-room\"", "7"), ["odd.toml line 4", "mqtt.client_id", "wrong type"]),
        (wrong("client_id", "password = \"x\"\nclient_id"), ["odd.toml", "mqtt.username", "is missing"]),
        (wrong("client_id", "ca_file = \"/x\"\nclient_id"), ["odd.toml line 4", "mqtt.ca_file", "mqtts://"]),
        (
            wrong("client_id", "max_packet_bytes = 99999999\nclient_id"),
            ["odd.toml line 4", "mqtt.max_packet_bytes", "pipeline.intake_bytes"],
        ),
        (wrong("127.0.0.1:2", "nowhere"), ["odd.toml", "rocketmq.name_servers", "host:port"]),
        (wrong("[[binding]]", "[[binding]"), ["odd.toml line", "not TOML", "correct the line"]),
        (wrong("room/#", "room/#/x"), ["odd.toml", "binding 1", "room/#/x"]),
        (wrong("\"room\"", "\"{nope}\""), ["odd.toml", "topic", "{nope}"]),
    ] {
        for words in wanted {
            assert!(said.contains(words), "{words:?} is not in: {said}");
        }
    }
    let missing = roombridge_cli(&["run", "-c", "/nowhere/odd.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("/nowhere/odd.toml"), "{}", text(&missing));
}

/// Hazard 5: another client id would leave a full session behind.
#[test]
fn a_data_directory_belongs_to_one_process_and_one_client_id() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("held", 1);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let mut bridge = Bridge::start(&config(&url(&mosquitto), &rocketmq.name_server(), "held"));

    // a second process is refused while the first runs, which goes on
    let second = roombridge_cli(&["run", "-c", &bridge.config_file()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second).contains("another roombridge") && text(&second).contains("data_dir"),
        "{}",
        text(&second)
    );
    assert_eq!(bridge.get("/readyz").unwrap().0, 200);

    // another client id is refused with the remedy
    bridge.terminate();
    bridge.wait_exit(SOON);
    let old = std::fs::read_to_string(bridge.config_file()).unwrap();
    let renamed = old.replace("bridge-held", "another-name");
    bridge.scratch().write("roombridge.toml", &renamed);
    let refused = roombridge_cli(&["run", "-c", &bridge.config_file()]);
    assert_eq!(refused.status.code(), Some(1));
    for words in ["another-name", "bridge-held", "--accept-new-client-id"] {
        assert!(text(&refused).contains(words), "{}", text(&refused));
    }

    // and taken once it is accepted, from then on without the flag
    let mut command = Command::new(BINARY);
    command.args(["run", "--accept-new-client-id", "-c", &bridge.config_file()]);
    let log = bridge.scratch().join("accepted.log");
    let mut accepted = Process::spawn("roombridge", command, &log);
    wait_until("the new name is accepted", SOON, || {
        bridge.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
    accepted.terminate();
    accepted.wait_exit(SOON);
    bridge.start_again();
    publish_messages(&mosquitto, "somebody", vec![Message::new("room/message/1", "hi")]);
    rocketmq.read_at_least("held", 1, SOON);
}

#[test]
fn without_rocketmq_and_spool_it_lives_says_what_is_missing_and_a_second_signal_stops_it_at_once() {
    // given nobody where the name server should be
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let nobody = format!("127.0.0.1:{}", free_port());
    let without_spool = "[spool]\nenabled = false\n";
    let mut bridge =
        Bridge::start_without_waiting(&(config(&url(&mosquitto), &nobody, "nowhere") + without_spool));
    wait_log(&bridge, "subscribed");
    publish_messages(&mosquitto, "somebody", vec![Message::new("room/message/1", "waits")]);
    wait_until("the message waits", SOON, || bridge.metrics().books().in_flight == 1.0);

    // then it lives, is not ready and says why
    assert_eq!(bridge.get("/healthz"), Some((200, "ok".to_owned())));
    let (status, missing) = readiness(&bridge);
    assert_eq!(status, 503);
    assert!(
        missing.contains("RocketMQ is not reachable since") && !missing.contains("MQTT broker"),
        "{missing}"
    );
    wait_log(&bridge, "its messages wait");
    assert_eq!(bridge.metrics().value("roombridge_store_seconds_count", &[]), 0.0);
    bridge.assert_books_balanced();
    let checked = roombridge_cli(&["check", "--connect", "-c", &bridge.config_file()]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        text(&checked).contains("ok    MQTT") && text(&checked).contains("FAIL  RocketMQ topic nowhere"),
        "{}",
        text(&checked)
    );

    // when it is told to stop, it first waits for RocketMQ; told again, it goes
    bridge.terminate();
    wait_log(&bridge, "a second signal stops at once");
    assert!(bridge.is_running());
    let told_again = Instant::now();
    bridge.terminate();
    let status = bridge.wait_exit(Duration::from_secs(5));
    println!("stopped {:?} after the second signal", told_again.elapsed());
    assert_eq!(status.code(), Some(3), "{}", bridge.log_text());
    assert!(told_again.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_lag_of_a_consumer_group_is_told_by_command_and_by_metric() {
    // given five stored messages, of which a group has consumed two; RocketMQ's admin tools find a group by its retry
    // topic, which a consumer makes when it connects
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("lagging", 1), ("%RETRY%archive", 1)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let lag = "[[rocketmq.lag]]\ngroup = \"archive\"\ntopic = \"lagging\"\n";
    let config = config(&url(&mosquitto), &rocketmq.name_server(), "lagging") + lag;
    let mut bridge = Bridge::start(&config);
    let hello = |number: i32| Message::new("room/message/1", number.to_string());
    publish_messages(&mosquitto, "somebody", (0..5).map(hello).collect());
    rocketmq.read_at_least("lagging", 5, SOON);
    let broker = rocketmq.broker();
    rocketmq.mqadmin(&["updateSubGroup", "-b", &broker, "-g", "archive"]);
    let reset = ["resetOffsetByTime", "-g", "archive", "-t", "lagging", "-s", "now"];
    rocketmq.mqadmin(&[&reset[..], &["-b", &broker, "-q", "0", "-o", "2"]].concat());

    // then the command and the metric say three
    let output = roombridge_cli(&["lag", "--json", "-c", &bridge.config_file()]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!((&told["group"], &told["messages"]), (&"archive".into(), &3.into()), "{told}");
    let table = text(&roombridge_cli(&["lag", "-c", &bridge.config_file()]));
    assert!(table.contains("archive") && table.contains(" 3"), "{table}");
    bridge.kill();
    bridge.start_again();
    let labels = [("group", "archive"), ("topic", "lagging")];
    wait_until("the metric says so", SOON, || {
        let lag = bridge.metrics().value("roombridge_consumer_lag_messages", &labels);
        lag == 3.0
    });
}
