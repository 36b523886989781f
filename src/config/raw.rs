//! The values that the user wrote, key by key. Nothing is checked here, and no default is known.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub data_dir: Option<PathBuf>,
    pub mqtt: RawMqtt,
    pub rocketmq: RawRocketMq,
    pub binding: Vec<RawBinding>,
    pub pipeline: RawPipeline,
    pub spool: RawSpool,
    pub dead_letter: RawDeadLetter,
    pub http: RawHttp,
    pub log: RawLog,
    pub shutdown: RawShutdown,
    pub origin: RawOrigin,
    pub downlink: Vec<RawDownlink>,
    pub classroom: Option<RawClassroom>,
    pub access: RawAccess,
    pub login: RawLogin,
    pub web: RawWeb,
    pub archive: RawArchive,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDownlink {
    pub topic: Option<String>,
    pub mqtt_topic: Option<String>,
    pub start: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClassroom {
    pub send_topic: Option<String>,
    pub heard_topic: Option<String>,
    /// Older name of `send_topic`.
    pub send: Option<String>,
    /// Older name of `heard_topic`.
    pub room: Option<String>,
    pub audit_topic: Option<String>,
    pub teacher_groups: Option<Vec<String>>,
    pub student_groups: Option<Vec<String>>,
    pub client_per_s: Option<u64>,
    pub client_burst: Option<u64>,
    pub room_per_s: Option<u64>,
    pub room_burst: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAccess {
    pub access_key: Option<String>,
    pub instance: Option<String>,
    pub secret: Option<SecretString>,
    pub secret_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLogin {
    pub listen: Option<String>,
    pub open: Option<bool>,
    pub secret: Option<SecretString>,
    pub secret_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWeb {
    pub listen: Option<String>,
    pub websocket_url: Option<String>,
    pub login_url: Option<String>,
    pub hosts: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawArchive {
    pub dir: Option<PathBuf>,
    pub store: Option<String>,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key: Option<String>,
    pub secret_key: Option<SecretString>,
    pub secret_key_file: Option<PathBuf>,
    pub single_writer: Option<bool>,
    pub topics: Option<Vec<String>>,
    pub leave_out: Option<Vec<String>>,
    pub cut_every_s: Option<u64>,
    pub rocketmq_keeps_h: Option<u64>,
    pub lesson_gap_s: Option<u64>,
    pub students_see: Option<String>,
    pub text_fields: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMqtt {
    pub url: Option<String>,
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub keep_alive_s: Option<u64>,
    pub session_expiry_s: Option<u64>,
    pub receive_maximum: Option<u64>,
    pub max_packet_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRocketMq {
    pub name_servers: Option<Vec<String>>,
    pub access_key: Option<String>,
    pub secret_key: Option<SecretString>,
    pub secret_key_file: Option<PathBuf>,
    pub producer_group: Option<String>,
    pub send_timeout_ms: Option<u64>,
    pub create_topics: Option<bool>,
    pub queues_per_new_topic: Option<u64>,
    pub max_message_bytes: Option<u64>,
    pub accept_not_durable: Option<bool>,
    pub lag: Vec<RawLag>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLag {
    pub group: Option<String>,
    pub topic: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBinding {
    pub filter: Option<String>,
    pub topic: Option<String>,
    pub tag: Option<String>,
    pub room: Option<String>,
    pub kind: Option<String>,
    pub order_key: Option<String>,
    pub order_key_field: Option<String>,
    pub sender: Option<RawSender>,
}

/// Exactly one of them must be set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSender {
    pub topic_level: Option<u64>,
    pub user_property: Option<String>,
    pub json_field: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPipeline {
    pub batch_messages: Option<u64>,
    pub batch_bytes: Option<u64>,
    pub linger_ms: Option<u64>,
    pub intake_messages: Option<u64>,
    pub intake_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSpool {
    pub enabled: Option<bool>,
    pub after_ms: Option<u64>,
    pub max_bytes: Option<u64>,
    pub max_messages: Option<u64>,
    pub topic_bytes: Option<u64>,
    pub max_age_s: Option<u64>,
    pub when_full: Option<String>,
    pub min_free_bytes: Option<u64>,
    pub drain_batches: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDeadLetter {
    pub topic: Option<String>,
    pub give_up_after_s: Option<u64>,
    pub max_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttp {
    pub listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub level: Option<String>,
    pub format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawShutdown {
    pub drain_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOrigin {
    pub key: Option<SecretString>,
    pub key_file: Option<PathBuf>,
}
