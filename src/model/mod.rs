//! The words that every room shares: what a message is, who it is, what became of it, what time it is.
//!
//! Promises: plain data, cheap to clone, no protocol and no runtime in sight.
//! Must never: do IO, name tokio, rumqttc or RocketMQ.

mod clock;
mod envelope;
mod id;
mod kind;
mod names;
mod outcome;
mod outgoing;
mod refusal;
mod start_at;
mod stored;

pub use clock::{Clock, ManualClock, SystemClock};
pub use envelope::{Arrival, Envelope, MqttMessage, MqttProperties, Qos};
pub use id::{MessageId, MessageIds, SessionStamp};
pub use kind::Kind;
pub use names::{ClientId, IllegalName, MAX_NAME_CHARACTERS, RoomId, display_name};
pub use outcome::{DeadReason, DropReason, FailureKind, FilterReason, NotDurable, Outcome, Sent, StoredAt};
pub use outgoing::{DeadLetter, OutgoingMessage, WhenFull};
pub use refusal::Refusal;
pub use start_at::StartAt;
pub use stored::{KnownBrokers, QueueName, StoredMessage};
