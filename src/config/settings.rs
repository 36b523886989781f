//! The validated configuration, in the types that the program uses.
//!
//! Promises: plain data; `Debug` masks every secret, because secrets are `SecretString`.
//! Must never: hold a value that `validate` did not check.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::{Kind, StartAt, WebHost, WhenFull};

/// Everything that one process needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of everything that must survive a restart.
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
    /// `None` = there is no classroom.
    pub classroom: Option<ClassroomConfig>,
    /// `Some` whenever `login.listen` or `web.listen` is set.
    pub access: Option<AccessConfig>,
    pub login: LoginConfig,
    pub web: WebConfig,
    /// `None` = nothing is archived.
    pub archive: Option<ArchiveConfig>,
}

/// The MQTT broker and our session on it.
#[derive(Debug, Clone)]
pub struct MqttConfig {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// TCP port of the broker.
    pub port: u16,
    /// `Some` for `mqtts://`.
    pub tls: Option<TlsConfig>,
    /// Names our session on the broker, which keeps unacknowledged messages.
    pub client_id: String,
    /// `None` = log in without a name.
    pub username: Option<String>,
    /// Only together with `username`.
    pub password: Option<SecretString>,
    /// At least 5 s.
    pub keep_alive: Duration,
    /// How long the broker keeps our session while we are away.
    pub session_expiry: Duration,
    /// So many messages may be unacknowledged at once.
    pub receive_maximum: u16,
    /// The largest packet that the broker may send us.
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
    /// Both keys or neither.
    pub secret_key: Option<SecretString>,
    /// RocketMQ group that we write as.
    pub producer_group: String,
    /// How long one send waits for the answer.
    pub send_timeout: Duration,
    /// Whether the bridge creates topics that are missing.
    pub create_topics: bool,
    /// Queues of a topic that the bridge creates, 1 to 256.
    pub queues_per_new_topic: u32,
    /// RocketMQ's limit for a message, body and properties together.
    pub max_message_bytes: usize,
    /// Take a message as stored although a flush or a replica did not answer in time (such as FLUSH_DISK_TIMEOUT). A crash of
    /// the RocketMQ broker can then lose acknowledged messages.
    pub accept_not_durable: bool,
    /// Groups whose lag is measured.
    pub lag: Vec<LagConfig>,
}

/// A consumer group whose lag on a topic is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LagConfig {
    /// RocketMQ consumer group.
    pub group: String,
    /// RocketMQ topic that the group reads.
    pub topic: String,
}

/// One binding. Templates are plain texts here; the room `binding` compiles them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingConfig {
    /// MQTT topic filter.
    pub filter: String,
    /// Template of the RocketMQ topic.
    pub topic: String,
    /// Template of the tag.
    pub tag: String,
    /// Template of the room; `None` = the default rule.
    pub room: Option<String>,
    /// Template of the kind; `None` = the default rule.
    pub kind: Option<String>,
    /// Template of the order key; `None` = the default rule.
    pub order_key: Option<String>,
    /// Field of a JSON payload that names a room, which is then the order key; goes before `order_key`. `None` = no such field.
    pub order_key_field: Option<String>,
    /// Where the sender is named; `None` = senders are not stored.
    pub sender: Option<SenderSource>,
}

/// Where a message names its sender. MQTT itself does not tell a subscriber who published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderSource {
    /// Level of the MQTT topic, from 0.
    TopicLevel(usize),
    /// MQTT 5 user property of this name.
    UserProperty(String),
    /// Field of a JSON payload.
    JsonField(String),
    /// The embedded broker names it; `dev` sets this, a file cannot.
    EmbeddedBroker,
}

/// Sizes of batches, and bounds of the messages in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineConfig {
    /// Most messages of one send.
    pub batch_messages: usize,
    /// At most `rocketmq.max_message_bytes`.
    pub batch_bytes: usize,
    /// How long a lane waits for more messages before it sends.
    pub linger: Duration,
    /// At least `mqtt.receive_maximum`.
    pub intake_messages: usize,
    /// At least `mqtt.max_packet_bytes`.
    pub intake_bytes: usize,
}

/// The spool: messages on the local disk while RocketMQ cannot take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// `false` = the bridge has no spool.
    pub enabled: bool,
    /// A lane goes to the spool when its oldest message has waited so long.
    pub after: Duration,
    /// At least twice `rocketmq.max_message_bytes`.
    pub max_bytes: u64,
    /// Most messages in the spool.
    pub max_messages: u64,
    /// Share of one RocketMQ topic that refuses messages while the others take them; at most `max_bytes`.
    pub topic_bytes: u64,
    /// Older messages are given up; `None` = kept until RocketMQ has them.
    pub max_age: Option<Duration>,
    /// What happens to a message that finds the spool full.
    pub when_full: WhenFull,
    /// Free space that the spool leaves on the disk.
    pub min_free_bytes: u64,
    /// Batches of spooled messages that are sent at the same time.
    pub drain_batches: usize,
}

