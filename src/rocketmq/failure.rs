//! The only place that maps the codes of RocketMQ's answers to our closed list, and explains them.

use std::borrow::Cow;

use super::remoting::CallError;
use crate::model::{FailureKind, NotDurable, their_words};

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
const INVALID_PARAMETER: i32 = 29;

/// What an answer of a broker or a name server means, by its code and its remark.
pub(crate) fn kind_of_answer(code: i32, remark: &str) -> FailureKind {
    match code {
        // A 5.x broker has a code of its own for a single message that is too large, but uses this one for a batch with it.
        SYSTEM_ERROR if names_size(remark) => FailureKind::MessageIllegal,
        // The ACL of RocketMQ 4.x.
        SYSTEM_ERROR if remark.contains("AclException") => FailureKind::NoPermission,
        // 5.x has a code of its own for it, and 4.x has not.
        SYSTEM_ERROR | INVALID_PARAMETER if names_queue(remark) => FailureKind::QueueMissing,
        SERVICE_NOT_AVAILABLE if remark.contains("disk is full") => FailureKind::DiskFull,
        SYSTEM_BUSY | SERVICE_NOT_AVAILABLE => FailureKind::Busy,
        MESSAGE_ILLEGAL => FailureKind::MessageIllegal,
        NO_PERMISSION => FailureKind::NoPermission,
        TOPIC_NOT_EXIST => FailureKind::TopicMissing,
        _ => not_durable(code).map_or(FailureKind::Refused, FailureKind::NotDurable),
    }
}

/// What is missing where the master has the messages, but not as safely as it was asked to.
pub(crate) fn not_durable(code: i32) -> Option<NotDurable> {
    match code {
        FLUSH_DISK_TIMEOUT => Some(NotDurable::FlushDiskTimeout),
        SLAVE_NOT_AVAILABLE => Some(NotDurable::SlaveNotAvailable),
        FLUSH_SLAVE_TIMEOUT => Some(NotDurable::FlushSlaveTimeout),
        _ => None,
    }
}

const TLS_ONLY: &str = "if it takes TLS only, start it with -Dtls.server.mode=permissive, because roombridge does not speak TLS \
                        with RocketMQ yet";

/// What it means that a broker gave no answer, and what the user can do about it.
pub(super) fn unanswered(error: &CallError) -> String {
    match error {
        CallError::Timeout { .. } => {
            "the broker did not answer in time; is it overloaded, or stopped?".to_owned()
        }
        CallError::Connect { .. } | CallError::Ended { .. } => {
            "there is no connection to the broker; is the RocketMQ broker running?".to_owned()
        }
        CallError::Unheard { .. } => format!("the broker hung up without any answer; {TLS_ONLY}"),
        CallError::Unwritable(_) => "the request is not legal".to_owned(),
    }
}

/// The same of name servers, of which each was asked.
pub(super) fn no_name_server(names: &str, calls: &[CallError]) -> String {
    let reasons: Vec<_> = calls.iter().map(ToString::to_string).collect();
    let is_unheard = |call: &CallError| matches!(call, CallError::Unheard { .. });
    let to_do = match calls.iter().any(is_unheard) {
        true => format!("one hung up without any answer; {TLS_ONLY}"),
        false => "is RocketMQ running? Check rocketmq.name_servers".to_owned(),
    };
    format!("no name server answers at {names}: {to_do} ({})", reasons.join("; "))
}

/// What the answer means, and what the user can do about it; with the server's own words. `right`: what ACLs must grant for the
/// request; empty if they need not grant anything.
pub(crate) fn meaning(code: i32, remark: &str, right: &str) -> String {
    let words = if remark.is_empty() { "no reason".to_owned() } else { their_words(remark) };
    let advice = advice(kind_of_answer(code, remark), remark, right);
    format!("the broker answered with code {code} ({words}); {advice}")
}

