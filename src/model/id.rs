//! The identity of a message, and the name of the MQTT session that delivered it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The identity of one message, given on arrival and kept through retry, restart and resend.
///
/// Made of a random boot nonce and a counter, never of the clock: a clock that was set back would give two messages
/// the same id, and readers, which fold copies by id, would hide the second. Written as `{nonce:016x}-{counter:x}`, which holds no space
/// because RocketMQ splits KEYS at spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    nonce: u64,
    counter: u64,
}

impl MessageId {
    /// For an id that follows from something else; [`MessageIds`] gives out all others.
    pub(crate) fn from_parts(nonce: u64, counter: u64) -> Self {
        Self { nonce, counter }
    }

    /// The nonce and the counter.
    pub(crate) fn parts(self) -> (u64, u64) {
        (self.nonce, self.counter)
    }

    /// As [`fmt::Display`], at the end of that text, without the formatter, because each message has its id.
    pub(crate) fn push_to(self, text: &mut String) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digit = |number: u64, place: u32| char::from(HEX[(number >> (4 * place)) as usize & 15]);
        text.extend((0..16).rev().map(|place| digit(self.nonce, place)));
        text.push('-');
        let digits = (u64::BITS - self.counter.leading_zeros()).div_ceil(4).max(1);
        text.extend((0..digits).rev().map(|place| digit(self.counter, place)));
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.nonce, self.counter)
    }
}

/// The text is no message id: `{16 hex digits}-{hex digits}` was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no message id; expected 16 hex digits, a dash and hex digits")]
pub struct NotAMessageId(pub String);

impl FromStr for MessageId {
    type Err = NotAMessageId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAMessageId(text.to_owned());
        let (nonce, counter) = text.split_once('-').ok_or_else(wrong)?;
        if nonce.len() != 16 {
            return Err(wrong());
        }
        Ok(Self {
            nonce: u64::from_str_radix(nonce, 16).map_err(|_| wrong())?,
            counter: u64::from_str_radix(counter, 16).map_err(|_| wrong())?,
        })
    }
}

/// Gives out the ids of one boot.
#[derive(Debug)]
pub struct MessageIds {
    nonce: u64,
    next: u64,
}

impl MessageIds {
    /// `nonce` must be random: it alone keeps the ids of two boots and of two bridges apart.
    pub fn new(nonce: u64) -> Self {
        Self { nonce, next: 0 }
    }

    /// The next id, different from all before it.
    pub fn next_id(&mut self) -> MessageId {
        self.next += 1;
        MessageId { nonce: self.nonce, counter: self.next }
    }
}

/// Names one MQTT session: the client id and a random stamp made when the broker said that there was no session.
///
/// A session that the broker forgot and began anew has another stamp, so that its packet identifiers are never
/// compared with those of the old one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionStamp(Arc<str>);

impl SessionStamp {
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hazard 14: two boots never give one id, however the clock was set between them.
    #[test]
    fn ids_of_two_boots_differ() {
        let of_boot = |nonce| -> Vec<_> {
            let mut ids = MessageIds::new(nonce);
            (0..1000).map(|_| ids.next_id()).collect()
        };
        let (first, second) = (of_boot(1), of_boot(2));
        let all: std::collections::HashSet<_> = first.iter().chain(&second).collect();
        assert_eq!(all.len(), 2000);
    }

    proptest! {
        #[test]
        fn an_id_survives_its_text(nonce: u64, counter in 0..u64::MAX) {
            let id = MessageIds { nonce, next: counter }.next_id();
            prop_assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
            prop_assert!(!id.to_string().contains(' '));
            let mut pushed = String::new();
            id.push_to(&mut pushed);
            prop_assert_eq!(pushed, id.to_string());
        }

        #[test]
        fn text_that_is_no_id_is_refused(text in "[^-]*") {
            prop_assert!(text.parse::<MessageId>().is_err());
        }
    }
}