/// Where messages go that can never be stored where they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterConfig {
    /// RocketMQ topic; `None` = the local store only.
    pub topic: Option<String>,
    /// How long RocketMQ may refuse permission for a topic before its messages become dead letters.
    pub give_up_after: Duration,
    /// Bound of the local store; at least `rocketmq.max_message_bytes`.
    pub max_bytes: u64,
}

/// The listener of metrics and health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Its address and port.
    pub listen: SocketAddr,
}

/// What is logged, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// An `EnvFilter` directive.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds of a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// After so long, a stop no longer waits for messages on their way.
    pub drain: Duration,
}

/// The deployment's key, with which `rbOrigin` marks messages from MQTT.
#[derive(Debug, Clone)]
pub struct OriginConfig {
    /// `None` = `data_dir` keeps a key, which is drawn at the first start.
    pub key: Option<SecretString>,
}

/// One RocketMQ topic whose messages are published on MQTT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownlinkConfig {
    /// RocketMQ topic that is read.
    pub topic: String,
    /// MQTT parent topic below which they are published.
    pub mqtt_topic: String,
    /// Where to begin in a topic that was never read before.
    pub start: StartAt,
}

/// The live classroom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassroomConfig {
    /// MQTT parent topic that clients publish below; differs from `heard_topic`.
    pub send_topic: String,
    /// MQTT parent topic that clients subscribe below.
    pub heard_topic: String,
    /// RocketMQ topic of the records of mutes, notices and refused requests.
    pub audit_topic: String,
    /// Groups (the part of a client id before `@@@`) whose clients are teachers.
    pub teacher_groups: Vec<String>,
    /// Other groups whose RocketMQ status topics the classroom reads, too.
    pub student_groups: Vec<String>,
    /// Requests a second of one client.
    pub client_per_s: u32,
    /// Requests of one client at once, after a pause.
    pub client_burst: u32,
    /// Lines a second in one room.
    pub room_per_s: u32,
    /// Lines in one room at once, after a pause.
    pub room_burst: u32,
}

/// The names that tokens and signatures must have, and the secret that proves them.
#[derive(Debug, Clone)]
pub struct AccessConfig {
    /// Second part of the vendor's usernames.
    pub access_key: String,
    /// Third part of the vendor's usernames.
    pub instance: String,
    /// Signs tokens and signature passwords.
    pub secret: SecretString,
}

/// The listener that gives tokens.
#[derive(Debug, Clone)]
pub struct LoginConfig {
    /// Its address and port; `None` = there is no login.
    pub listen: Option<SocketAddr>,
    /// Whether everybody gets a student's token.
    pub open: bool,
    /// Secret that a caller shows to get other tokens, such as a teacher's; `None` = nobody gets those.
    pub secret: Option<SecretString>,
}

/// The public listener: pages and API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    /// Its address and port; `None` = there are no pages.
    pub listen: Option<SocketAddr>,
    /// Where the pages find the MQTT broker; the bridge cannot know how browsers reach it. `None` = the user types it.
    pub websocket_url: Option<String>,
    /// Where the pages find the login; `None` = our own listener, if there is one.
    pub login_url: Option<String>,
    /// Names under which browsers may reach us, beside the address itself.
    pub hosts: Vec<WebHost>,
}

/// The archive of what RocketMQ held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// Where the pieces go instead; `None` = into the folder.
    pub bucket: Option<BucketConfig>,
    /// RocketMQ topics; `None` = those that the bindings and the classroom name.
    pub topics: Option<Vec<String>>,
    /// Messages of these kinds are counted and not archived.
    pub leave_out: Vec<Kind>,
    /// How long a message may be in RocketMQ only.
    pub cut_every: Duration,
    /// How long RocketMQ keeps a message by its own settings.
    pub rocketmq_keeps: Duration,
    /// A longer silence ends a lesson.
    pub lesson_gap: Duration,
    /// What of a room's past students get on the pages.
    pub students_see: StudentsSee,
    /// Of a body that is a JSON object, these fields are searched.
    pub text_fields: Vec<String>,
}

/// What of a room's past students get on the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StudentsSee {
    /// What was said since the running lesson began.
    Lesson,
    /// Everything.
    All,
}

/// A bucket of S3, or of what speaks its protocol. What is `None` comes from the environment (`AWS_...`), as other programs read it.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "read by the build that speaks to buckets"))]
pub struct BucketConfig {
    /// Its name.
    pub name: String,
    /// What the names of all objects begin with; without a slash at either end.
    pub prefix: String,
    /// `http://HOST:PORT` or `https://HOST`; `None` = that of Amazon.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Who we are.
    pub access_key: Option<String>,
    /// Proves it.
    pub secret_key: Option<SecretString>,
    /// Nobody else writes there, so a store that cannot create an object only if it is absent will do.
    pub single_writer: bool,
}

impl PartialEq for BucketConfig {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Eq for BucketConfig {}
