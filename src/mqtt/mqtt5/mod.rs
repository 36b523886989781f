//! The codec of MQTT 5: bytes of a broker into [`FromBroker`](super::wire::FromBroker), and [`ToBroker`](super::wire::ToBroker)
//! into bytes.
//!
//! Framing and outgoing packets are rumqttc's; what a broker sends is decoded here. rumqttc 0.25 fails on each reason code that
//! it does not know, and a new connection meets the same one again; it never sees an answer whose properties are left out; and
//! of a delivery with three subscription identifiers it gives the end of the properties out as payload.
//!
//! MQTT 3.1.1 will be one more folder like this one.
//!
//! Promises: each reason code is an answer; properties that cannot be read are left out, and the payload still begins where it
//! does; what is no packet at all is an error.
//! Must never: do IO.

mod incoming;
mod outgoing;
mod reason;

pub(crate) use incoming::read;
pub(crate) use outgoing::write;
