#![recursion_limit = "512"]
#![warn(clippy::missing_docs_in_private_items)]
//! An MQTT broker and RocketMQ inside this process, for `roombridge dev` and for tests.
//!
//! Promises: everything listens on 127.0.0.1 only, everything is written below the given data folder, and what was
//! stored before a graceful stop is there after the next start. If a port is taken, the error names the port and the flag
//! that changes it.
//!
//! The public functions return boxed futures and are not generic. So the brokers' code is compiled once, in this package,
//! and a changed line elsewhere does not compile it again.
//!
//! Must never be used in production: one copy of everything, no TLS.

mod access;
mod data_folder;
mod error;
mod mqtt;
mod ports;
mod rocketmq;
mod rocketmq_settings;

pub use access::{AccessControl, Admission, ClientEvent, ClientEventKind, ClientPolicy, ConnectRequest};
pub use error::EmbeddedError;
pub use mqtt::{MqttBroker, MqttBrokerOptions, SENDER_PROPERTY, start_mqtt_broker};
pub use rocketmq::{RocketMq, RocketMqOptions, start_rocketmq};
