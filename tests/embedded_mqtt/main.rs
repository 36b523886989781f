//! The embedded MQTT broker knows who connects, who may do what, and who is there. All through real sockets.
#![cfg(feature = "embedded")]
#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_control;
mod bytes;
mod events;
mod hello;
mod ids;
mod lacking;
mod limits;
mod p2p;
mod protocol;
mod refusals;
mod sessions;
mod support;
mod wire;
