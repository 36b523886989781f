//! The MQTT side: the connections to the broker, the session that messages come from, and what goes down.
//!
//! Promises: MQTT 5, QoS 1, manual PUBACKs, a persistent session; acknowledges only what the ledger gives out.
//! `wire` has our words for what is said to a broker and by it. Only the codec `mqtt5` and `tls` name rumqttc or know a version;
//! MQTT 3.1.1 will be a second codec.
//! Must never: name RocketMQ, or wait for the pipeline while a connection is to be served.

mod connection;
mod limits;
mod link;
mod mqtt5;
mod outage;
mod outstanding;
mod publisher;
mod replay_publisher;
mod session;
mod subscriber;
mod subscriptions;
mod target;
mod tls;
mod try_connect;
mod try_subscribe;
mod watchdog;
mod wire;

pub use publisher::DownlinkPublisher;
pub use replay_publisher::ReplayPublisher;
pub use session::SessionParts;
pub use subscriber::{Subscriber, SubscriberParts};

pub(crate) use try_connect::try_connect;
pub(crate) use try_subscribe::try_subscribe;

/// What the model test drives the session with.
#[cfg(any(test, feature = "testing"))]
pub use {
    limits::Limits,
    session::{MustReconnect, Session},
    wire::{Connack, Publish, Suback, SubscribeVerdict, ToBroker, Unsuback},
};

#[cfg(test)]
mod tests;
