//! A room played again as a user does it: into what is said now, with keys, at its own pace.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::dev::{Dev, stderr, stdout};
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::wait_until;
use crate::support::process::Process;

const SOON: Duration = Duration::from_secs(20);
const ROOM: &str = "room/message/9";

fn say(dev: &Dev, texts: &[&str]) {
    publish_messages(
        dev.mqtt_port(),
        "somebody",
        texts.iter().map(|text| Message::new(ROOM, *text)).collect(),
    );
}

/// A replay that runs, and where its output goes.
struct Running {
    process: Process,
    out: PathBuf,
}

impl Running {
    fn start(dev: &Dev, arguments: &[&str]) -> Self {
        let (out, error) = (dev.scratch().join("replayed"), dev.scratch().join("told"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_roombridge"));
        command.arg("replay").args(arguments).arg("--data").arg(dev.data()).stdin(Stdio::null());
        let (to_out, to_error) = (File::create(&out).unwrap(), File::create(&error).unwrap());
        let process = Process::spawn_speaking_to("replay", command, &error, to_out.into(), to_error.into());
        Self { process, out }
    }

    fn texts(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.out).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let payload =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["payload"].as_str().unwrap().to_owned();
        whole.lines().map(payload).collect()
    }
}

#[test]
fn a_replay_goes_on_into_what_is_said_now_until_it_is_stopped() {
    let dev = Dev::start();
    say(&dev, &["one", "two", "three"]);
    dev.history("9", 3);
    assert!(dev.cli(&["archive", "flush"]).status.success());
    let mut replay = Running::start(&dev, &["9", "--follow", "--speed", "max", "--json"]);
    wait_until("what there was is played", SOON, || replay.texts().len() == 3);
    for text in ["four", "five", "six"] {
        say(&dev, &[text]);
        assert!(dev.cli(&["archive", "flush"]).status.success());
    }
    wait_until("what came is played", SOON, || replay.texts().len() >= 6);
    replay.process.terminate();
    assert!(replay.process.wait_exit(SOON).success(), "that is how it ends");
    assert_eq!(replay.texts(), ["one", "two", "three", "four", "five", "six"]);

    // one that is stopped before its end says so, and where to go on
    let mut stopped = Running::start(&dev, &["9", "--speed", "0.01", "--json"]);
    wait_until("the first line is played", SOON, || !stopped.texts().is_empty());
    stopped.process.terminate();
    assert_eq!(stopped.process.wait_exit(SOON).code(), Some(3));
    assert!(stopped.process.log_text().contains("--start +"), "{}", stopped.process.log_text());
}

#[test]
fn long_pauses_are_shortened_and_a_replay_begins_where_it_is_told_to() {
    let dev = Dev::start();
    for text in ["one", "two", "three"] {
        say(&dev, &[text]);
        std::thread::sleep(Duration::from_millis(1_200));
    }
    let history = dev.history("9", 3);
    let started = Instant::now();
    let played = dev.cli(&["replay", "9", "--speed", "0.01", "--skip-silence", "10ms", "--json"]);
    assert!(played.status.success(), "{}", stderr(&played));
    assert!(started.elapsed() < Duration::from_secs(60), "two pauses of a second each, 100 times as slow");
    assert!(stderr(&played).contains("2 pauses were shortened"), "{}", stderr(&played));
    assert_eq!(String::from_utf8_lossy(&played.stdout).lines().count(), 3);

    let id = history[1]["id"].as_str().unwrap();
    for start in [id, "+1s"] {
        let lines = dev.json_lines(&["replay", "9", "--speed", "max", "--start", start]);
        assert_eq!(lines, history[1..], "{start}");
    }
    let refused = dev.cli(&["replay", "9", "--start", "soon"]);
    assert_eq!(refused.status.code(), Some(2));
    let nowhere = dev.cli(&["replay", "9", "--start", "00000000000000aa-1"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(stderr(&nowhere).contains("00000000000000aa-1"), "{}", stderr(&nowhere));
}

/// A program that reads standard output alone must learn that a part is missing.
#[test]
fn what_rocketmq_does_not_hand_out_is_the_first_line_of_a_replay_for_programs() {
    // given rooms in 8 queues
    const TOPIC: &str = "shrunk-replayed";
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic(TOPIC, 8);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"{TOPIC}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{TOPIC}\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    ));
    let lines = (0..24).map(|room| Message::new(format!("room/message/{room}"), "a line"));
    publish_messages(&mosquitto, "somebody", lines.collect());
    let stored = rocketmq.read_at_least(TOPIC, 24, SOON);
    let hidden = stored.iter().filter(|message| message.queue_id >= 4).count();
    assert!(hidden > 0, "rooms are in both halves of the queues");

    // when half of them are taken from the readers
    rocketmq.update_topic(TOPIC, 4, 6);
    let replay = |options: &[&str]| {
        let config = bridge.config_file();
        let replay = ["replay", "1", "--speed", "max", "--json", "-c", &config];
        roombridge_cli(&[&replay[..], options].concat())
    };
    wait_until("the route has 4 queues", 3 * SOON, || replay(&[]).status.code() == Some(1));

    // then a replay says how many they are, where it is refused and where it plays the rest
    let (refused, partial) = (replay(&[]), replay(&["--partial"]));
    for (output, code) in [(&refused, 1), (&partial, 4)] {
        assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
        let lines = stdout(output);
        let first: Value = serde_json::from_str(lines.lines().next().unwrap_or_default()).unwrap();
        assert_eq!(first, json!({ "not_handed_out": hidden }), "{lines}");
    }
    assert_eq!(stdout(&refused).lines().count(), 1);
}

#[test]
fn on_a_terminal_keys_drive_it() {
    let dev = Dev::start();
    for text in ["one", "two"] {
        say(&dev, &[text]);
        std::thread::sleep(Duration::from_millis(300));
    }
    dev.history("9", 2);
    // given a terminal, and a replay whose second line would come after half a minute
    let replay = format!(
        "{} replay 9 --speed 0.01 --data {}; echo ended with $?; stty -a",
        env!("CARGO_BIN_EXE_roombridge"),
        dev.data().display()
    );
    let shown = dev.scratch().join("shown");
    let mut terminal = Command::new("script");
    terminal
        .args(["--quiet", "--flush", "--return", "--command", &replay])
        .arg(&shown)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut terminal = terminal.spawn().expect("script(1) can be started");
    let text = || fs::read_to_string(&shown).unwrap_or_default();
    wait_until("it plays, and says which keys there are", SOON, || {
        text().contains("one") && text().contains("keys: space pause")
    });
    let mut keys = terminal.stdin.take().unwrap();
    // when it is paused, resumed, and then made a hundred times faster
    keys.write_all(b" ").unwrap();
    wait_until("it rests", SOON, || text().contains("paused at"));
    keys.write_all(b" \x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A").unwrap();
    wait_until("it is faster", SOON, || text().contains("two"));
    drop(keys);
    // then it ends, and the terminal is as it was
    wait_until("it has ended", SOON, || text().contains("ended with 0") && text().contains("isig"));
    assert!(text().contains(" icanon") && text().contains(" echo "), "{}", text());
    terminal.wait().unwrap();
}
