//! The validated configuration, in the types that the program works with.
//!
//! Promises: plain data; `Debug` masks every secret, because secrets are `SecretString`.
//! Must never: hold a value that `validate` did not look at.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::{StartAt, WhenFull};

/// Everything that one process needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub mqtt: MqttConfig,
    pub rocketmq: RocketMqConfig,
    /// Never empty, in the order of the file; no filter stands twice.
    pub bindings: Vec<BindingConfig>,
    pub pipeline: PipelineConfig,
    pub spool: SpoolConfig,
    pub dead_letter: DeadLetterConfig,
    pub http: HttpConfig,
    pub log: LogConfig,
    pub shutdown: ShutdownConfig,
    pub origin: OriginConfig,
    /// No RocketMQ topic stands twice.
    pub downlinks: Vec<DownlinkConfig>,
    pub classroom: Option<ClassroomConfig>,
    /// There whenever `login.listen` or `web.listen` is.
    pub access: Option<AccessConfig>,
    pub login: LoginConfig,
    pub web: WebConfig,
}

/// The MQTT broker and our session on it.
#[derive(Debug, Clone)]
pub struct MqttConfig {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// `Some` for `mqtts://`.
    pub tls: Option<TlsConfig>,
    pub client_id: String,
    pub username: Option<String>,
    /// Only together with `username`.
    pub password: Option<SecretString>,
    /// At least 5 s.
    pub keep_alive: Duration,
    pub session_expiry: Duration,
    pub receive_maximum: u16,
    pub max_packet_bytes: u32,
}

/// TLS towards the MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// The RocketMQ cluster and how we write to it.
#[derive(Debug, Clone)]
pub struct RocketMqConfig {
    /// Each as `host:port`, never empty.
    pub name_servers: Vec<String>,
    /// Both keys or neither.
    pub access_key: Option<String>,
    pub secret_key: Option<SecretString>,
    pub producer_group: String,
    pub send_timeout: Duration,
    pub create_topics: bool,
    pub queues_per_new_topic: u32,
    pub max_message_bytes: usize,
    /// Take FLUSH_DISK_TIMEOUT and its like for stored; weakens the promise.
    pub accept_not_durable: bool,
    pub lag: Vec<LagConfig>,
}

/// A consumer group whose lag on a topic is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LagConfig {
    pub group: String,
    pub topic: String,
}

/// One rule; templates are plain text here, `binding` compiles them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingConfig {
    pub filter: String,
    pub topic: String,
    pub tag: String,
    /// `None` here and in the next two is the default rule.
    pub room: Option<String>,
    pub kind: Option<String>,
    pub order_key: Option<String>,
    /// Field of a JSON payload that holds a room; before `order_key`.
    pub order_key_field: Option<String>,
    pub sender: Option<SenderSource>,
}

/// Where the sender's identity stands; a subscriber is not told it by MQTT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderSource {
    /// Level of the MQTT topic, from 0.
    TopicLevel(usize),
    UserProperty(String),
    /// Field of a JSON payload.
    JsonField(String),
    /// The embedded broker tells us; set by `dev`, never by a file.
    EmbeddedBroker,
}

/// Sizes of batches and the bounds of what is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineConfig {
    pub batch_messages: usize,
    /// At most `rocketmq.max_message_bytes`.
    pub batch_bytes: usize,
    pub linger: Duration,
    /// At least `mqtt.receive_maximum`.
    pub intake_messages: usize,
    /// At least `mqtt.max_packet_bytes`.
    pub intake_bytes: usize,
}

/// What is kept on the local disk while RocketMQ cannot take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    pub enabled: bool,
    /// A lane whose oldest message waits longer goes to the disk.
    pub after: Duration,
    /// At least twice `rocketmq.max_message_bytes`.
    pub max_bytes: u64,
    pub max_messages: u64,
    /// Share of one RocketMQ topic whose messages are refused for a reason of its own; at most `max_bytes`.
    pub topic_bytes: u64,
    /// `None` = kept until RocketMQ has them.
    pub max_age: Option<Duration>,
    pub when_full: WhenFull,
    /// Free space to leave on the disk.
    pub min_free_bytes: u64,
    /// Batches of spooled messages that are sent at the same time.
    pub drain_batches: usize,
}

/// Where messages go that can never be stored where they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterConfig {
    /// RocketMQ topic; `None` = the local store only.
    pub topic: Option<String>,
    /// How long a topic may refuse us before its messages become dead letters.
    pub give_up_after: Duration,
    /// Of the local store; at least `rocketmq.max_message_bytes`.
    pub max_bytes: u64,
}

/// The listener of metrics and health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    pub listen: SocketAddr,
}

/// What is logged and how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// An `EnvFilter` directive.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// How long a stop may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownConfig {
    pub drain: Duration,
}

/// The deployment's key that marks what came from MQTT (`rbOrigin`).
#[derive(Debug, Clone)]
pub struct OriginConfig {
    /// `None` = a key that is made once and kept in `data_dir`.
    pub key: Option<SecretString>,
}

/// One RocketMQ topic that goes down to MQTT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownlinkConfig {
    pub topic: String,
    /// The parent topic on MQTT.
    pub mqtt_topic: String,
    pub start: StartAt,
}

/// The live classroom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassroomConfig {
    /// MQTT parent topic that clients publish to; another one than `heard_topic`.
    pub send_topic: String,
    /// MQTT parent topic that clients subscribe to.
    pub heard_topic: String,
    /// RocketMQ topic of what was said, muted and refused.
    pub audit_topic: String,
    /// Groups (the part of a client id before `@@@`) whose clients are teachers.
    pub teacher_groups: Vec<String>,
    /// The other groups whose status topics are followed.
    pub student_groups: Vec<String>,
    pub client_per_s: u32,
    pub client_burst: u32,
    pub room_per_s: u32,
    pub room_burst: u32,
}

/// Who tokens and signatures are for, and the secret behind them.
#[derive(Debug, Clone)]
pub struct AccessConfig {
    pub access_key: String,
    pub instance: String,
    pub secret: SecretString,
}

/// The listener that gives tokens.
#[derive(Debug, Clone)]
pub struct LoginConfig {
    pub listen: Option<SocketAddr>,
    /// Everybody gets a student's token.
    pub open: bool,
    /// For teachers' tokens.
    pub secret: Option<SecretString>,
}

/// The public listener: pages and API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    pub listen: Option<SocketAddr>,
    /// Where the pages find the MQTT broker and the login; the bridge cannot know how browsers reach them.
    pub websocket_url: Option<String>,
    pub login_url: Option<String>,
    /// Names under which browsers may reach us, besides the address itself.
    pub hosts: Vec<String>,
}
