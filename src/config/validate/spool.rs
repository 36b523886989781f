//! The sections `[spool]` and `[dead_letter]`.

use std::time::Duration;

use super::check::number;
use crate::config::document::Places;
use crate::config::error::ConfigError;
use crate::config::raw::{RawDeadLetter, RawSpool};
use crate::config::settings::{BindingConfig, DeadLetterConfig, SpoolConfig};
use crate::model::WhenFull;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
const MOST_BYTES: u64 = 1024 * 1024 * GIB;
const TEN_YEARS_S: u64 = 10 * 365 * 86_400;

/// RocketMQ's own limit for topic names.
const TOPIC_NAME_BYTES: usize = 127;

pub(super) fn spool(
    raw: &RawSpool,
    max_message_bytes: usize,
    places: &Places,
) -> Result<SpoolConfig, ConfigError> {
    let whole = |key: &str, value, default: u64, range| number(places, key, value, default, range);
    let after_ms = whole("spool.after_ms", raw.after_ms, 1000, 100..=60_000)?;
    let max_age_s = whole("spool.max_age_s", raw.max_age_s, 0, 0..=TEN_YEARS_S)?;
    let max_bytes = whole("spool.max_bytes", raw.max_bytes, 4 * GIB, MIB..=MOST_BYTES)?;
    let needed = 2 * max_message_bytes as u64;
    if max_bytes < needed {
        return Err(places.invalid(
            "spool.max_bytes",
            format!("= {max_bytes} is less than twice rocketmq.max_message_bytes: large messages would find no room"),
            format!("write at least {needed}, or lower rocketmq.max_message_bytes"),
        ));
    }
    Ok(SpoolConfig {
        enabled: raw.enabled.unwrap_or(true),
        after: Duration::from_millis(after_ms),
        max_bytes,
        max_messages: whole("spool.max_messages", raw.max_messages, 10_000_000, 1..=1_000_000_000)?,
        topic_bytes: topic_bytes(raw.topic_bytes, max_bytes, max_message_bytes as u64, places)?,
        max_age: (max_age_s > 0).then(|| Duration::from_secs(max_age_s)),
        when_full: when_full(raw.when_full.as_deref(), places)?,
        min_free_bytes: whole("spool.min_free_bytes", raw.min_free_bytes, 256 * MIB, 0..=MOST_BYTES)?,
        drain_batches: number(places, "spool.drain_batches", raw.drain_batches, 4, 1..=64)?,
    })
}

fn topic_bytes(
    raw: Option<u64>,
    max_bytes: u64,
    max_message_bytes: u64,
    places: &Places,
) -> Result<u64, ConfigError> {
    match raw {
        None | Some(0) => Ok(max_bytes / 2),
        Some(bytes) if (max_message_bytes..=max_bytes).contains(&bytes) => Ok(bytes),
        Some(bytes) => Err(places.invalid(
            "spool.topic_bytes",
            format!("= {bytes} is out of range"),
            format!(
                "write 0 (half of spool.max_bytes) or a number from {max_message_bytes} \
                 (rocketmq.max_message_bytes) to {max_bytes} (spool.max_bytes)"
            ),
        )),
    }
}

fn when_full(raw: Option<&str>, places: &Places) -> Result<WhenFull, ConfigError> {
    match raw {
        None | Some("hold") => Ok(WhenFull::Hold),
        Some("drop_oldest") => Ok(WhenFull::DropOldest),
        Some("drop_newest") => Ok(WhenFull::DropNewest),
        Some(other) => Err(places.invalid(
            "spool.when_full",
            format!("= {other:?} is not known"),
            "write \"hold\", \"drop_oldest\" or \"drop_newest\"",
        )),
    }
}

pub(super) fn dead_letter(
    raw: RawDeadLetter,
    max_message_bytes: usize,
    bindings: &[BindingConfig],
    places: &Places,
) -> Result<DeadLetterConfig, ConfigError> {
    let give_up_after_s =
        number(places, "dead_letter.give_up_after_s", raw.give_up_after_s, 3600, 1..=TEN_YEARS_S)?;
    let max_bytes = number(places, "dead_letter.max_bytes", raw.max_bytes, GIB, MIB..=MOST_BYTES)?;
    if max_bytes < max_message_bytes as u64 {
        return Err(places.invalid(
            "dead_letter.max_bytes",
            format!(
                "= {max_bytes} is less than rocketmq.max_message_bytes: a large message would find no room"
            ),
            format!("write at least {max_message_bytes}, or lower rocketmq.max_message_bytes"),
        ));
    }
    Ok(DeadLetterConfig {
        topic: topic(raw.topic, bindings, places)?,
        give_up_after: Duration::from_secs(give_up_after_s),
        max_bytes,
    })
}

fn topic(
    raw: Option<String>,
    bindings: &[BindingConfig],
    places: &Places,
) -> Result<Option<String>, ConfigError> {
    const KEY: &str = "dead_letter.topic";
    let topic = raw.unwrap_or_else(|| "roombridge_dead_letter".to_owned());
    if topic.is_empty() {
        return Ok(None);
    }
    let is_legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    if topic.len() > TOPIC_NAME_BYTES || !topic.chars().all(is_legal) {
        return Err(places.invalid(
            KEY,
            format!("= {topic:?} is no name of a RocketMQ topic"),
            format!(
                "use up to {TOPIC_NAME_BYTES} letters, digits, - and _, or \"\" for the local store only"
            ),
        ));
    }
    // A template can also give this name, but only for an MQTT topic that somebody named so.
    if let Some(index) = bindings.iter().position(|binding| binding.topic == topic) {
        return Err(places.invalid(
            KEY,
            format!(
                "= {topic:?} is also where a binding stores its messages ({})",
                places.of(&format!("binding[{index}].topic"))
            ),
            "name a topic of its own",
        ));
    }
    Ok(Some(topic))
}
