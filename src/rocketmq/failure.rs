//! The only place that maps the client's errors to our closed list.

use std::error::Error as _;

use rocketmq_client_rust::{ClientError, MQClientException};

use crate::model::{FailureKind, NotDurable, Refusal, Sent};

/// Response codes of the RocketMQ broker and name server (`ResponseCode` of the remoting protocol).
const SYSTEM_ERROR: i32 = 1;
const SYSTEM_BUSY: i32 = 2;
const FLUSH_DISK_TIMEOUT: i32 = 10;
const SLAVE_NOT_AVAILABLE: i32 = 11;
const FLUSH_SLAVE_TIMEOUT: i32 = 12;
const MESSAGE_ILLEGAL: i32 = 13;
const SERVICE_NOT_AVAILABLE: i32 = 14;
const NO_PERMISSION: i32 = 16;
const TOPIC_NOT_EXIST: i32 = 17;

/// The outcome of a failed send. `remark`: the broker's sentence, if it answered with one.
pub(crate) fn refusal_or_failure(error: &ClientError, remark: Option<&str>) -> Sent {
    if let Some(code) = error.broker_response_code() {
        let remark = remark.unwrap_or_default();
        let kind = kind_of_answer(code, remark);
        return Sent::Refused(Refusal { kind, code, remark: remark.into() });
    }
    match (kind_of(error), error.source_ref::<MQClientException>()) {
        // The client itself refused the message, in the broker's place.
        (kind @ FailureKind::MessageIllegal, Some(own)) => Sent::Refused(Refusal {
            kind,
            code: own.response_code(),
            remark: own.error_message().unwrap_or_default().into(),
        }),
        (kind, _) => Sent::Failed(kind),
    }
}

/// The cause of a failed request.
pub(crate) fn kind_of(error: &ClientError) -> FailureKind {
    if let Some(code) = error.broker_response_code() {
        return kind_of_answer(code, "");
    }
    if error.source_ref::<MQClientException>().map(MQClientException::response_code) == Some(MESSAGE_ILLEGAL)
    {
        return FailureKind::MessageIllegal;
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
        // The client says this when it has no route, for a missing topic and for an absent name server.
        "core.argument.invalid" if text_of(error).contains("CODE: 17") => FailureKind::TopicMissing,
        "core.argument.invalid" | "core.service.failed" => FailureKind::Transport,
        _ => FailureKind::Unknown,
    }
}

/// What an answer of a broker or a name server means, by its code and its remark.
pub(crate) fn kind_of_answer(code: i32, remark: &str) -> FailureKind {
    match code {
        // A 5.x broker has a code of its own for a single message that is too large, but uses this one for a batch with it.
        SYSTEM_ERROR if names_size(remark) => FailureKind::MessageIllegal,
        // The ACL of RocketMQ 4.x.
        SYSTEM_ERROR if remark.contains("AclException") => FailureKind::NoPermission,
        SYSTEM_BUSY | SERVICE_NOT_AVAILABLE => FailureKind::Busy,
        MESSAGE_ILLEGAL => FailureKind::MessageIllegal,
        NO_PERMISSION => FailureKind::NoPermission,
        TOPIC_NOT_EXIST => FailureKind::TopicMissing,
        FLUSH_DISK_TIMEOUT => FailureKind::NotDurable(NotDurable::FlushDiskTimeout),
        SLAVE_NOT_AVAILABLE => FailureKind::NotDurable(NotDurable::SlaveNotAvailable),
        FLUSH_SLAVE_TIMEOUT => FailureKind::NotDurable(NotDurable::FlushSlaveTimeout),
        _ => FailureKind::Refused,
    }
}

/// Whether the remark is about a size: `message body size exceeded`, `message size exceeded` or `properties size exceeded`.
fn names_size(remark: &str) -> bool {
    remark.to_ascii_lowercase().contains("size exceeded")
}

/// The error with all its causes, because the client's own text is only a code.
pub(crate) fn text_of(error: &ClientError) -> String {
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
            assert_eq!(kind_of_answer(code, ""), FailureKind::NotDurable(why), "code {code}");
        }
    }

    #[test]
    fn a_code_that_nobody_knows_is_an_answer_that_may_be_about_one_message() {
        assert_eq!(kind_of_answer(9_999, ""), FailureKind::Refused);
        assert_eq!(kind_of_answer(SYSTEM_ERROR, "java.io.IOException"), FailureKind::Refused);
        assert_eq!(kind_of_answer(NO_PERMISSION, ""), FailureKind::NoPermission);
        let of_4 = "org.apache.rocketmq.acl.common.AclException: No default permission for room";
        assert_eq!(kind_of_answer(SYSTEM_ERROR, of_4), FailureKind::NoPermission);
    }

    /// As Apache's brokers say it of a batch, and of a batch of one.
    #[test]
    fn a_size_that_is_named_is_about_the_message() {
        for remark in [
            "java.lang.RuntimeException: message body size exceeded, \
             org.apache.rocketmq.store.MessageExtEncoder.encode(MessageExtEncoder.java:264)",
            "java.lang.RuntimeException: message size exceeded",
        ] {
            assert_eq!(kind_of_answer(SYSTEM_ERROR, remark), FailureKind::MessageIllegal, "{remark}");
        }
    }

    /// The client holds a batch against its own limit and says so as it says that a name server is away.
    #[test]
    fn a_refusal_by_the_client_for_size_is_no_failure_of_the_connection() {
        let words = "the message body size over max value, MAX: 262144";
        let error = ClientError::from(MQClientException::new_with_code(MESSAGE_ILLEGAL, words));
        let Sent::Refused(refusal) = refusal_or_failure(&error, None) else { panic!("{error:?}") };
        assert_eq!((refusal.kind, refusal.code, &*refusal.remark), (FailureKind::MessageIllegal, 13, words));
        let away = ClientError::from(MQClientException::new("No name server address"));
        assert_eq!(refusal_or_failure(&away, None), Sent::Failed(FailureKind::Transport));
    }
}
