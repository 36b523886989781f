//! What became of a message, and why a send failed: closed lists whose entries have names for logs and labels.

use std::fmt;

use strum::{Display, EnumCount, EnumString, IntoStaticStr, VariantArray};

use super::Refusal;

/// How the life of one received message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// RocketMQ answered SEND_OK.
    Stored,
    /// It was not meant to be stored.
    Filtered(FilterReason),
    /// A bound that the user chose made us give it up; that is counted and logged, never silent.
    Dropped(DropReason),
    /// It can never be stored where it belongs, so it lies in the dead-letter topic, or on the local disk with fsync.
    DeadLettered(DeadReason),
}

/// Why a message was not meant to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, VariantArray, IntoStaticStr, Display)]
#[strum(serialize_all = "snake_case")]
pub enum FilterReason {
    /// No binding's filter matches the topic.
    NoRule,
    /// The stored copy of a retained message. Nothing is counted so today: MQTT 5 lets the bridge ask for no such copies. It
    /// stays for MQTT 3.1.1, where they always come, and because the reason stands in the list of metrics.
    RetainedCopy,
    /// The broker sent a message again whose first copy is still on its way.
    Redelivered,
    /// The intake is full, so the message is neither taken in nor acknowledged; the broker sends it again.
    HeldBack,
    /// Another client took the session over; the next holder gets this message again.
    SessionTakenOver,
    /// Downlink: it came from MQTT, and everybody there has it already.
    FromMqtt,
    /// Uplink: the bridge itself published it, so it is stored already.
    FromRocketmq,
    /// It went through the bridge too often: other programs copy it from topic to topic in a circle.
    HopLimit,
    /// Downlink: its MQTT 5 message expiry has passed.
    Expired,
    /// Another subscription brings the same message.
    Overlap,
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, VariantArray, IntoStaticStr, Display)]
#[strum(serialize_all = "snake_case")]
pub enum DropReason {
    /// A QoS 0 message came while the intake was full.
    IntakeFull,
    /// The spool is full and `spool.when_full` says to drop.
    SpoolFull,
    /// It lay in the spool for longer than `spool.max_age_s`.
    SpoolExpired,
    /// Its row in the spool no longer holds the bytes that were written; the row is set aside in the file.
    SpoolDamaged,
}

/// Why a message can never be stored where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, VariantArray, IntoStaticStr, Display, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum DeadReason {
    /// The RocketMQ topic that the rule gives is no legal name.
    IllegalTopic,
    /// All properties together are over RocketMQ's 32,767 bytes.
    PropertiesTooLarge,
    /// Body and properties are over the message limit.
    TooLarge,
    /// RocketMQ calls the message illegal, and it was alone in its batch.
    RefusedByRocketmq,
    /// RocketMQ did not permit it for longer than `dead_letter.give_up_after_s`, or beyond the topic's share of the spool.
    NoPermission,
    /// The topic does not exist, and its share of the spool is full.
    TopicMissing,
    /// Downlink: the topic that the message asks for cannot be published to.
    IllegalMqttTopic,
    /// Downlink: the MQTT broker refuses it for good, or hangs up whenever it comes.
    RefusedByMqtt,
    /// Downlink: over the MQTT broker's limit for packets.
    TooLargeForMqtt,
    /// Classroom: nobody could understand it, or its sender is not verified.
    RefusedByClassroom,
}

/// The store took the message, but not as safely as it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumCount)]
pub enum NotDurable {
    /// The master did not flush it to its disk in time.
    FlushDiskTimeout,
    /// No replica confirmed it in time.
    FlushSlaveTimeout,
    /// There is no replica that could take it.
    SlaveNotAvailable,
}

/// Why a send failed: third-party errors are mapped to this list once, in `rocketmq/failure.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumCount)]
pub enum FailureKind {
    /// The connection failed or there is no broker to connect to.
    Transport,
    /// No answer in time; the message may be stored.
    Timeout,
    /// The broker or the client asks us to slow down.
    Busy,
    /// The broker's disk is full.
    DiskFull,
    /// The topic does not exist.
    TopicMissing,
    /// The topic has fewer queues than when this one was chosen.
    QueueMissing,
    /// The broker refuses this client or this topic's permission forbids writing.
    NoPermission,
    /// The store has the message without the durability that was asked for.
    NotDurable(NotDurable),
    /// A message of the batch is illegal to RocketMQ, or too large for it.
    MessageIllegal,
    /// The broker answers with an error that says nothing of its own state: perhaps one message is to blame.
    Refused,
    /// Not known: retried, and raised as an alarm.
    Unknown,
}

/// The store's answer for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The store has it as safely as it was asked to.
    Stored,
    /// The master has it, but a flush or a replica did not answer in time.
    NotDurable(NotDurable),
    /// There was no answer, or an error that did not come from the broker.
    Failed(FailureKind),
    /// The broker refused it, or the message cannot be written in RocketMQ's format.
    Refused(Refusal),
}

impl Sent {
    /// Why it was not stored, if it was not.
    pub fn failure(&self) -> Option<FailureKind> {
        match self {
            Self::Stored => None,
            Self::NotDurable(why) => Some(FailureKind::NotDurable(*why)),
            Self::Failed(kind) => Some(*kind),
            Self::Refused(refusal) => Some(refusal.kind),
        }
    }
}

impl FilterReason {
    /// Every reason once; metrics make one series of each.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in metrics and logs, such as `no_rule`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl DropReason {
    /// Every reason once; metrics make one series of each.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in metrics and logs, such as `spool_full`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl DeadReason {
    /// Every reason once; metrics make one series of each.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in metrics, logs and stored dead letters, such as `illegal_topic`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

impl FailureKind {
    /// Every kind once; metrics make one series of each.
    pub const ALL: [Self; 13] = [
        Self::Transport,
        Self::Timeout,
        Self::Busy,
        Self::DiskFull,
        Self::TopicMissing,
        Self::QueueMissing,
        Self::NoPermission,
        Self::NotDurable(NotDurable::FlushDiskTimeout),
        Self::NotDurable(NotDurable::FlushSlaveTimeout),
        Self::NotDurable(NotDurable::SlaveNotAvailable),
        Self::MessageIllegal,
        Self::Refused,
        Self::Unknown,
    ];

    /// Whether RocketMQ said it: whoever answers can be reached, whatever the answer is.
    pub fn is_an_answer(self) -> bool {
        match self {
            Self::Transport | Self::Timeout => false,
            Self::Busy
            | Self::DiskFull
            | Self::TopicMissing
            | Self::QueueMissing
            | Self::NoPermission
            | Self::NotDurable(_)
            | Self::MessageIllegal
            | Self::Refused
            | Self::Unknown => true,
        }
    }

    /// The name in metrics and logs, such as `timeout`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::DiskFull => "disk_full",
            Self::TopicMissing => "topic_missing",
            Self::QueueMissing => "queue_missing",
            Self::NoPermission => "no_permission",
            Self::NotDurable(NotDurable::FlushDiskTimeout) => "flush_disk_timeout",
            Self::NotDurable(NotDurable::FlushSlaveTimeout) => "flush_slave_timeout",
            Self::NotDurable(NotDurable::SlaveNotAvailable) => "slave_not_available",
            Self::MessageIllegal => "message_illegal",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// The list above lacks none.
const _: () = assert!(FailureKind::ALL.len() == FailureKind::COUNT - 1 + NotDurable::COUNT);

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
