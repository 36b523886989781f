//! What becomes of the commands, and of a bridge, when nobody takes what they write: the reader has gone
//! (`| head -1`), does not read (a stopped `less`), the disk is full, or the stream was closed before the start (`>&-`).

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::Bridge;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::{free_port, wait_until};
use crate::support::process::run_to_end_speaking_to;
use crate::support::streams::{on_a_full_disk, unread, without_reader};

const SOON: Duration = Duration::from_secs(30);
const BINARY: &str = env!("CARGO_BIN_EXE_roombridge");

/// What stands in for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taker {
    Reads,
    HasGone,
    DiskIsFull,
    WasClosed,
}

const NOBODY: [Taker; 3] = [Taker::HasGone, Taker::DiskIsFull, Taker::WasClosed];

impl Taker {
    fn stdio(self) -> Stdio {
        match self {
            Taker::Reads => Stdio::piped(),
            Taker::HasGone => without_reader(),
            Taker::DiskIsFull => on_a_full_disk(),
            // The shell closes it.
            Taker::WasClosed => Stdio::null(),
        }
    }
}

#[track_caller]
fn run(arguments: &[&str], out: Taker, error: Taker) -> Output {
    let closed = |taker, redirection| match taker {
        Taker::WasClosed => redirection,
        _ => "",
    };
    let mut command = Command::new("sh");
    let script = format!("exec \"$0\" \"$@\" {} {}", closed(out, ">&-"), closed(error, "2>&-"));
    command.args(["-c", &script, BINARY]).args(arguments);
    run_to_end_speaking_to(command, SOON, out.stdio(), error.stdio())
}

fn config(mosquitto: &Mosquitto, name_server: &str, topic: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{topic}\"\n[rocketmq]\nname_servers = [\"{name_server}\"]\n\
         [spool]\nmin_free_bytes = 0\n[[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n",
        mosquitto.url()
    )
}

/// Answers each request as a bridge answers a notice.
fn classroom() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            // The body ends with the only brace.
            while !asked.ends_with(b"}") && stream.read(&mut byte).unwrap() == 1 {
                asked.push(byte[0]);
            }
            let body = "{\"id\":\"0123456789abcdef-1\"}";
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
        }
    });
    format!("http://{address}")
}

const TOKEN: &str = "token issue --secret 0123456789abcdef";

/// Every subcommand as a command line, with its exit code when somebody reads what it writes. The last one takes the dead
/// letter away.
fn commands(file: &str, letter: &str, classroom: &str, issued: &str) -> Vec<(String, i32)> {
    let of_config = [
        ("explain room/message/1", 0),
        ("explain room/message/1 --json", 0),
        ("check", 0),
        ("check --connect", 0),
        ("history 1", 0),
        ("history 1 --json", 0),
        ("history 2", 0),
        ("replay 1 --speed max", 0),
        ("replay 2", 0),
        ("replay 1 --speed max --to-mqtt again", 0),
        ("lag --group nobody --topic unread", 0),
        ("spool", 0),
        ("spool --json", 0),
        ("spool drain", 0),
        ("spool drain --json", 0),
        ("deadletter list", 0),
        ("deadletter list --local", 0),
        (&format!("deadletter show {letter}"), 0),
        ("deadletter show 0000000000000000-0", 1),
        ("deadletter resend --all", 1),
        ("deadletter resend --all --json", 1),
        ("deadletter purge 0000000000000000-0", 1),
        (&format!("notice 1 hello --secret s --url {classroom}"), 0),
    ];
    let alone = [
        ("--help", 0),
        ("--version", 0),
        ("help run", 0),
        ("deadletter resend --help", 0),
        ("", 2),
        ("explain", 2),
        ("check -c /nowhere.toml", 2),
        ("completion bash", 0),
        ("completion fish", 0),
        (TOKEN, 0),
        (&format!("token inspect {}", issued), 0),
        ("token inspect nonsense", 1),
    ];
    let of_config = of_config.map(|(line, code)| (format!("{line} -c {file}"), code));
    let alone = alone.map(|(line, code)| (line.to_owned(), code));
    let purge = [(format!("deadletter purge --all -c {file}"), 0)];
    of_config.into_iter().chain(alone).chain(purge).collect()
}

