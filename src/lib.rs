#![recursion_limit = "512"]
//! roombridge keeps a live classroom's MQTT messages in RocketMQ: nothing that it acknowledged is lost, and every
//! room can be replayed. `docs/ARCHITECTURE.md` draws a message's way and names each room (module) in one line.
//!
//! The rooms are private: the product is the command. Tests reach what they need through `testing`.

// What only `roombridge dev` uses is not looked for where it is left out.
#![cfg_attr(not(feature = "embedded"), allow(dead_code, unused_imports))]
// With `testing` only, which makes reachable what tests use.
#![cfg_attr(feature = "testing", warn(unreachable_pub))]
#![warn(clippy::missing_docs_in_private_items)]

mod access;
mod app;
mod archive;
mod archiver;
mod binding;
mod classroom;
mod config;
mod consumer;
mod data_dir;
mod downlink;
mod export;
mod happy_eyeballs;
mod http;
mod index;
mod indexer;
mod lifecycle;
mod live_class;
mod model;
mod mqtt;
mod piece;
mod piece_store;
mod pipeline;
mod rocketmq;
mod search;
mod service_manager;
mod spool;
mod storage;
mod telemetry;
mod watch_data_dir;
mod watch_rocketmq;
mod watch_spool;

pub mod cli;
#[cfg(feature = "testing")]
pub mod testing;
