//! The harness: the real brokers, the real binary, and independent clients to check by.
//!
//! Promises that everything it starts listens on loopback only, lives in a scratch folder under the build folder and
//! ends with the test process, however that ends. Must never use port 1883, and never wait without a deadline.

// Each part is used by some of the tests only, and the harness may be wider than today's tests.
#![allow(dead_code)]

pub mod apache;
pub mod attempt;
pub mod bridge;
pub mod certificates;
#[cfg(feature = "embedded")]
pub mod class;
#[cfg(feature = "embedded")]
pub mod dev;
pub mod gated_sink;
pub mod java;
pub mod java_bodies;
pub mod java_programs;
pub mod lesson;
pub mod lying_rocketmq;
pub mod metrics;
pub mod mosquitto;
pub mod mqtt_client;
pub mod mqtt_subscriber;
pub mod mqtt_witness;
pub mod ports;
pub mod preload;
pub mod process;
pub mod prometheus;
pub mod publish_engine;
pub mod remoting;
pub mod s3;
pub mod s3_proxy;
pub mod scratch;
pub mod scripted_broker;
pub mod second_broker;
pub mod small_disk;
pub mod steps;
pub mod streams;
pub mod tcp_proxy;
pub mod two_addresses;
