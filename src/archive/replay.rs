//! Plays a history again: at its original pace, faster, slower, or without pauses.
//!
//! The original pace is the one in which the messages were received, because that is what a listener in the room heard. A
//! message never comes early. If the output is slow, late messages come at once and none is left out.

use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::tz::TimeZone;

use super::history::{History, HistoryError};
use super::record::Record;
use crate::model::{Clock, MqttMessage, MqttProperties, Qos, TopicFilter};
use crate::pipeline::ports::{PublishError, Publisher};

/// A silence longer than this is announced, so that nobody takes it for a hang.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// Sleep at most so long before looking at the clock again.
const NAP: Duration = Duration::from_millis(500);
/// User properties that brokers and gateways add to a delivery. They say nothing about the message, so a replay drops them.
const TRANSPORT_PREFIX: &str = "x-mqtt-";
/// Marks a replayed message and names the original.
const REPLAY_OF: &str = "rbReplay";

/// How fast to play.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// 1 is the original pace, 4 is four times as fast.
    Times(f64),
    /// Without any pause.
    Max,
}

/// The text is no speed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no speed: write 1 for the original pace, a factor from 0.01 to 10000 such as 4 or x4, or max"
)]
pub(crate) struct BadSpeed(String);

impl FromStr for Speed {
    type Err = BadSpeed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        let factor = text.strip_prefix(['x', 'X']).unwrap_or(text).parse::<f64>();
        match factor {
            Ok(factor) if (0.01..=10_000.0).contains(&factor) => Ok(Self::Times(factor)),
            Ok(_) | Err(_) => Err(BadSpeed(text.to_owned())),
        }
    }
}

impl Speed {
    fn scaled(self, original: Duration) -> Duration {
        match self {
            Self::Times(factor) => original.div_f64(factor),
            Self::Max => Duration::ZERO,
        }
    }
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// The history could not be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The line could not be written.
    #[error("could not write the replay: {0}")]
    Write(#[from] io::Error),
    /// The MQTT broker did not take the message.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Takes the records of a replay.
pub(crate) trait ReplayOutput: Send {
    /// Returns when the record is written, or acknowledged by the broker.
    fn play<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, Result<(), ReplayError>>;
}

/// What a replay reports while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplayEvent {
    /// A silence of this length begins, longer than [`LONG_PAUSE`].
    Pause(Duration),
    /// So many records were played so far.
    Played(u64),
}

/// Plays the whole history; returns how many records were played.
pub(crate) async fn replay(
    history: &mut History<'_>,
    speed: Speed,
    clock: &dyn Clock,
    output: &mut dyn ReplayOutput,
    watch: &mut (dyn FnMut(ReplayEvent) + Send),
) -> Result<u64, ReplayError> {
    let mut played = 0;
    let mut beginning: Option<(u64, Duration)> = None;
    while let Some(record) = history.next().await? {
        let (first_ms, started) = *beginning.get_or_insert((record.time_ms, clock.monotonic()));
        // If a clock was set back, the time is earlier than the first one: the record is played at once.
        let original = Duration::from_millis(record.time_ms.saturating_sub(first_ms));
        let due = started.saturating_add(speed.scaled(original));
        let ahead = due.saturating_sub(clock.monotonic());
        if ahead > LONG_PAUSE {
            watch(ReplayEvent::Pause(ahead));
        }
        wait_until(due, clock).await;
        output.play(&record).await?;
        played += 1;
        watch(ReplayEvent::Played(played));
    }
    Ok(played)
}

async fn wait_until(due: Duration, clock: &dyn Clock) {
    loop {
        let ahead = due.saturating_sub(clock.monotonic());
        if ahead.is_zero() {
            return;
        }
        tokio::time::sleep(ahead.min(NAP)).await;
    }
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
