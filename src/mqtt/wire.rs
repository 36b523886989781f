//! What an MQTT broker and this client say to each other, in our own words, whatever the version of the protocol.
//!
//! A codec (today `mqtt5`) reads bytes into [`FromBroker`] and writes [`ToBroker`] as bytes. It also decides what a reason code
//! means for whoever waits for the answer, so that the rest of the room knows no codes and no version.

use std::fmt;

use bytes::Bytes;
use secrecy::SecretString;

use super::limits::Limits;
use crate::model::{MqttMessage, MqttProperties, Qos};

/// A packet of the broker.
#[derive(Debug, PartialEq)]
pub(crate) enum FromBroker {
    Connack(Connack),
    /// The CONNACK of a broker that does not let us in.
    Refused(Refusal),
    Publish(Publish),
    Puback(Puback),
    Suback(Suback),
    Unsuback(Unsuback),
    /// The broker ends the connection with a DISCONNECT.
    Goodbye(Goodbye),
    Pong,
    /// A packet of QoS 2, which we do not use.
    Other,
}

/// The broker lets us in.
#[derive(Debug, Clone, PartialEq)]
pub struct Connack {
    pub session_present: bool,
    pub limits: Limits,
}

/// Why the broker does not let us in, and what to do about it.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the MQTT broker refuses us: {answer}; {remedy}")]
    Denied { answer: String, remedy: &'static str },
    #[error(
        "this broker seems to speak only MQTT 3.1.1: it answers CONNECT in the way of that version ({}), and roombridge needs MQTT \
         5; use a broker with MQTT 5",
        older_code(*.0)
    )]
    OnlyOlder(u8),
}

/// What MQTT 3.1.1 calls its return codes of CONNACK (section 3.2.2.3).
fn older_code(code: u8) -> String {
    let name = match code {
        0 => "accepted",
        1 => "unacceptable protocol version",
        2 => "identifier rejected",
        3 => "server unavailable",
        4 => "bad user name or password",
        5 => "not authorized",
        _ => "unknown",
    };
    format!("code {code}, {name}")
}

/// A message that the broker delivers.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    pub topic: String,
    /// Shares the memory of the block in which it was read.
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
    /// The DUP flag: the broker says that it has sent this delivery before.
    pub duplicate: bool,
    /// 0 with QoS 0.
    pub packet_id: u16,
    pub properties: MqttProperties,
    /// The subscriptions that brought it, as far as the broker tells.
    pub subscription_identifiers: Vec<usize>,
}

/// The broker's answer to a message of ours.
#[derive(Debug, PartialEq)]
pub(crate) struct Puback {
    pub packet_id: u16,
    pub verdict: PublishVerdict,
}

/// What became of a message of ours. The texts are the broker's reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishVerdict {
    Accepted,
    /// We may not publish on that topic.
    NotPermitted(String),
    /// The broker will never take it.
    Refused(String),
    /// It is over the broker's limit for packets.
    TooLarge(String),
    /// The broker cannot take it now.
    NotNow(String),
}

/// The broker's answer to a SUBSCRIBE with one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    pub packet_id: u16,
    pub verdict: SubscribeVerdict,
}

/// What became of one subscription. The texts are the broker's reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeVerdict {
    Granted(Qos),
    /// The broker takes no subscription identifiers; it may grant the same filter without one.
    IdentifiersNotSupported(String),
    Refused(String),
    /// The answer does not fit a request with one filter, so it is not known what the broker did.
    Unclear(String),
}

/// The broker's answer to an UNSUBSCRIBE with one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsuback {
    pub packet_id: u16,
    /// The text is the broker's reason for leaving the subscription in place.
    pub result: Result<(), String>,
}

/// Why the broker ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// Another client has connected with our client id and has our session now.
    pub session_taken_over: bool,
    /// The broker's reason, and its own words where it gives them.
    pub reason: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Goodbye {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

/// A packet for the broker.
#[derive(Debug, Clone)]
pub enum ToBroker<'a> {
    Connect(&'a Connect),
    /// PUBACK: the message is kept, the broker may forget it.
    Ack {
        packet_id: u16,
    },
    /// With QoS 1, or with QoS 0 if the packet identifier is 0. The message's own expiry does not count.
    Publish {
        message: &'a MqttMessage,
        packet_id: u16,
        expiry_s: Option<u32>,
    },
    Subscribe {
        packet_id: u16,
        filter: String,
        identifier: Option<u32>,
    },
    Unsubscribe {
        packet_id: u16,
        filter: String,
    },
    Ping,
    /// We end the connection, and with `ends_session` the session too.
    Goodbye {
        ends_session: bool,
    },
}

/// What a connection begins with.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Names the session.
    pub client_id: String,
    /// The broker forgets what it had under that client id.
    pub clean_start: bool,
    /// How long the broker is to keep the session after the connection; `None`: not at all.
    pub session_expiry_s: Option<u32>,
    /// The broker may hang up after one and a half times so many seconds of silence.
    pub keep_alive_s: u16,
    /// How many messages the broker may send before it has our PUBACKs.
    pub receive_maximum: u16,
    /// The largest packet that the broker may send.
    pub max_packet_bytes: u32,
    /// `None`: no user name.
    pub login: Option<Login>,
}

/// Name and password for the broker.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user name of CONNECT.
    pub username: String,
    /// `None`: a user name alone.
    pub password: Option<SecretString>,
}

/// Why no packet could be read.
#[derive(Debug)]
pub(crate) enum ReadPacketError {
    /// The rest of the packet has not come yet: that many bytes at least.
    Incomplete { missing_bytes: usize },
    /// The broker sent what the protocol does not allow.
    Malformed(String),
}

/// Why a packet cannot be sent to this broker.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub enum WritePacketError {
    #[error("the packet has {packet_bytes} bytes, and the broker takes {max_bytes} at most")]
    TooLarge { packet_bytes: u32, max_bytes: u32 },
    #[error("{0}")]
    Invalid(String),
}
