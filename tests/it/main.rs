//! Tests of roombridge as a user runs it: the real binary, Mosquitto and Apache RocketMQ, checked by clients that share
//! no code with it. `scripts/setup test` installs what they need; nothing here listens beyond loopback.

#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerts;
mod answers;
mod archive;
mod archive_api;
mod archive_elsewhere;
mod archive_fsync;
mod broker_limits;
mod check;
#[cfg(feature = "embedded")]
mod classroom;
mod data_dir;
#[cfg(feature = "embedded")]
mod dev;
mod downlink;
mod dying_task;
mod faults;
mod fewer_queues;
mod fewer_queues_http;
#[cfg(feature = "embedded")]
mod found;
mod harness;
#[cfg(feature = "embedded")]
mod hostile_class;
mod kept_files;
mod lag;
mod limits;
mod nobody_reads;
mod operator;
mod overlap;
#[cfg(feature = "embedded")]
mod play;
mod producer;
mod reader;
mod remade_topic;
mod scripted;
mod spool_cli;
mod stop_stays_away;
mod subscription;
mod support;
mod surroundings;
mod uplink;