/// Each subcommand ends with its exit code, and never by a panic, although nobody reads what it writes.
#[test]
fn each_command_ends_well_although_nobody_takes_what_it_writes() {
    // given a bridge that has stored one message, put another aside as a dead letter, and stopped
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("unread", 1)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let small = config(&mosquitto, &rocketmq.name_server(), "unread")
        .replace("[spool]", "max_message_bytes = 65536\n[spool]");
    let mut bridge = Bridge::start(&small);
    let large = vec![b'x'; 100_000];
    publish_messages(
        &mosquitto,
        "somebody",
        vec![Message::new("room/message/1", "hi"), Message::new("room/message/1", large)],
    );
    wait_until("both have ended", SOON, || {
        let books = bridge.metrics().books();
        (books.stored, books.dead_lettered) == (1.0, 1.0)
    });
    bridge.terminate();
    bridge.wait_exit(SOON);
    rocketmq.read_at_least("unread", 1, SOON);
    let file = bridge.config_file();
    let listed = run(&["deadletter", "list", "--local", "--json", "-c", &file], Taker::Reads, Taker::Reads);
    let letter: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let letter = letter["id"].as_str().unwrap().to_owned();
    let classroom = classroom();
    let issued = run(&TOKEN.split(' ').collect::<Vec<_>>(), Taker::Reads, Taker::Reads);
    let issued = String::from_utf8(issued.stdout).unwrap();

    let commands = commands(&file, &letter, &classroom, issued.trim());
    let mut wrong = Vec::new();
    for (line, code) in &commands {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        // Whether it has anything to say on standard output.
        let read = run(&arguments, Taker::Reads, Taker::Reads);
        let speaks = !read.stdout.is_empty();
        let mut expect = |out: Taker, error: Taker, code: i32| {
            let output = run(&arguments, out, error);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let sentences = said.matches("No space left").count();
            let expected = usize::from(out == Taker::DiskIsFull && speaks && error == Taker::Reads);
            if output.status.code() != Some(code) || said.contains("panicked") || sentences != expected {
                wrong.push(format!("{line} > {out:?} 2> {error:?}: {:?}\n{said}", output.status));
            }
        };
        expect(Taker::Reads, Taker::Reads, *code);
        for nobody in NOBODY {
            let for_full = if speaks { 1 } else { *code };
            let of_out = if nobody == Taker::DiskIsFull { for_full } else { *code };
            expect(nobody, Taker::Reads, of_out);
            expect(Taker::Reads, nobody, *code);
        }
        expect(Taker::HasGone, Taker::HasGone, *code);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `resend --all | head -1`: the reader goes after the first line, or before it.
#[test]
fn a_resend_goes_on_to_the_last_letter_although_nobody_reads() {
    for taker in [Taker::HasGone, Taker::DiskIsFull] {
        // given five dead letters of the local store, whose cause is gone
        let topic = format!("unread-{taker:?}");
        let rocketmq = ApacheRocketMq::shared();
        rocketmq.create_topics(&[(&topic, 1)]);
        let mosquitto = Mosquitto::start(MosquittoOptions::default());
        let config = config(&mosquitto, &rocketmq.name_server(), &topic)
            .replace("[spool]", "max_message_bytes = 65536\n[spool]");
        // Those of other stories lie in the topic of all.
        let bridge = Bridge::start(&(config + "[dead_letter]\ntopic = \"\"\n"));
        let letters = (0..5_u8).map(|number| Message::new("room/message/1", vec![b'0' + number; 100_000]));
        publish_messages(&mosquitto, "somebody", letters.collect());
        wait_until("all are dead letters", SOON, || bridge.metrics().books().dead_lettered == 5.0);
        let file = bridge.config_file();
        let old = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, old.replace("65536", "262144")).unwrap();

        // when they are sent again, and nobody takes the report
        let output = run(&["deadletter", "resend", "--all", "-c", &file], taker, Taker::Reads);

        // then all of them are stored, and the code says what is true
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = i32::from(taker == Taker::DiskIsFull);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("5 sent again, 0 still dead"), "{said}");
        assert_eq!(rocketmq.read_at_least(&topic, 5, SOON).len(), 5);
        let left = run(&["deadletter", "list", "--local", "-c", &file], Taker::Reads, Taker::Reads);
        assert!(String::from_utf8_lossy(&left.stdout).contains("no dead letters"));
    }
}

/// A bridge whose log goes there outlives a restart of its MQTT broker, which it logs, and stops when it is told to.
#[track_caller]
fn bridge_lives_and_stops(error: Stdio, least_lost: f64) {
    let mut mosquitto = Mosquitto::start(MosquittoOptions::default());
    let nowhere = format!("127.0.0.1:{}", free_port());
    let config = config(&mosquitto, &nowhere, "unlogged") + "[log]\nlevel = \"trace\"\n";
    let mut bridge = Bridge::start_speaking_to(&config, &[], Some(error));
    let connected = |bridge: &Bridge| {
        let up = |metrics: &crate::support::metrics::Metrics| {
            metrics.value("roombridge_mqtt_connected", &[]) == 1.0
        };
        bridge.get("/metrics").is_some() && up(&bridge.metrics())
    };
    wait_until("the bridge is connected", SOON, || connected(&bridge));
    mosquitto.kill();
    wait_until("the bridge sees its broker go", SOON, || !connected(&bridge));
    mosquitto.start_again();
    wait_until("the bridge is connected again", SOON, || connected(&bridge));
    publish_messages(&mosquitto, "somebody", vec![Message::new("room/message/1", "hi")]);
    wait_until("a message is in the spool", SOON, || bridge.metrics().books().spool_depth == 1.0);
    let lost = bridge.metrics().value("roombridge_log_lines_lost_total", &[]);
    assert!(lost >= least_lost, "what was not written is counted");
    bridge.assert_books_balanced();

    bridge.terminate();
    assert_eq!(bridge.wait_exit(SOON).code(), Some(0));
}

#[test]
fn a_bridge_whose_log_has_lost_its_reader_lives_and_stops() {
    bridge_lives_and_stops(without_reader(), 1.0);
}

#[test]
fn a_bridge_whose_log_nobody_reads_lives_and_stops() {
    let (error, reader) = unread();
    // The first 4,096 lines wait for it.
    bridge_lives_and_stops(error, 0.0);
    drop(reader);
}

#[test]
fn a_bridge_whose_log_is_on_a_full_disk_lives_and_stops() {
    bridge_lives_and_stops(on_a_full_disk(), 1.0);
}
