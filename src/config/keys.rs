//! The table of keys: each key, its type, and whether a variable can set it.
//!
//! Promises: tests compare it with the raw structs and with `config/roombridge.toml`, so that no key is missing in one of them.

use Kind::{Boolean, Integer, Table, Tables, Text, TextList};

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Never negative.
    Integer,
    Boolean,
    TextList,
    Table,
    Tables,
}

#[derive(Debug)]
pub(super) struct Key {
    /// Table and key, joined by a dot; without the index of an array of tables.
    pub path: &'static str,
    pub kind: Kind,
    /// `false` inside arrays of tables, because a variable could not say which table it means.
    pub from_environment: bool,
}

const fn key(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, from_environment: true }
}

const fn file_only(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, from_environment: false }
}

pub(super) const KEYS: &[Key] = &[
    key("data_dir", Text),
    file_only("mqtt", Table),
    key("mqtt.url", Text),
    key("mqtt.client_id", Text),
    key("mqtt.username", Text),
    key("mqtt.password", Text),
    key("mqtt.password_file", Text),
    key("mqtt.ca_file", Text),
    key("mqtt.keep_alive_s", Integer),
    key("mqtt.session_expiry_s", Integer),
    key("mqtt.receive_maximum", Integer),
    key("mqtt.max_packet_bytes", Integer),
    file_only("rocketmq", Table),
    key("rocketmq.name_servers", TextList),
    key("rocketmq.access_key", Text),
    key("rocketmq.secret_key", Text),
    key("rocketmq.secret_key_file", Text),
    key("rocketmq.producer_group", Text),
    key("rocketmq.send_timeout_ms", Integer),
    key("rocketmq.create_topics", Boolean),
    key("rocketmq.queues_per_new_topic", Integer),
    key("rocketmq.max_message_bytes", Integer),
    key("rocketmq.accept_not_durable", Boolean),
    file_only("rocketmq.lag", Tables),
    file_only("rocketmq.lag.group", Text),
    file_only("rocketmq.lag.topic", Text),
    file_only("binding", Tables),
    file_only("binding.filter", Text),
    file_only("binding.topic", Text),
    file_only("binding.tag", Text),
    file_only("binding.room", Text),
    file_only("binding.kind", Text),
    file_only("binding.order_key", Text),
    file_only("binding.order_key_field", Text),
    file_only("binding.sender", Table),
    file_only("binding.sender.topic_level", Integer),
    file_only("binding.sender.user_property", Text),
    file_only("binding.sender.json_field", Text),
    file_only("pipeline", Table),
    key("pipeline.batch_messages", Integer),
    key("pipeline.batch_bytes", Integer),
    key("pipeline.linger_ms", Integer),
    key("pipeline.intake_messages", Integer),
    key("pipeline.intake_bytes", Integer),
    file_only("spool", Table),
    key("spool.enabled", Boolean),
    key("spool.after_ms", Integer),
    key("spool.max_bytes", Integer),
    key("spool.max_messages", Integer),
    key("spool.topic_bytes", Integer),
    key("spool.max_age_s", Integer),
    key("spool.when_full", Text),
    key("spool.min_free_bytes", Integer),
    key("spool.drain_batches", Integer),
    file_only("dead_letter", Table),
    key("dead_letter.topic", Text),
    key("dead_letter.give_up_after_s", Integer),
    key("dead_letter.max_bytes", Integer),
    file_only("http", Table),
    key("http.listen", Text),
    file_only("log", Table),
    key("log.level", Text),
    key("log.format", Text),
    file_only("shutdown", Table),
    key("shutdown.drain_s", Integer),
    file_only("origin", Table),
    key("origin.key", Text),
    key("origin.key_file", Text),
    file_only("downlink", Tables),
    file_only("downlink.topic", Text),
    file_only("downlink.mqtt_topic", Text),
    file_only("downlink.start", Text),
    file_only("classroom", Table),
    key("classroom.send_topic", Text),
    key("classroom.heard_topic", Text),
    key("classroom.send", Text),
    key("classroom.room", Text),
    key("classroom.audit_topic", Text),
    key("classroom.teacher_groups", TextList),
    key("classroom.student_groups", TextList),
    key("classroom.client_per_s", Integer),
    key("classroom.client_burst", Integer),
    key("classroom.room_per_s", Integer),
    key("classroom.room_burst", Integer),
    file_only("access", Table),
    key("access.access_key", Text),
    key("access.instance", Text),
    key("access.secret", Text),
    key("access.secret_file", Text),
    file_only("login", Table),
    key("login.listen", Text),
    key("login.open", Boolean),
    key("login.secret", Text),
    key("login.secret_file", Text),
    file_only("web", Table),
    key("web.listen", Text),
    key("web.websocket_url", Text),
    key("web.login_url", Text),
    key("web.hosts", TextList),
    file_only("archive", Table),
    key("archive.dir", Text),
    key("archive.store", Text),
    key("archive.endpoint", Text),
    key("archive.region", Text),
    key("archive.access_key", Text),
    key("archive.secret_key", Text),
    key("archive.secret_key_file", Text),
    key("archive.single_writer", Boolean),
    key("archive.topics", TextList),
    key("archive.leave_out", TextList),
    key("archive.cut_every_s", Integer),
    key("archive.rocketmq_keeps_h", Integer),
    key("archive.lesson_gap_s", Integer),
    key("archive.students_see", Text),
    key("archive.text_fields", TextList),
];

