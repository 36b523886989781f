//! RocketMQ's remoting protocol: connections to name servers and brokers, the requests that carry messages, and
//! the messages that answers carry.
//!
//! Promises: several requests share a connection, and each ends with its answer or at its deadline; an answer, whatever its code,
//! proves the connection, and only a failure of the transport replaces it; nothing is sent twice.
//! Must never: retry, choose a queue, or decide what a code means for a message (`failure` does).

mod cluster;
mod connection;
mod consume_stats;
mod frame;
mod message;
mod route;
mod send;
mod signature;
mod uniq_key;

pub(super) use cluster::{Cluster, ClusterOptions, NameServerError};
pub(super) use connection::CallError;
pub(super) use consume_stats::{StatsOffsets, StatsQueue, queues_of_stats};
pub(super) use frame::{Answer, Request};
pub(super) use message::{Unreadable, take_message};
pub(super) use route::{BrokerAddresses, Queues, Route};
pub(super) use send::send_request;
pub(super) use signature::Keys;
pub(super) use uniq_key::UniqKeys;
