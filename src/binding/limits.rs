//! RocketMQ's limits, which each message must keep before it joins a batch.
//!
//! Promises: RocketMQ 4.9 and 5.x with the configured message limit accept every message that passes.
//! Must never: shorten or repair a message; it is stored as it is, or becomes a dead letter with a reason.

use crate::model::DeadReason;

/// RocketMQ keeps the length of all properties in a signed 16-bit number.
pub(crate) const MAX_PROPERTIES_BYTES: usize = 32_767;

/// Bytes that stay free for properties that client, broker and spool add: UNIQ_KEY, WAIT, TRACE_ON, MSG_REGION, rbSpooled.
pub(crate) const HEADROOM_BYTES: usize = 512;

/// Bytes of the fixed fields and of the topic name of one message in RocketMQ's log.
pub(super) const FRAME_BYTES: usize = 256;

const MAX_TOPIC_BYTES: usize = 127;

/// Topics that RocketMQ keeps for itself, beside all that begin with `rmq_sys_` in upper or lower case.
const RESERVED_TOPICS: [&str; 7] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];

/// Refuses a name that cannot be a RocketMQ topic of ours.
///
/// Stricter than RocketMQ, which also takes `%` and `|` but uses them for retry, dead-letter and light queues.
pub(super) fn check_topic(name: &str) -> Result<(), String> {
    const PREFIX: &str = "rmq_sys_";
    if name.is_empty() {
        return Err("the RocketMQ topic is empty".to_owned());
    }
    if name.len() > MAX_TOPIC_BYTES {
        return Err(format!("the RocketMQ topic has {} bytes; {MAX_TOPIC_BYTES} are allowed", name.len()));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Err(format!("the RocketMQ topic {name:?} may only hold letters, digits, _ and -"));
    }
    let reserved_prefix = name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    if reserved_prefix || RESERVED_TOPICS.contains(&name) {
        return Err(format!("{name} is reserved by RocketMQ for itself"));
    }
    Ok(())
}

/// Refuses a message that is too large. `written_bytes`: names, values and separators of all properties, TAGS and KEYS
/// included.
pub(super) fn check_sizes(
    written_bytes: usize,
    body_bytes: usize,
    max_message_bytes: usize,
) -> Result<(), (DeadReason, String)> {
    let properties_bytes = written_bytes + HEADROOM_BYTES;
    if properties_bytes > MAX_PROPERTIES_BYTES {
        return Err((
            DeadReason::PropertiesTooLarge,
            format!("the properties need {properties_bytes} bytes; RocketMQ takes {MAX_PROPERTIES_BYTES}"),
        ));
    }
    let message_bytes = body_bytes + properties_bytes + FRAME_BYTES;
    if message_bytes > max_message_bytes {
        return Err((
            DeadReason::TooLarge,
            format!(
                "the message needs {message_bytes} bytes; rocketmq.max_message_bytes is {max_message_bytes}"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_at_the_border() {
        assert!(check_topic(&"t".repeat(127)).is_ok());
        assert!(check_topic(&"t".repeat(128)).is_err());
        assert!(check_topic("roomSend_1-a").is_ok());
        for wrong in ["", "$SYS", "a b", "a|b", "%RETRY%group", "\u{6559}", "TBW102", "RMQ_SYS_TRACE_TOPIC"] {
            assert!(check_topic(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_at_the_border() {
        let most = MAX_PROPERTIES_BYTES - HEADROOM_BYTES;
        assert_eq!(check_sizes(most, 1, 1 << 20), Ok(()));
        assert_eq!(check_sizes(most + 1, 1, 1 << 20).unwrap_err().0, DeadReason::PropertiesTooLarge);

        let around = 1_000 + HEADROOM_BYTES + FRAME_BYTES;
        assert_eq!(check_sizes(1_000, 4_000, around + 4_000), Ok(()));
        assert_eq!(check_sizes(1_000, 4_001, around + 4_000).unwrap_err().0, DeadReason::TooLarge);
    }
}