fn advice(kind: FailureKind, remark: &str, right: &str) -> Cow<'static, str> {
    match kind {
        FailureKind::Busy => "the broker is busy; try again later".into(),
        FailureKind::DiskFull => "the broker's disk is full; make room on it".into(),
        FailureKind::TopicMissing => {
            "the topic does not exist on the broker; create it, or check its name".into()
        }
        FailureKind::QueueMissing => "the topic has fewer queues than before; give it as many read and write queues as it had \
             (mqadmin updateTopic -r -w)"
            .into(),
        FailureKind::NoPermission if is_closed_to_all(remark) => {
            "nobody may do this there, whatever the keys; check brokerPermission of the broker, and the topic's permission \
             (mqadmin updateTopicPerm)"
                .into()
        }
        FailureKind::NoPermission if right.is_empty() => {
            "access is refused; check rocketmq.access_key and rocketmq.secret_key".into()
        }
        FailureKind::NoPermission => format!(
            "access is refused; check rocketmq.access_key and rocketmq.secret_key, which need the right {right}"
        )
        .into(),
        FailureKind::Transport
        | FailureKind::Timeout
        | FailureKind::NotDurable(_)
        | FailureKind::MessageIllegal
        | FailureKind::Refused
        | FailureKind::Unknown => "see the broker's log".into(),
    }
}

/// Whether the remark is about a size: `message body size exceeded`, `message size exceeded` or `properties size exceeded`.
fn names_size(remark: &str) -> bool {
    remark.to_ascii_lowercase().contains("size exceeded")
}

/// Whether the remark is about a queue that the topic does not have: `queueId[4] is illegal`.
fn names_queue(remark: &str) -> bool {
    remark.contains("queueId[") && remark.contains("is illegal")
}

/// Whether the refusal comes from the permission of a broker or a topic, and not from its ACL: `the broker[10.0.0.1] sending message is
/// forbidden`.
fn is_closed_to_all(remark: &str) -> bool {
    remark.contains("is forbidden")
}

/// What can be said about RocketMQ, with words in capitals for what differs; `docs/MESSAGES.md` explains each.
#[cfg(test)]
pub(crate) fn messages() -> Vec<String> {
    let said = |kind, remark: &str, right| advice(kind, remark, right).into_owned();
    let (address, cause) = (|| "ADDRESS".into(), || "CAUSE".into());
    let connect = CallError::Connect { address: address(), cause: cause() };
    let unheard = CallError::Unheard { address: address(), cause: cause() };
    let timeout = CallError::Timeout { address: address(), waited: std::time::Duration::ZERO };
    vec![
        said(FailureKind::Busy, "", ""),
        said(FailureKind::DiskFull, "", ""),
        said(FailureKind::TopicMissing, "", ""),
        said(FailureKind::QueueMissing, "", ""),
        said(FailureKind::NoPermission, "sending message is forbidden", ""),
        said(FailureKind::NoPermission, "", ""),
        said(FailureKind::NoPermission, "", "RIGHT"),
        said(FailureKind::Refused, "", ""),
        unanswered(&timeout),
        unanswered(&connect),
        unanswered(&unheard),
        no_name_server("NAMES", &[connect]),
        no_name_server("NAMES", &[unheard]),
    ]
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

    /// As Apache's brokers of 5.5.0 and 4.9.7 say it.
    #[test]
    fn what_an_answer_means_follows_from_what_it_says() {
        let illegal =
            "queueId[6] is illegal, topic:[room] topicConfig.readQueueNums:[4] consumer:[/127.0.0.1:1]";
        let full = "service not available now. It may be caused by one of the following reasons: \
                    the broker's disk is full [CL: 0.92 CQ: 0.92 INDEX: 0.92], messages are put to the slave";
        let bad_key =
            "org.apache.rocketmq.acl.common.AclException: Check signature failed for accessKey=roombridge";
        let policy = "User:none has no permission to access Topic:room from 127.0.0.1, no matched policies.";
        let closed = "the broker[127.0.0.1] sending message is forbidden";
        for (code, remark, kind, to_do) in [
            (29, illegal, FailureKind::QueueMissing, "fewer queues than before"),
            (1, illegal, FailureKind::QueueMissing, "fewer queues than before"),
            (29, "topic name is illegal", FailureKind::Refused, "see the broker's log"),
            (14, full, FailureKind::DiskFull, "make room"),
            (14, "shutting down", FailureKind::Busy, "try again later"),
            (1, bad_key, FailureKind::NoPermission, "need the right Sub on Topic:room"),
            (16, policy, FailureKind::NoPermission, "need the right Sub on Topic:room"),
            (16, closed, FailureKind::NoPermission, "brokerPermission"),
        ] {
            assert_eq!(kind_of_answer(code, remark), kind, "{remark}");
            let said = meaning(code, remark, "Sub on Topic:room");
            let words: String = remark.chars().take(200).collect();
            assert!(said.contains(to_do) && said.contains(&words), "{said}");
        }
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
}
