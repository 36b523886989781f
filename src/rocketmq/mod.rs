//! The RocketMQ side: the only room that names the RocketMQ client.
//!
//! Promises: one attempt per call, each with a deadline; the client's errors are mapped to our closed list once.
//! Must never: name MQTT, or retry.

mod admin;
mod client;
mod failure;
mod lag;
mod producer;
mod reader;
mod reader_port;
mod remark;
mod seen_brokers;

pub use client::Connector;

pub(crate) use lag::GroupLag;
pub use producer::Producer;

pub use reader::RocketMqReader;
