//! The MQTT side: the only room that names rumqttc.
//!
//! Promises: MQTT 5, QoS 1, manual PUBACKs, a persistent session; acknowledges only what the ledger gives out.
//! MQTT 3.1.1 will stand beside `connection.rs`, `target.rs` and `translate.rs`: the ledger and the loop know no version.
//! Must never: name RocketMQ, or wait for the pipeline while a connection is to be served.

mod connection;
mod hang_ups;
mod incoming;
mod limits;
mod link;
mod outstanding;
mod properties;
mod publisher;
mod reason;
mod replay_publisher;
mod session;
mod subscriber;
mod subscribing;
mod subscriptions;
mod target;
mod tls;
mod translate;
mod try_connect;
mod watchdog;

pub use publisher::DownlinkPublisher;

pub use replay_publisher::ReplayPublisher;
pub use session::SessionParts;
pub use subscriber::Subscriber;

pub(crate) use try_connect::try_connect;
