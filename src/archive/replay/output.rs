//! Where a replay goes: to MQTT under a prefix, or to a stream as lines.

use std::io::Write;

use futures::future::BoxFuture;
use jiff::tz::TimeZone;

use super::error::ReplayError;
use crate::archive::record::Record;
use crate::model::{MqttMessage, MqttProperties, Qos, TopicFilter};
use crate::pipeline::ports::Publisher;

/// User properties that brokers and gateways add to a delivery. They say nothing about the message, so a replay drops them.
const TRANSPORT_PREFIX: &str = "x-mqtt-";
/// Marks a replayed message and names the original.
const REPLAY_OF: &str = "rbReplay";

/// Takes the records of a replay.
pub(crate) trait ReplayOutput: Send {
    /// Returns when the record is written, or acknowledged by the broker.
    fn play<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, Result<(), ReplayError>>;
}

/// The first levels of all topics of a replay: `PREFIX/{original topic}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

/// Why a prefix cannot be used.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPrefix {
    #[error(
        "{0:?} is no topic prefix: it must not be empty, begin or end with /, begin with $, or hold +, # or control characters"
    )]
    Syntax(String),
    #[error(
        "topics under {prefix:?} match the binding {filter:?}: the replay would be stored again as new messages; choose another prefix, such as replay"
    )]
    Loop { prefix: String, filter: String },
}

impl Prefix {
    /// Refuses a prefix under which a topic could match one of the filters that roombridge subscribes to.
    pub(crate) fn new<'a>(
        text: &str,
        filters: impl IntoIterator<Item = &'a TopicFilter>,
    ) -> Result<Self, BadPrefix> {
        let wrong = text.is_empty()
            || text.starts_with(['/', '$'])
            || text.ends_with('/')
            || text.contains(|c: char| c == '+' || c == '#' || c.is_control());
        if wrong {
            return Err(BadPrefix::Syntax(text.to_owned()));
        }
        // Matches each topic with these first levels and at least one more.
        let below =
            TopicFilter::parse(&format!("{text}/+/#")).map_err(|_| BadPrefix::Syntax(text.to_owned()))?;
        for filter in filters {
            if filter.overlaps(&below) {
                return Err(BadPrefix::Loop { prefix: text.to_owned(), filter: filter.to_string() });
            }
        }
        Ok(Self(text.to_owned()))
    }

    fn topic(&self, original: &str) -> String {
        format!("{}/{original}", self.0)
    }
}

/// Publishes a replay under a prefix.
pub(crate) struct MqttOutput<'a> {
    /// The connection to the MQTT broker.
    pub publisher: &'a mut dyn Publisher,
    /// Stands before each topic.
    pub prefix: Prefix,
}

impl ReplayOutput for MqttOutput<'_> {
    fn play<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, Result<(), ReplayError>> {
        Box::pin(async move { Ok(self.publisher.publish(message_of(record, &self.prefix)).await?) })
    }
}

fn message_of(record: &Record, prefix: &Prefix) -> MqttMessage {
    let mut user_properties: Vec<_> = record
        .mqtt_user_properties
        .iter()
        .filter(|(name, _)| !name.starts_with(TRANSPORT_PREFIX) && name != REPLAY_OF)
        .cloned()
        .collect();
    let original = match record.id {
        Some(id) => id.to_string(),
        None => {
            format!("{}/{}/{}/{}", record.rocketmq_topic, record.broker, record.queue_id, record.queue_offset)
        }
    };
    user_properties.push((REPLAY_OF.to_owned(), original));
    MqttMessage {
        topic: prefix.topic(&record.mqtt_topic),
        payload: record.bytes.clone(),
        qos: Qos::AtLeastOnce,
        properties: MqttProperties {
            user: user_properties,
            content_type: record.content_type.clone(),
            ..MqttProperties::default()
        },
    }
}

/// Writes a replay as lines, and flushes each.
pub(crate) struct LineOutput<'a> {
    /// Takes the lines.
    pub out: &'a mut (dyn Write + Send),
    /// JSON if `true`, else text for people.
    pub json: bool,
    /// Time zone of the text for people.
    pub zone: TimeZone,
}

impl ReplayOutput for LineOutput<'_> {
    fn play<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, Result<(), ReplayError>> {
        Box::pin(async move {
            record.write(self.out, self.json, &self.zone)?;
            self.out.flush()?;
            Ok(())
        })
    }
}
