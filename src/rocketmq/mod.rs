//! The RocketMQ side: the only room that uses the RocketMQ client library.
//!
//! Promises: one attempt per call, each with a deadline; the client's errors become entries of our closed list here.
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
