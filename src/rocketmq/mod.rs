//! The RocketMQ side: the only room that names the RocketMQ client.
//!
//! Promises: one attempt per call, each with a deadline; the client's errors are mapped to our closed list once.
//! Must never: name MQTT, or retry.

mod admin;
mod client;
mod failure;
mod producer;
mod reader;

pub use admin::{Admin, AdminError, GroupLag, QueueLag, create_topic};
pub use client::{Connector, StartError};
pub use producer::Producer;
pub use reader::{ReaderStartError, RocketMqReader};