pub(super) const VARIABLE_PREFIX: &str = "ROOMBRIDGE_";

/// Variables that are no keys: the command line reads the path of the file, `telemetry` reads the log filter.
const VARIABLES_READ_ELSEWHERE: &[&str] = &["ROOMBRIDGE_CONFIG", "ROOMBRIDGE_LOG"];

impl Kind {
    /// How to write such a value, for the error about a wrong type.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Text => "text in quotes",
            Integer => "a whole number, not negative, without quotes or unit",
            Boolean => "true or false, without quotes",
            TextList => "a list of texts, for example [\"one\", \"two\"]",
            Table => "a table with its own keys",
            Tables => "an array of tables: a header in double brackets for each, for example [[binding]]",
        }
    }
}

impl Key {
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.path.replace('.', "_").to_uppercase())
    }
}

pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

pub(super) fn find_variable(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.from_environment && key.variable() == name)
}

pub(super) fn is_read_elsewhere(variable: &str) -> bool {
    VARIABLES_READ_ELSEWHERE.contains(&variable)
}

/// What to do about a key that does not exist.
pub(super) fn remedy_for_key(path: &str) -> String {
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    if let Some(moved) = KEYS.iter().find(|key| leaf(key.path) == leaf(path)) {
        return format!("did you mean {}? (it belongs into another table)", moved.path);
    }
    match nearest(path, KEYS.iter().map(|key| key.path.to_owned())) {
        Some(known) => format!("did you mean {known}?"),
        None => "remove it, or look it up in the commented config/roombridge.toml".to_owned(),
    }
}

/// What to do about a variable that does not exist.
pub(super) fn remedy_for_variable(name: &str) -> String {
    match nearest(name, KEYS.iter().filter(|key| key.from_environment).map(Key::variable)) {
        Some(known) => format!("did you mean {known}?"),
        None => {
            format!("unset it: {VARIABLE_PREFIX} begins only the names of keys in config/roombridge.toml")
        }
    }
}

fn nearest(wrong: &str, known: impl Iterator<Item = String>) -> Option<String> {
    // At most half of a short name may differ, or every short name would be a typo of another.
    let tolerated = |candidate: &str| (2 + wrong.len() / 5).min(candidate.len() / 2);
    known
        .map(|candidate| (strsim::levenshtein(wrong, &candidate), candidate))
        .filter(|(distance, candidate)| *distance <= tolerated(candidate))
        .min()
        .map(|(_, candidate)| candidate)
}
