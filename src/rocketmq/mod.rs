//! The RocketMQ side: the only room that knows RocketMQ's protocol.
//!
//! Promises: one attempt per call, each with a deadline; the answers' codes become entries of our closed list here.
//! Must never: name MQTT, or retry.

mod admin;
mod connector;
mod failure;
mod lag;
mod producer;
mod reach;
mod reader;
mod reader_port;
mod remoting;
mod seen_brokers;
#[cfg(test)]
mod tests;
mod try_write;
mod withheld;

pub use connector::Connector;
#[cfg(test)]
pub(crate) use failure::messages;

pub(crate) use lag::GroupLag;
pub use producer::Producer;
pub(crate) use reach::{ALWAYS_ASKABLE, is_there};

pub use reader::RocketMqReader;
