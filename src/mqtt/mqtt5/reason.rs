//! Reason codes of MQTT 5, known and unknown: what they mean for the one who waits for the answer, and in words.
//!
//! A code below 0x80 is success, whatever it says; any other is a refusal (MQTT 5.0, section 2.4). A code that nobody
//! knows yet is shown as its number.

use std::fmt;

use crate::model::Qos;
use crate::mqtt::wire::{PublishVerdict, Refusal, SubscribeVerdict};

/// One reason code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason(pub u8);

impl Reason {
    pub(crate) const SUCCESS: Self = Self(0x00);
    pub(crate) const UNSUPPORTED_VERSION: Self = Self(0x84);
    pub(crate) const BAD_CLIENT_ID: Self = Self(0x85);
    pub(crate) const BAD_CREDENTIALS: Self = Self(0x86);
    pub(crate) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(crate) const SERVER_UNAVAILABLE: Self = Self(0x88);
    pub(crate) const SERVER_BUSY: Self = Self(0x89);
    pub(crate) const BANNED: Self = Self(0x8a);
    pub(crate) const BAD_AUTHENTICATION_METHOD: Self = Self(0x8c);
    pub(crate) const TAKEN_OVER: Self = Self(0x8e);
    pub(crate) const TOPIC_NAME_INVALID: Self = Self(0x90);
    pub(crate) const PACKET_TOO_LARGE: Self = Self(0x95);
    pub(crate) const QUOTA_EXCEEDED: Self = Self(0x97);
    pub(crate) const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);
    pub(crate) const RETAIN_NOT_SUPPORTED: Self = Self(0x9a);
    pub(crate) const QOS_NOT_SUPPORTED: Self = Self(0x9b);
    pub(crate) const USE_ANOTHER_SERVER: Self = Self(0x9c);
    pub(crate) const SERVER_MOVED: Self = Self(0x9d);
    pub(crate) const CONNECTION_RATE_EXCEEDED: Self = Self(0x9f);
    pub(crate) const IDENTIFIERS_NOT_SUPPORTED: Self = Self(0xa1);

    pub(crate) fn is_success(self) -> bool {
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
pub(crate) struct Answer {
    pub reason: Reason,
    /// Its reason string.
    pub words: Option<String>,
    /// The other server that it names.
    pub server_reference: Option<String>,
}

impl Answer {
    pub(crate) fn new(reason: Reason) -> Self {
        Self { reason, words: None, server_reference: None }
    }

    /// In the answer to CONNECT.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::Denied { answer: self.to_string(), hint: hint(self.reason) }
    }

    /// In the answer to a PUBLISH. Whether anybody listens there is the broker's business, so each success is one.
    pub(crate) fn publish_verdict(&self) -> PublishVerdict {
        match self.reason {
            reason if reason.is_success() => PublishVerdict::Accepted,
            Reason::NOT_AUTHORIZED => PublishVerdict::NotPermitted(self.to_string()),
            Reason::TOPIC_NAME_INVALID
            | Reason::PAYLOAD_FORMAT_INVALID
            | Reason::RETAIN_NOT_SUPPORTED
            | Reason::QOS_NOT_SUPPORTED => PublishVerdict::Refused(self.to_string()),
            Reason::PACKET_TOO_LARGE => PublishVerdict::TooLarge(self.to_string()),
            _ => PublishVerdict::NotNow(self.to_string()),
        }
    }
}

/// What to do about a refused connection.
fn hint(reason: Reason) -> &'static str {
    match reason {
        Reason::UNSUPPORTED_VERSION => "use a broker with MQTT 5",
        Reason::BAD_CLIENT_ID => "check mqtt.client_id",
        Reason::BAD_CREDENTIALS | Reason::NOT_AUTHORIZED | Reason::BAD_AUTHENTICATION_METHOD => {
            "check mqtt.username, mqtt.password and its access rules"
        }
        Reason::BANNED => "ask who runs it why mqtt.client_id or this machine is banned",
        Reason::SERVER_UNAVAILABLE
        | Reason::SERVER_BUSY
        | Reason::QUOTA_EXCEEDED
        | Reason::CONNECTION_RATE_EXCEEDED => "see the broker's load and its limits for clients",
        Reason::USE_ANOTHER_SERVER | Reason::SERVER_MOVED => {
            "set mqtt.url to the server that takes its place"
        }
        Reason::PACKET_TOO_LARGE => "raise its limit for packets",
        _ => "see the broker's log",
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

/// What a SUBACK or an UNSUBACK answers; each of our requests has one filter.
#[derive(Debug)]
pub(crate) struct FilterAnswers {
    /// One for each filter of the request.
    pub reasons: Vec<Reason>,
    /// The broker's own words about all of it.
    pub words: Option<String>,
}

impl FilterAnswers {
    pub(crate) fn subscribe_verdict(&self) -> SubscribeVerdict {
        match *self.reasons {
            [reason] if reason.is_success() => {
                SubscribeVerdict::Granted(Qos::from_level(reason.0).unwrap_or(Qos::ExactlyOnce))
            }
            [Reason::IDENTIFIERS_NOT_SUPPORTED] => {
                SubscribeVerdict::IdentifiersNotSupported(self.to_string())
            }
            [_] => SubscribeVerdict::Refused(self.to_string()),
            _ => SubscribeVerdict::Unclear(self.to_string()),
        }
    }

    pub(crate) fn unsubscribe_result(&self) -> Result<(), String> {
        match *self.reasons {
            [reason] if reason.is_success() => Ok(()),
            _ => Err(self.to_string()),
        }
    }
}

impl fmt::Display for FilterAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.reasons, &self.words) {
            ([reason], Some(words)) => write!(f, "{reason}: {words:?}"),
            ([reason], None) => write!(f, "{reason}"),
            (reasons, _) => write!(f, "{} reasons in the answer to one filter", reasons.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hazard 20: a denied publish would be taken for delivered, if nobody read the reason. One broker answers 0x01 to each
    /// PUBLISH with user properties, which are all of ours.
    #[test]
    fn each_reason_of_a_puback_below_0x80_is_success_and_each_other_is_none() {
        for code in 0..=u8::MAX {
            let verdict = Answer::new(Reason(code)).publish_verdict();
            assert_eq!(verdict == PublishVerdict::Accepted, code < 0x80, "{code:#04x}: {verdict:?}");
        }
        let verdict = |reason| Answer::new(reason).publish_verdict();
        let text = |text: &str| text.to_owned();
        assert_eq!(
            verdict(Reason::NOT_AUTHORIZED),
            PublishVerdict::NotPermitted(text("0x87 not authorized"))
        );
        assert_eq!(
            verdict(Reason::PACKET_TOO_LARGE),
            PublishVerdict::TooLarge(text("0x95 packet too large"))
        );
        assert_eq!(verdict(Reason::QUOTA_EXCEEDED), PublishVerdict::NotNow(text("0x97 quota exceeded")));
    }
}
