//! Reason codes of MQTT 5, known and unknown, and a broker's answer in words.
//!
//! A code below 0x80 is success, whatever it says; any other is a refusal (MQTT 5.0, section 2.4). A code that nobody
//! knows yet is shown as its number.

use std::fmt;

/// One reason code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    pub const SUCCESS: Self = Self(0x00);
    pub const UNSUPPORTED_VERSION: Self = Self(0x84);
    pub const BAD_CLIENT_ID: Self = Self(0x85);
    pub const BAD_CREDENTIALS: Self = Self(0x86);
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    pub const SERVER_UNAVAILABLE: Self = Self(0x88);
    pub const SERVER_BUSY: Self = Self(0x89);
    pub const BANNED: Self = Self(0x8a);
    pub const BAD_AUTHENTICATION_METHOD: Self = Self(0x8c);
    pub const TAKEN_OVER: Self = Self(0x8e);
    pub const TOPIC_NAME_INVALID: Self = Self(0x90);
    pub const PACKET_TOO_LARGE: Self = Self(0x95);
    pub const QUOTA_EXCEEDED: Self = Self(0x97);
    pub const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);
    pub const RETAIN_NOT_SUPPORTED: Self = Self(0x9a);
    pub const QOS_NOT_SUPPORTED: Self = Self(0x9b);
    pub const USE_ANOTHER_SERVER: Self = Self(0x9c);
    pub const SERVER_MOVED: Self = Self(0x9d);
    pub const CONNECTION_RATE_EXCEEDED: Self = Self(0x9f);

    pub fn is_success(self) -> bool {
        self.0 < 0x80
    }

    /// The standard's name for it.
    fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x00 => "success",
            0x01 => "granted QoS 1",
            0x02 => "granted QoS 2",
            0x04 => "disconnect with will message",
            0x10 => "no matching subscribers",
            0x11 => "no subscription existed",
            0x18 => "continue authentication",
            0x19 => "re-authenticate",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            0x84 => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8a => "banned",
            0x8b => "server shutting down",
            0x8c => "bad authentication method",
            0x8d => "keep alive timeout",
            0x8e => "session taken over",
            0x8f => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x92 => "packet identifier not found",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9a => "retain not supported",
            0x9b => "QoS not supported",
            0x9c => "use another server",
            0x9d => "server moved",
            0x9e => "shared subscriptions not supported",
            0x9f => "connection rate exceeded",
            0xa0 => "maximum connect time",
            0xa1 => "subscription identifiers not supported",
            0xa2 => "wildcard subscriptions not supported",
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X}", self.0)?;
        match self.name() {
            Some(name) => write!(f, " {name}"),
            None => write!(f, ", a code that MQTT 5 does not name"),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a broker answers: its code and, where it gives them, its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub reason: Reason,
    /// Its reason string.
    pub words: Option<String>,
    /// The other server that it names.
    pub server_reference: Option<String>,
}

impl Answer {
    pub fn new(reason: Reason) -> Self {
        Self { reason, words: None, server_reference: None }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(words) = &self.words {
            write!(f, " ({words:?})")?;
        }
        if let Some(server) = &self.server_reference {
            write!(f, ", it names the server {server:?}")?;
        }
        Ok(())
    }
}
