//! The embedded MQTT broker knows who connects, who may do what, and who is there. All through real sockets.
#![cfg(feature = "embedded")]
#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "embedded_mqtt/access_control.rs"]
mod access_control;
#[path = "embedded_mqtt/bytes.rs"]
mod bytes;
#[path = "embedded_mqtt/events.rs"]
mod events;
#[path = "embedded_mqtt/hello.rs"]
mod hello;
#[path = "embedded_mqtt/ids.rs"]
mod ids;
#[path = "embedded_mqtt/lacking.rs"]
mod lacking;
#[path = "embedded_mqtt/limits.rs"]
mod limits;
#[path = "embedded_mqtt/p2p.rs"]
mod p2p;
#[path = "embedded_mqtt/protocol.rs"]
mod protocol;
#[path = "embedded_mqtt/refusals.rs"]
mod refusals;
#[path = "embedded_mqtt/sessions.rs"]
mod sessions;
#[path = "embedded_mqtt/support.rs"]
mod support;
#[path = "embedded_mqtt/wire.rs"]
mod wire;
