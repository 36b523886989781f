#![recursion_limit = "512"]
//! roombridge keeps a live classroom's MQTT messages in RocketMQ: nothing that it acknowledged is lost, and every
//! room can be replayed. `docs/ARCHITECTURE.md` draws a message's way and names each room (module) in one line.

pub mod model;

pub mod config;

pub mod binding;

pub mod archive;

pub mod data_dir;

pub mod storage;

pub mod spool;

pub mod telemetry;

pub mod pipeline;

pub mod mqtt;

pub mod consumer;

pub mod downlink;

pub mod access;

pub mod classroom;

pub mod live_class;

pub mod rocketmq;

pub mod http;

pub mod lifecycle;

pub mod app;

mod watch_data_dir;

mod watch_rocketmq;

mod watch_spool;

pub mod cli;
