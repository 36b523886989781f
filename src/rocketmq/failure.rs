//! The only place that maps the codes of RocketMQ's answers to our closed list, and explains them.

use crate::model::{FailureKind, NotDurable};

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

/// What the answer means, and what the user can do about it; with the server's own words.
pub(crate) fn meaning(kind: FailureKind, code: i32, remark: &str) -> String {
    let meaning = match kind {
        FailureKind::Busy => "the broker is busy; try again later",
        FailureKind::TopicMissing => "the topic does not exist on the broker",
        FailureKind::NoPermission => {
            "the broker refuses access; check rocketmq.access_key and rocketmq.secret_key, \
             and what they permit on this topic"
        }
        FailureKind::Transport
        | FailureKind::Timeout
        | FailureKind::NotDurable(_)
        | FailureKind::MessageIllegal
        | FailureKind::Refused
        | FailureKind::Unknown => "see the broker's log",
    };
    let words = if remark.is_empty() { "no reason" } else { remark };
    format!("the broker answered with code {code} ({words}); {meaning}")
}

/// Whether the remark is about a size: `message body size exceeded`, `message size exceeded` or `properties size exceeded`.
fn names_size(remark: &str) -> bool {
    remark.to_ascii_lowercase().contains("size exceeded")
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
}
