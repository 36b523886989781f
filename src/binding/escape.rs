//! Percent-encodes the characters that have a meaning for RocketMQ, and leaves all others as people wrote them.
//!
//! Promises: [`decode`] undoes each of the encodings; a text without special characters is not changed at all.
//! Must never: encode more than necessary, because people read and type tags and keys.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// RocketMQ ends a property's name with U+0001 and its value with U+0002; NUL ends texts in other clients.
pub(super) fn is_unstorable(text: &str) -> bool {
    memchr::memchr3(0, 1, 2, text.as_bytes()).is_some()
}

/// Encodes a property value that [`is_unstorable`].
pub(super) fn value(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 16);
    push_encoded(&mut encoded, text, |c| c <= '\u{2}' || c == '%');
    encoded
}

/// Encodes and appends one key of KEYS, which RocketMQ splits at spaces.
pub(super) fn push_key(keys: &mut String, text: &str) {
    push_encoded(keys, text, |c| c == ' ' || c == '%' || c.is_control());
}

/// Encodes a tag: `||` separates tags in a subscription, `*` alone means all, and clients trim tags.
pub(super) fn tag(text: Cow<'_, str>) -> Cow<'_, str> {
    let special = |c: char| c == '%' || c == '|' || c.is_control();
    let inner = text.trim();
    if inner.len() == text.len() && text != "*" && !text.contains(special) {
        return text;
    }
    if text == "*" {
        return "%2A".into();
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    let outer_bytes = text.len() - text.trim_start().len();
    push_encoded(&mut encoded, &text[..outer_bytes], |_| true);
    push_encoded(&mut encoded, inner, special);
    push_encoded(&mut encoded, &text[outer_bytes + inner.len()..], |_| true);
    encoded.into()
}

pub(super) fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn push_encoded(encoded: &mut String, text: &str, special: impl Fn(char) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut plain_from = 0;
    for (at, c) in text.char_indices().filter(|&(_, c)| special(c)) {
        encoded.push_str(&text[plain_from..at]);
        plain_from = at + c.len_utf8();
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded.push_str(&text[plain_from..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_encoding_can_be_undone(text in "(?s)[\\x00-\\x20%|* a-c\u{4e2d}\u{3000}\u{85}]{0,12}") {
            let mut key = String::new();
            push_key(&mut key, &text);
            prop_assert!(!key.contains(' '));
            prop_assert_eq!(decode(&key).into_owned(), text.clone());

            let stored = value(&text);
            prop_assert!(!is_unstorable(&stored));
            prop_assert_eq!(decode(&stored).into_owned(), text.clone());

            let tag = tag(text.as_str().into());
            prop_assert!(!tag.contains('|') && tag.trim() == tag && tag != "*");
            prop_assert_eq!(decode(&tag).into_owned(), text);
        }
    }

    #[test]
    fn a_plain_sub_topic_is_its_own_tag() {
        for plain in ["message/123456", "p2p/GID_student@@@001", "\u{6559}\u{5ba4} 1", "a*b"] {
            assert_eq!(tag(plain.into()), plain);
        }
        assert_eq!(tag("message/a||b".into()), "message/a%7C%7Cb");
        assert_eq!(tag(" x ".into()), "%20x%20");
    }
}
