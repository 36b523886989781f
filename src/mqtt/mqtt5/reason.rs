//! Reason codes of MQTT 5, known and unknown: what they mean for the one who waits for the answer, and in words.
//!
//! A code below 0x80 is success, whatever it says; any other is a refusal (MQTT 5.0, section 2.4). A code that nobody
//! knows yet is shown as its number.

use std::fmt;

use crate::model::{Qos, quoted};
use crate::mqtt::wire::{Goodbye, PublishVerdict, Refusal, SubscribeVerdict};

/// One reason code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason(pub u8);

impl Reason {
    pub(crate) const SUCCESS: Self = Self(0x00);
    pub(crate) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(crate) const TAKEN_OVER: Self = Self(0x8e);
    pub(crate) const TOPIC_NAME_INVALID: Self = Self(0x90);
    pub(crate) const PACKET_TOO_LARGE: Self = Self(0x95);
    pub(crate) const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);
    pub(crate) const RETAIN_NOT_SUPPORTED: Self = Self(0x9a);
    pub(crate) const QOS_NOT_SUPPORTED: Self = Self(0x9b);
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

    /// What to do where it ends a connection, or lets none begin.
    pub(crate) fn remedy(self) -> &'static str {
        match self.0 {
            0x81 | 0x82 => {
                "the broker's log may say what it does not understand; if this comes again, report it"
            }
            0x84 => "this broker seems to speak only MQTT 3.1.1; use a broker with MQTT 5",
            0x85 => {
                "check mqtt.client_id: the broker may want a shorter one, other characters, or one that it knows"
            }
            0x86 => "check mqtt.username and mqtt.password",
            0x87 => {
                "check mqtt.username, mqtt.password and the broker's access rules for mqtt.client_id and its topics"
            }
            0x88 => "the broker may be starting or overloaded; wait, then see its log",
            0x89 => "see the broker's load and its limits for clients",
            0x8a => "ask who runs the broker why mqtt.client_id or this machine is banned",
            0x8b => "start the broker again",
            0x8c => "allow clients that log in with user name and password, as roombridge does",
            0x8d => "see whether this machine or the network is overloaded, or raise mqtt.keep_alive_s",
            0x8e => "stop the other client that uses mqtt.client_id, or give one of them another name",
            0x8f => {
                "change the filter of the [[binding]] that the broker does not allow, or allow it in the broker"
            }
            0x90 => {
                "change mqtt_topic of the [[downlink]] that the broker does not allow, or allow it in the broker"
            }
            0x95 => "raise the broker's limit for the size of packets",
            0x96 => "raise the broker's limit for messages in a time",
            0x97 => "raise the broker's quota for this client",
            0x98 => "ask who runs the broker why they ended the connection",
            0x9b => "allow QoS 1 in the broker",
            0x9c | 0x9d => "set mqtt.url to the server that takes its place",
            0x9f => {
                "raise the broker's limit for connections in a time, or find out who else connects so often"
            }
            0xa0 => "raise the broker's limit for the length of a connection: roombridge stays connected",
            0xa1 => "allow subscription identifiers in the broker",
            0xa2 => "allow wildcards in the broker, or give each [[binding]] a filter without + and #",
            _ => "see the broker's log",
        }
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
        Refusal::Denied { answer: self.to_string(), remedy: self.reason.remedy() }
    }

    /// In a DISCONNECT.
    pub(crate) fn goodbye(&self) -> Goodbye {
        Goodbye {
            session_taken_over: self.reason == Reason::TAKEN_OVER,
            reason: self.to_string(),
            remedy: self.reason.remedy(),
        }
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

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(words) = &self.words {
            write!(f, " ({})", quoted(words))?;
        }
        if let Some(server) = &self.server_reference {
            write!(f, ", it names the server {}", quoted(server))?;
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
            ([reason], Some(words)) => write!(f, "{reason}: {}", quoted(words)),
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
        assert_eq!(verdict(Reason(0x97)), PublishVerdict::NotNow(text("0x97 quota exceeded")));
    }
    /// docs/MESSAGES.md has a row for each code that has a remedy of its own.
    #[test]
    fn the_page_has_each_code_with_its_remedy() {
        let rows = crate::mqtt::tests::rows("Reason codes");
        let named: Vec<String> = rows.iter().map(|[code, ..]| code.clone()).collect();
        let codes = (0..=u8::MAX).map(Reason);
        let expected: Vec<Reason> = codes.filter(|code| code.remedy() != "see the broker's log").collect();
        assert_eq!(named, expected.iter().map(ToString::to_string).collect::<Vec<_>>());
        for ([code, cause, remedy], reason) in rows.iter().zip(expected) {
            assert_eq!(remedy, reason.remedy(), "{code}");
            assert!(!cause.is_empty(), "{code}");
        }
    }

    #[test]
    fn words_of_a_broker_are_cut_and_made_visible_in_each_answer() {
        let words = Some(format!("\u{1b}[2J{}", "x".repeat(300)));
        let answer = Answer { reason: Reason(0x98), server_reference: words.clone(), words: words.clone() };
        let filters = FilterAnswers { reasons: vec![Reason(0x98)], words };
        for said in [answer.to_string(), answer.goodbye().to_string(), filters.to_string()] {
            assert!(!said.contains('\u{1b}') && said.contains("\\u{1b}[2Jxxx"), "{said}");
            assert!(said.len() < 600 && said.contains("xxx\"..."), "{said}");
        }
    }
}
