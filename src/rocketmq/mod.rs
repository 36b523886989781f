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
mod remark;
mod seen_brokers;

pub use admin::{Admin, AdminError, create_topic};
pub use client::{Connector, StartError};
pub use lag::{GroupLag, LagError, QueueLag};
pub use producer::Producer;
pub use reader::{ReaderStartError, RocketMqReader};
