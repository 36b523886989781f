//! Maps the client's errors to our closed list, once.

use std::error::Error as _;

use rocketmq_client_rust::ClientError;

use crate::model::{FailureKind, NotDurable};

/// Response codes of the RocketMQ broker and name server (`ResponseCode` of the remoting protocol).
const SYSTEM_BUSY: i32 = 2;
const FLUSH_DISK_TIMEOUT: i32 = 10;
const SLAVE_NOT_AVAILABLE: i32 = 11;
const FLUSH_SLAVE_TIMEOUT: i32 = 12;
const MESSAGE_ILLEGAL: i32 = 13;
const SERVICE_NOT_AVAILABLE: i32 = 14;
const NO_PERMISSION: i32 = 16;
const TOPIC_NOT_EXIST: i32 = 17;

/// The cause of a failed request.
pub fn kind_of(error: &ClientError) -> FailureKind {
    if let Some(code) = error.broker_response_code() {
        return kind_of_response(code);
    }
    let code = error.descriptor().code();
    match code.as_str() {
        "transport.response.timeout" | "transport.write.timeout" | "core.operation.timed_out" => {
            FailureKind::Timeout
        }
        "transport.admission.queue_saturated" | "transport.remote.rate_limited" => FailureKind::Busy,
        "route.topic.not_found" | "broker.topic.not_found" => FailureKind::TopicMissing,
        "broker.lookup.not_found" | "client.retry.budget_exhausted" => FailureKind::Transport,
        "broker.message.invalid" | "broker.message.too_large" => FailureKind::MessageIllegal,
        "core.serialization.failed" if text_of(error).contains("enableActingMaster") => {
            FailureKind::UnsupportedServer
        }
        code if code.starts_with("auth.") => FailureKind::NoPermission,
        code if code.starts_with("transport.") => FailureKind::Transport,
        // The client's way to say that it has no route, be it for a missing topic or an absent name server.
        "core.argument.invalid" if text_of(error).contains("CODE: 17") => FailureKind::TopicMissing,
        "core.argument.invalid" | "core.service.failed" => FailureKind::Transport,
        _ => FailureKind::Unknown,
    }
}

pub fn kind_of_response(code: i32) -> FailureKind {
    match code {
        SYSTEM_BUSY | SERVICE_NOT_AVAILABLE => FailureKind::Busy,
        MESSAGE_ILLEGAL => FailureKind::MessageIllegal,
        NO_PERMISSION => FailureKind::NoPermission,
        TOPIC_NOT_EXIST => FailureKind::TopicMissing,
        FLUSH_DISK_TIMEOUT => FailureKind::NotDurable(NotDurable::FlushDiskTimeout),
        SLAVE_NOT_AVAILABLE => FailureKind::NotDurable(NotDurable::SlaveNotAvailable),
        FLUSH_SLAVE_TIMEOUT => FailureKind::NotDurable(NotDurable::FlushSlaveTimeout),
        _ => FailureKind::Unknown,
    }
}

/// The error with all that caused it; the client's own text is only its code.
pub fn text_of(error: &ClientError) -> String {
    let mut text = format!("{error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hazard 8: with these the master has the batch, and a retry at full pace appends it again and again.
    #[test]
    fn what_the_master_has_is_not_retried_like_a_lost_answer() {
        for (code, why) in [
            (10, NotDurable::FlushDiskTimeout),
            (11, NotDurable::SlaveNotAvailable),
            (12, NotDurable::FlushSlaveTimeout),
        ] {
            assert_eq!(
                kind_of_response(code),
                FailureKind::NotDurable(why),
                "code {code}"
            );
        }
    }

    #[test]
    fn a_code_that_nobody_knows_is_retried_and_raised() {
        assert_eq!(kind_of_response(9_999), FailureKind::Unknown);
        assert_eq!(kind_of_response(NO_PERMISSION), FailureKind::NoPermission);
    }
}
