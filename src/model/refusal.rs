//! RocketMQ's answer when it refuses a send: code and remark as it gave them.

use std::fmt;
use std::sync::Arc;

use super::{FailureKind, their_words};

/// One refusal, with the broker's code and remark and with the kind that we make of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the code means for a retry.
    pub kind: FailureKind,
    /// `ResponseCode` of the remoting protocol.
    pub code: i32,
    /// The broker's sentence for people; may be empty.
    pub remark: Arc<str>,
}

impl Refusal {
    /// Whether both mean the same: equal codes, and equal remarks but for the words with a digit. Such words are times,
    /// addresses and ids, which differ between two answers of the same meaning.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.kind, self.code) == (other.kind, other.code) && words(&self.remark).eq(words(&other.remark))
    }
}

fn words(remark: &str) -> impl Iterator<Item = &str> {
    let words = remark.split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty() && !word.contains(|letter: char| letter.is_numeric()))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match their_words(&self.remark).as_str() {
            "" => write!(f, "code {}", self.code),
            words => write!(f, "code {}, {words}", self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: i32, remark: &str) -> Refusal {
        Refusal { kind: FailureKind::Refused, code, remark: remark.into() }
    }

    #[test]
    fn times_addresses_and_ids_do_not_make_another_answer() {
        let first =
            refusal(1, "store of 10.0.0.1:10911 failed at 2026-11-27 10:00:01.250, msg 0A0B0C: no room");
        let later = refusal(1, "store of 10.0.0.2:10911 failed at 2026-11-27 10:00:03.7, msg 1FFF2: no room");
        assert!(first.is_like(&later));
        assert!(!first.is_like(&refusal(2, &first.remark)), "another code");
        assert!(!first.is_like(&refusal(1, "store failed: no disk")), "other words");
    }

    #[test]
    fn a_long_remark_is_shown_in_part() {
        let shown = refusal(1, &"\u{e4}".repeat(1_000)).to_string();
        assert!(shown.chars().count() < 230, "{shown}");
        assert_eq!(refusal(215, "").to_string(), "code 215");
    }
}
