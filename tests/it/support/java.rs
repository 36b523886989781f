//! Apache RocketMQ's own Java programs: its admin tool, and the small programs of tests/apache that use its client.
//!
//! They share no code with roombridge, so they can testify about what roombridge stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::java_programs;
use super::process::run_to_end;
use super::scratch::Scratch;

/// One stored message as Apache's client shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JavaMessage {
    pub topic: String,
    pub tags: Option<String>,
    pub keys: Option<String>,
    pub queue_id: u32,
    pub queue_offset: u64,
    /// All of them, also TAGS, KEYS and UNIQ_KEY.
    pub properties: BTreeMap<String, String>,
    #[serde(rename = "bodyBase64", deserialize_with = "from_base64")]
    pub body: Vec<u8>,
    pub store_timestamp: i64,
    pub born_timestamp: i64,
}

impl JavaMessage {
    pub fn body_text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }
}

/// A message for Apache's client to store: one that did not come from MQTT.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMessage {
    pub topic: String,
    pub tags: Option<String>,
    pub keys: Option<String>,
    pub properties: BTreeMap<String, String>,
    #[serde(rename = "bodyBase64", serialize_with = "to_base64")]
    pub body: Vec<u8>,
    /// How a body of more than 4096 bytes is compressed: LZ4, ZSTD or ZLIB, which is the default.
    pub compression: Option<&'static str>,
}

impl NewMessage {
    pub fn new(topic: &str, body: impl Into<Vec<u8>>) -> NewMessage {
        NewMessage { topic: topic.to_owned(), body: body.into(), ..NewMessage::default() }
    }

    pub fn tags(mut self, tags: &str) -> NewMessage {
        self.tags = Some(tags.to_owned());
        self
    }

    pub fn compression(mut self, kind: &'static str) -> NewMessage {
        self.compression = Some(kind);
        self
    }

    pub fn keys(mut self, keys: &str) -> NewMessage {
        self.keys = Some(keys.to_owned());
        self
    }

    pub fn property(mut self, name: &str, value: &str) -> NewMessage {
        self.properties.insert(name.to_owned(), value.to_owned());
        self
    }
}

fn to_base64<S: serde::Serializer>(body: &[u8], output: S) -> Result<S::Ok, S::Error> {
    output.serialize_str(&STANDARD.encode(body))
}

fn from_base64<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(input)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

/// `java` with Apache RocketMQ and tests/apache on its class path; the caller adds the class to run.
pub fn java(options: &[&str], home: &Path) -> Command {
    let class_path = format!("{}:{}/*", classes().display(), jars().display());
    let mut command = Command::new("java");
    command
        .args(options)
        .arg(format!("-Duser.home={}", home.display()))
        // RocketMQ unpacks a library of 12 MB there at each start, and leaves it.
        .arg(format!("-Djava.io.tmpdir={}", home.display()))
        .arg("-cp")
        .arg(class_path);
    command.env("ROCKETMQ_HOME", home).env_remove("NAMESRV_ADDR").env_remove("JAVA_TOOL_OPTIONS");
    command
}

fn jars() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/apache-rocketmq");
    assert!(
        folder.join("complete").exists(),
        "Apache RocketMQ is not in {}: run scripts/setup test",
        folder.display()
    );
    folder.join("lib")
}

// For programs that live a second or two: start fast, leave both cores to the brokers.
const SHORT_LIVED: [&str; 3] = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Apache's `mqadmin`; panics when it fails, returns what it printed. Takes 4 to 8 seconds, most of it to end.
#[track_caller]
pub fn mqadmin(name_server: &str, arguments: &[&str]) -> String {
    let mut command = java(&SHORT_LIVED, home().path());
    command.arg("org.apache.rocketmq.tools.command.MQAdminStartup").args(arguments).args(["-n", name_server]);
    let output = run_to_end(command, Duration::from_secs(60));
    let text = both_streams(&output);
    // It ends with status 0 even when it printed a stack trace.
    assert!(output.status.success() && !text.contains("Exception"), "mqadmin {arguments:?}: {text}");
    text
}

/// Returns when the name server knows the topics, each with its number of queues.
#[track_caller]
pub fn create_topics(name_server: &str, broker: &str, topics: &[(&str, u32)]) {
    let topics: Vec<String> = topics.iter().map(|(name, queues)| format!("{name}={queues}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    java_programs::run("CreateTopics", &[&[name_server, broker], &topics[..]].concat());
}

/// Deletes the topic and makes it anew; returns when the name server knows it.
#[track_caller]
pub fn remake_topic(name_server: &str, broker: &str, topic: &str, queues: u32) {
    java_programs::run("RemakeTopic", &[name_server, broker, topic, &queues.to_string()]);
}

/// Stores `messages` one after the other; panics unless RocketMQ answers SEND_OK to each.
#[track_caller]
pub fn send_messages(name_server: &str, messages: &[NewMessage]) {
    let folder = Scratch::new("send");
    let lines: Vec<String> =
        messages.iter().map(|message| serde_json::to_string(message).expect("a message is JSON")).collect();
    let file = folder.write("messages.jsonl", &lines.join("\n"));
    java_programs::run("SendMessages", &[name_server, file.to_str().expect("a path in UTF-8")]);
}

/// Every message of `topic` that matches `tag_expression` (`*` = all), queue by queue in the order of the offsets.
#[track_caller]
pub fn read_topic(name_server: &str, topic: &str, tag_expression: &str) -> Vec<JavaMessage> {
    java_programs::run("ReadTopic", &[name_server, topic, tag_expression])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}

/// What a program printed, without the hundreds of lines that Apache's logger prints about itself.
fn both_streams(output: &Output) -> String {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| !line.contains(" |-")).collect::<Vec<_>>().join("\n")
}

/// The folder for what Java programs write to their home (logs), one for the whole test process.
pub fn home() -> &'static Scratch {
    static HOME: OnceLock<Scratch> = OnceLock::new();
    HOME.get_or_init(|| Scratch::new("java-home"))
}

/// tests/apache compiled, once per test process: running a source directly would compile it each time.
fn classes() -> &'static Path {
    static CLASSES: OnceLock<PathBuf> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let classes = home().join("classes");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apache");
        let mut command = Command::new("javac");
        command.arg("-nowarn").arg("-cp").arg(format!("{}/*", jars().display())).arg("-d").arg(&classes);
        command.args(
            [
                "CreateTopics.java",
                "Programs.java",
                "ReadBodies.java",
                "ReadTopic.java",
                "RemakeTopic.java",
                "SendMessages.java",
                "StartBroker.java",
            ]
            .map(|name| sources.join(name)),
        );
        let output = run_to_end(command, Duration::from_secs(60));
        assert!(output.status.success(), "javac: {}", both_streams(&output));
        classes
    })
}
