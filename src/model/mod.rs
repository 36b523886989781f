//! The types that every room shares: a message, its identity, what became of it, and the clock.
//!
//! Promises: plain data that is cheap to clone and knows neither a protocol nor a runtime.
//! Must never: do IO, name tokio, rumqttc or RocketMQ.

mod clock;
mod envelope;
mod escape;
mod id;
mod kind;
mod lost_cause;
mod names;
mod outcome;
mod outgoing;
mod outgoing_properties;
mod refusal;
mod start_at;
mod stored;
mod stored_properties;
mod topic_filter;
mod web_host;

#[cfg(test)]
pub(crate) use clock::ManualClock;
pub use clock::{Clock, SystemClock};
pub use envelope::{Arrival, Envelope, MqttMessage, MqttProperties, Qos};
pub(crate) use escape::{quoted, their_words, visible, visible_json};
pub(crate) use id::MessageId;
pub use id::{MessageIds, SessionStamp};
pub(crate) use kind::Kind;
pub(crate) use lost_cause::LostCause;
pub(crate) use names::{ClientId, MAX_NAME_CHARACTERS, RoomId, display_name};
pub(crate) use outcome::{DeadReason, DropReason, Outcome};
pub use outcome::{FailureKind, FilterReason, NotDurable, Sent};
pub(crate) use outgoing::WhenFull;
pub use outgoing::{DeadLetter, OutgoingMessage};
pub use outgoing_properties::OutgoingProperties;
pub(crate) use refusal::Refusal;
pub(crate) use start_at::StartAt;
pub(crate) use stored::KnownBrokers;
pub use stored::{QueueName, StoredMessage};
pub use stored_properties::StoredProperties;
pub(crate) use topic_filter::{TopicFilter, TopicFilterError};
pub(crate) use web_host::WebHost;
