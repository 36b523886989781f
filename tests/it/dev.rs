//! The first five minutes with `roombridge dev`: nothing installed, everything in one process.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::dev::{Dev, cli_at_home, dev_arguments, stderr, stdout};
use crate::support::mqtt_client::{Message, Publisher, publish_messages};
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::process::run_to_end;
use crate::support::scratch::Scratch;

const TEACHER: &str = "GID_teacher@@@001";
const STUDENT: &str = "GID_student@@@001";

/// What `roombridge history --help` promises for a message that a known client sent once.
const FIELDS: [&str; 16] = [
    "id",
    "room",
    "kind",
    "mqtt_topic",
    "rocketmq_topic",
    "tag",
    "broker",
    "queue_id",
    "queue_offset",
    "received_at",
    "stored_at",
    "qos",
    "client_id",
    "properties",
    "payload",
    "duplicates",
];

fn payloads(history: &[Value]) -> Vec<&str> {
    history.iter().map(|message| message["payload"].as_str().unwrap_or("(no text)")).collect()
}

fn fields(message: &Value) -> BTreeSet<&str> {
    message.as_object().unwrap().keys().map(String::as_str).collect()
}

/// As people without an MQTT 5 client do it.
#[track_caller]
fn publish_with_mqtt_3(dev: &Dev, client_id: &str, topic: &str, payload: &str) {
    let mut command = Command::new("mosquitto_pub");
    command
        .args(["-h", "127.0.0.1", "-p", &dev.mqtt_port().to_string(), "-q", "1"])
        .args(["-V", "mqttv311", "-i", client_id, "-t", topic, "-m", payload]);
    let output = run_to_end(command, Duration::from_secs(10));
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_message_of_a_newcomer_is_in_the_history_with_all_that_is_known_of_it() {
    // given a fresh dev
    let dev = Dev::start();
    println!("ready after {:?}", dev.ready_after);

    // when a student, who claims to be the teacher, a teacher with MQTT 3.1.1 and a machine speak in room 7
    let claim = Message::new("room/message/7", "hi").user_property("x-mqtt-client-id", TEACHER);
    let bytes: Vec<u8> = (0..=255).collect();
    publish_messages(dev.mqtt_port(), STUDENT, vec![claim.user_property("mood", "good")]);
    publish_with_mqtt_3(&dev, TEACHER, "room/message/7", "\u{4f60}\u{597d}");
    let odd = [&bytes[..], &[]].map(|payload| Message::new("room/message/7", payload));
    publish_messages(dev.mqtt_port(), "machine", odd.into());

    // then the history shows the four in order, with the ids that the broker verified
    let history = dev.history("7", 4);
    let senders: Vec<_> = history.iter().map(|message| &message["client_id"]).collect();
    assert_eq!(senders, [STUDENT, TEACHER, "machine", "machine"]);
    assert_eq!(payloads(&history), ["hi", "\u{4f60}\u{597d}", "(no text)", ""]);
    let binary = history[2]["payload_base64"].as_str().unwrap();
    assert_eq!(STANDARD.decode(binary).unwrap(), bytes);

    // and with the documented fields, no more and no less
    assert_eq!(fields(&history[0]), BTreeSet::from(FIELDS));
    let with_bytes: BTreeSet<_> =
        FIELDS.map(|field| if field == "payload" { "payload_base64" } else { field }).into();
    assert_eq!(fields(&history[2]), with_bytes);
    let first = &history[0];
    for (field, value) in [
        ("room", "7"),
        ("kind", "message"),
        ("mqtt_topic", "room/message/7"),
        ("rocketmq_topic", "room"),
        ("tag", "message/7"),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    assert_eq!((&first["qos"], &first["duplicates"]), (&Value::from(1), &Value::from(0)));
    let user_properties = first["properties"]["mqtt5UserProperty"].as_str().unwrap();
    assert_eq!(user_properties, r#"[{"key":"mood","value":"good"}]"#);

    // and people read it without --json
    let text = stdout(&dev.cli(&["history", "7", "--limit", "2"]));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("base64") && text.trim_end().ends_with("(empty)"), "{text}");
}

#[test]
fn the_commands_that_the_banner_proposes_work_as_they_stand_there() {
    // given a dev as it is without any argument, with its class, and one without
    for arguments in [&[][..], &["--auth", "none"]] {
        the_commands_of_the_banner_work(&Dev::start_with(arguments));
    }
}

#[test]
fn without_a_class_the_banner_speaks_of_none_and_a_notice_says_why_nobody_hears_it() {
    let dev = Dev::start_with(&["--auth", "none"]);
    let banner = dev.output();
    assert!(!banner.contains("Open the classroom") && banner.contains("There is no class"), "{banner}");
    let refused = dev.cli(&["notice", "7", "five more minutes"]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("--auth none"), "{}", stderr(&refused));
}

#[test]
fn what_lies_on_the_bare_topic_is_found_by_the_name_of_the_topic() {
    let dev = Dev::start();
    let say = |topic: &str, payload: &str| publish_with_mqtt_3(&dev, TEACHER, topic, payload);
    say("room", "to everybody");
    say("room/message/7/private", "deeper");
    say("room/message/7", "to room 7");
    dev.history("7", 1);
    for (topic, payload) in
        [("room", "to everybody"), ("room/message/7/private", "deeper"), ("room/message/7", "to room 7")]
    {
        let found = dev.json_lines(&["history", "--mqtt-topic", topic]);
        assert_eq!(payloads(&found), [payload], "{topic}");
    }
    let refused = dev.cli(&["history", "--mqtt-topic", "room/#"]);
    assert!(stderr(&refused).contains("without + and #"), "{}", stderr(&refused));
}

/// Retained messages, sessions and all that RocketMQ stored: what was said in a room is nobody else's.
#[test]
fn other_users_of_this_machine_read_nothing_that_dev_keeps() {
    use std::os::unix::fs::PermissionsExt;
    let mut dev = Dev::start();
    let open = || -> Vec<String> {
        let folders = std::fs::read_dir(dev.data()).unwrap().map(|entry| entry.unwrap());
        let others_can_read =
            folders.filter(|entry| entry.metadata().unwrap().permissions().mode() & 0o077 != 0);
        others_can_read.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(open(), Vec::<String>::new());
    // What an earlier version left is closed.
    let folders: Vec<_> = std::fs::read_dir(dev.data()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(folders.iter().any(|path| path.ends_with("mqtt")), "{folders:?}");
    dev.terminate();
    dev.wait_exit(Duration::from_secs(20));
    for folder in ["mqtt", "rocketmq"] {
        std::fs::set_permissions(dev.data().join(folder), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dev.start_again();
    let mode =
        |folder: &str| std::fs::metadata(dev.data().join(folder)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("mqtt"), mode("rocketmq")), (0o700, 0o700));
}

#[track_caller]
fn the_commands_of_the_banner_work(dev: &Dev) {
    let output = dev.output();
    let (_, tries) = output.split_once("try, in another terminal:").expect("the banner proposes commands");
    let commands: String = tries
        .lines()
        .take_while(|line| !line.starts_with("Ready"))
        .filter(|line| !line.trim_start().starts_with("curl"))
        .map(|line| format!("{line}\n"))
        .collect();
    let history = commands.lines().find(|line| line.contains(" history ")).unwrap();
    let (publish, read) = commands.split_at(commands.find(history).unwrap());

    shell(dev, publish);
    // A person is slower than the way to the store.
    dev.history("123456", 1);
    let shown = shell(dev, read);
    assert_eq!(shown.matches("\"msg\":\"hello\"").count(), 2, "once for history, once for replay:\n{shown}");
}

#[track_caller]
fn shell(dev: &Dev, script: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).env("HOME", dev.scratch().path());
    let output = run_to_end(shell, Duration::from_secs(60));
    assert!(output.status.success(), "{script}\n{}", stderr(&output));
    stdout(&output)
}

#[test]
fn a_lesson_is_replayed_in_order_at_its_pace_and_to_mqtt_without_being_stored_again() {
    // given a lesson of six messages, half a second apart, and a command that belongs to no room
    let dev = Dev::start();
    let lesson = Publisher::paced(dev.mqtt_port(), STUDENT, 2, |number| {
        Message::new("room/message/9", format!("word {number}")).user_property("n", &number.to_string())
    });
    lesson.wait_acknowledged(6, Duration::from_secs(20));
    let said = lesson.finish().made;
    publish_with_mqtt_3(&dev, TEACHER, "room/command", "mute");
    dev.wait_stored(said as f64 + 1.0);
    let history = dev.history("9", said as usize);
    let words: Vec<_> = (0..said).map(|number| format!("word {number}")).collect();
    assert_eq!(payloads(&history), words);

    // then it can be replayed at once, and four times as fast as it was
    assert_eq!(dev.json_lines(&["replay", "9", "--speed", "max", "--from", "1h"]), history);
    let arrived_ms =
        |message: &Value| -> u64 { message["properties"]["rbArrivedMs"].as_str().unwrap().parse().unwrap() };
    let original = Duration::from_millis(arrived_ms(history.last().unwrap()) - arrived_ms(&history[0]));
    let (lines, whole, took) = timed_replay(&dev, &["replay", "9", "--speed", "4"]);
    println!("original {original:?}, replayed in {took:?}");
    assert_eq!(lines, said);
    // No line is early, counted from the start; a busy machine may show the first one late.
    assert!(
        whole >= original / 4 && took < original * 3 / 4,
        "{original:?} / 4 in {took:?}, {whole:?} with its start"
    );

    // and to MQTT, where a listener gets payload and properties, and roombridge itself gets nothing
    let listener = Subscriber::start(dev.mqtt_port(), "listener", "again/#");
    let output = dev.cli(&["replay", "9", "--speed", "max", "--to-mqtt", "again"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let replayed = listener.wait_for(said as usize, Duration::from_secs(10));
    for (number, (publish, original)) in replayed.iter().zip(&history).enumerate() {
        assert_eq!(publish.topic, "again/room/message/9".as_bytes());
        assert_eq!(publish.payload, format!("word {number}").as_bytes());
        let properties = publish.properties.as_ref().unwrap().user_properties.clone();
        let of = |wanted: &str| properties.iter().find(|(name, _)| name == wanted).unwrap().1.clone();
        assert_eq!((of("n"), of("rbReplay").into()), (number.to_string(), original["id"].clone()));
    }
    publish_with_mqtt_3(&dev, TEACHER, "room/message/9", "one more");
    assert_eq!(dev.history("9", said as usize + 1).len() as u64, said + 1);
    assert_eq!(dev.metrics().books().received, said as f64 + 2.0);
    assert!(dev.metrics().books().balanced());

    // and a prefix that would be stored again is refused
    let refused = dev.cli(&["replay", "9", "--to-mqtt", "room"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("room/#"), "{}", stderr(&refused));

    // and what belongs to no room is found by its tag
    let commands = dev.json_lines(&["history", "--tag", "command"]);
    assert_eq!(payloads(&commands), ["mute"]);
    assert_eq!((&commands[0]["kind"], commands[0].get("room")), (&Value::from("command"), None));
}

/// How many lines came, and how long it took from the first to the last.
/// How many lines, how long from the start of the command, how long from the first line to the last.
fn timed_replay(dev: &Dev, arguments: &[&str]) -> (u64, Duration, Duration) {
    let mut command = Command::new("timeout");
    command
        .args(["60", env!("CARGO_BIN_EXE_roombridge")])
        .args(arguments)
        .arg("--data")
        .arg(dev.data())
        .stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().expect("timeout(1) can be started");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let times: Vec<Instant> = lines.map(|line| line.map(|_| Instant::now()).unwrap()).collect();
    assert!(child.wait().unwrap().success());
    let last = times.last().unwrap();
    let (whole, span) = (last.duration_since(started), last.duration_since(times[0]));
    (times.len() as u64, whole, span)
}

#[test]
fn messages_of_yesterday_are_there_after_a_stop_and_after_a_kill() {
    // given a dev that was stopped in order
    let mut dev = Dev::start();
    let mut ready = vec![dev.ready_after];
    publish_with_mqtt_3(&dev, STUDENT, "room/message/1", "yesterday");
    dev.history("1", 1);
    let stopping = Instant::now();
    dev.terminate();
    let status = dev.wait_exit(Duration::from_secs(15));
    println!("stopped after {:?}", stopping.elapsed());
    assert_eq!(status.code(), Some(0), "{}", dev.output());
    assert!(stopping.elapsed() < Duration::from_secs(5));
    let nobody = dev.cli(&["history", "1"]);
    assert_eq!(nobody.status.code(), Some(1));

    // when it is started again, yesterday's message is there, and today's comes behind it
    dev.start_again();
    ready.push(dev.ready_after);
    publish_with_mqtt_3(&dev, STUDENT, "room/message/1", "today");
    assert_eq!(payloads(&dev.history("1", 2)), ["yesterday", "today"]);

    // and when it is killed, a command says so, and the next start has everything
    dev.kill();
    let stale = dev.cli(&["history", "1"]);
    assert_eq!(stale.status.code(), Some(1));
    assert!(stderr(&stale).contains("start `roombridge dev` again"), "{}", stderr(&stale));
    dev.start_again();
    ready.push(dev.ready_after);
    publish_with_mqtt_3(&dev, STUDENT, "room/message/1", "tomorrow");
    assert_eq!(payloads(&dev.history("1", 3)), ["yesterday", "today", "tomorrow"]);
    assert!(dev.metrics().books().balanced());

    println!("ready after {ready:?}");
    // One of three: other tests use the machine as well.
    assert!(ready.iter().any(|after| *after < Duration::from_secs(2)), "{ready:?}");
}

#[test]
fn what_cannot_start_says_what_is_in_the_way_and_what_to_type() {
    // a taken MQTT port
    let home = Scratch::new("home");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = home.join("data").display().to_string();
    let mut arguments = dev_arguments(&data);
    let place = arguments.iter().position(|argument| *argument == "--mqtt-port").unwrap();
    arguments[place + 1] = &port;
    let output = cli_at_home(&home, &arguments);
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains(&port) && error.contains("--mqtt-port"), "{error}");

    // a second dev on the folder of the first, which goes on undisturbed
    let dev = Dev::start();
    let data = dev.data().display().to_string();
    let output = cli_at_home(&home, &dev_arguments(&data));
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("in use by another running process") && error.contains("--data"), "{error}");
    publish_with_mqtt_3(&dev, STUDENT, "room/message/1", "still here");
    assert_eq!(payloads(&dev.history("1", 1)), ["still here"]);

    // a history of nothing: neither a dev nor a configuration
    let output = cli_at_home(&home, &["history", "1"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
    let error = stderr(&output);
    assert!(error.contains("start `roombridge dev`") && error.contains("-c FILE"), "{error}");
}
