//! The items of the rooms that stories, the model test and the benchmarks use. Only with the feature `testing`, never in the
//! product.
//!
//! Must never: hold code. It is a list of re-exports.

pub mod app {
    pub use crate::app::Bridge;
}
pub mod binding {
    pub use crate::binding::{BindingSettings, RuleSet, read_back, read_letter, slot_of, stored_form};
}
pub mod config {
    pub use crate::config::{Config, ProcessEnvironment, RocketMqConfig};
}
pub mod data_dir {
    pub use crate::data_dir::{DataDir, QueueTables, SessionState, TopicQueues};
}
pub mod lifecycle {
    pub use crate::lifecycle::Lifecycle;
}
pub mod model {
    pub use crate::model::{
        Arrival, Clock, DeadLetter, Envelope, FailureKind, FilterReason, MessageIds, MqttMessage,
        MqttProperties, NotDurable, OutgoingMessage, OutgoingProperties, Qos, QueueName, Sent, SessionStamp,
        StoredMessage, StoredProperties, SystemClock,
    };
}
pub mod mqtt {
    pub use crate::mqtt::{
        Connack, DownlinkPublisher, Limits, MustReconnect, Publish, ReplayPublisher, Session, SessionParts,
        Suback, SubscribeVerdict, Subscriber, SubscriberParts, ToBroker, Unsuback,
    };
}
pub mod pipeline {
    pub use crate::pipeline::{
        Accepted, Admission, Arrived, BatchLimits, DeadLetters, Delivery, Fingerprint, Intake,
        IntakeReceiver, LinkState, ReceiptLedger, ReceiptNumber, Remembered, Sending, SpoolUse, Uplink,
        UplinkParts, WINDOWS_READ, intake, seed_jitter, tail,
    };
    pub mod ports {
        pub use crate::pipeline::ports::{
            Batch, OutgoingMessage, Page, Published, Publisher, Publishing, ReadError, Reader, Sink,
            SoleHolder,
        };
    }
}
pub mod rocketmq {
    pub use crate::rocketmq::{Connector, Producer, RocketMqReader};
}
pub mod spool {
    pub use crate::spool::{
        Appended, DeadLetterStore, Depth, LaneKey, Overflow, Row, RowKey, SpoolError, SpoolInspection,
        SpoolMessage, Taken,
    };
    pub mod memory {
        pub use crate::spool::memory::{Faults, MemorySpool};
    }
}
pub mod telemetry {
    pub use crate::telemetry::{Metrics, Readiness};
}
