//! What each cause of a failed send means: for its message, for other topics, and for the person who reads the log.

use crate::model::{DeadReason, FailureKind};

/// Why a message became a dead letter that RocketMQ kept refusing with that cause.
pub(super) fn dead_reason(kind: FailureKind) -> DeadReason {
    match kind {
        FailureKind::TopicMissing => DeadReason::TopicMissing,
        FailureKind::NoPermission => DeadReason::NoPermission,
        FailureKind::Transport
        | FailureKind::Timeout
        | FailureKind::Busy
        | FailureKind::DiskFull
        | FailureKind::QueueMissing
        | FailureKind::NotDurable(_)
        | FailureKind::MessageIllegal
        | FailureKind::Refused
        | FailureKind::Unknown => DeadReason::RefusedByRocketmq,
    }
}

/// Whether that cause is the topic's own, so that other topics are well.
pub(super) fn is_of_one_topic(kind: FailureKind) -> bool {
    match kind {
        FailureKind::TopicMissing | FailureKind::QueueMissing | FailureKind::NoPermission => true,
        FailureKind::Transport
        | FailureKind::Timeout
        | FailureKind::Busy
        | FailureKind::DiskFull
        | FailureKind::NotDurable(_)
        | FailureKind::MessageIllegal
        | FailureKind::Refused
        | FailureKind::Unknown => false,
    }
}

/// What a person can do about it.
pub(super) fn remedy(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Transport => {
            "no connection; check that the broker and the name servers run and are reachable"
        }
        FailureKind::Timeout => "no answer within rocketmq.send_timeout_ms; check the broker's load and disk",
        FailureKind::Busy => "the broker is busy; it is given more time",
        FailureKind::DiskFull => "the broker's disk is full; make room on it, and the messages are sent",
        FailureKind::TopicMissing => "the topic does not exist; create it, or set rocketmq.create_topics",
        FailureKind::QueueMissing => {
            "the topic has fewer queues than before, and the rooms stay on theirs; give it as many read and write queues as it \
             had (mqadmin updateTopic -r -w)"
        }
        FailureKind::NoPermission => {
            "not permitted; check the topic's permission, and that rocketmq.access_key has the right that the answer names"
        }
        FailureKind::NotDurable(_) => {
            "stored less safely than configured; check the broker's disk and replicas"
        }
        FailureKind::MessageIllegal => "RocketMQ calls a message illegal; it is looked for",
        FailureKind::Refused => {
            "if RocketMQ takes other messages and never this one, it becomes a dead letter; see the broker's log"
        }
        FailureKind::Unknown => "an error that is not known; please report it with the debug log",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// docs/MESSAGES.md has a row for each remedy, and no other.
    #[test]
    fn each_remedy_is_explained() {
        let page = include_str!("../../docs/MESSAGES.md");
        let (_, section) = page.split_once("\n## Sending to RocketMQ\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let explained: BTreeSet<&str> = cells.map(|(cell, _)| cell).collect();
        assert_eq!(explained, FailureKind::ALL.into_iter().map(remedy).collect::<BTreeSet<_>>());
    }
}
