//! The properties of a RocketMQ message as RocketMQ keeps them: name, U+0001, value, U+0002, one after the other. They are
//! written once, in this form, when a message is bound; the batch takes them as they are.
//!
//! Promises: KEYS and TAGS, if the message has them, stand first; a name or a value that the form cannot hold is found before
//! the message is sent ([`OutgoingProperties::is_storable`]), so that it never becomes another property.

use std::fmt;

use memchr::{memchr, memchr2};
use serde::ser::{Serialize, Serializer};

/// Ends a name.
const NAME_END: char = '\u{1}';
/// Ends a value.
const VALUE_END: char = '\u{2}';
/// Bytes of the two separators of each property.
const SEPARATORS_BYTES: usize = 2;
const KEYS: &str = "KEYS";
const TAGS: &str = "TAGS";

/// Bytes of a property with its two separators.
pub(crate) const fn property_bytes(name: &str, value_bytes: usize) -> usize {
    name.len() + value_bytes + SEPARATORS_BYTES
}

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OutgoingProperties {
    text: String,
    /// Bytes of the values of KEYS and TAGS; 0 = the message has none.
    keys_bytes: usize,
    tag_bytes: usize,
    /// Something was written that the form cannot hold.
    is_broken: bool,
}

impl OutgoingProperties {
    /// Only KEYS and TAGS, if they are not empty. `more_bytes`: of what will be written behind them, about.
    pub fn new(keys: &str, tag: &str, more_bytes: usize) -> Self {
        Self::new_in(String::new(), keys, tag, more_bytes)
    }

    /// As [`Self::new`], in a buffer that was used before, so that no memory has to be found for each message.
    pub(crate) fn new_in(mut buffer: String, keys: &str, tag: &str, more_bytes: usize) -> Self {
        let head_bytes = property_bytes(KEYS, keys.len()) + property_bytes(TAGS, tag.len());
        buffer.clear();
        buffer.reserve(head_bytes + more_bytes);
        let mut properties = Self { text: buffer, ..Self::default() };
        if !keys.is_empty() {
            properties.push(KEYS, keys);
        }
        if !tag.is_empty() {
            properties.push(TAGS, tag);
        }
        (properties.keys_bytes, properties.tag_bytes) = (keys.len(), tag.len());
        properties
    }

    /// For [`Self::new_in`].
    pub(crate) fn into_buffer(self) -> String {
        self.text
    }

    /// Writes one more property. The form cannot hold an empty name or value.
    pub fn push(&mut self, name: &str, value: &str) {
        self.is_broken |= holds_a_separator(name) || holds_a_separator(value);
        self.push_with(name, |text| text.push_str(value));
    }

    /// As [`Self::push`]; `write` writes the value at the end of the text, and never a separator.
    pub(crate) fn push_with(&mut self, name: &str, write: impl FnOnce(&mut String)) {
        self.text.push_str(name);
        self.text.push(NAME_END);
        let value_from = self.text.len();
        write(&mut self.text);
        self.is_broken |= name.is_empty() || self.text.len() == value_from;
        debug_assert!(
            self.is_broken || !self.text.get(value_from..).is_some_and(holds_a_separator),
            "{name} holds a separator"
        );
        self.text.push(VALUE_END);
    }

    /// RocketMQ's format holds each of them as it was written.
    pub(crate) fn is_storable(&self) -> bool {
        !self.is_broken
    }

    /// In stored form.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// KEYS, separated by spaces; empty = none.
    pub fn keys(&self) -> &str {
        let from = KEYS.len() + 1;
        self.text.get(from..from + self.keys_bytes).unwrap_or_default()
    }

    /// TAGS; empty = none.
    pub fn tag(&self) -> &str {
        let from = self.after_keys() + TAGS.len() + 1;
        self.text.get(from..from + self.tag_bytes).unwrap_or_default()
    }

    fn after_keys(&self) -> usize {
        if self.keys_bytes == 0 { 0 } else { property_bytes(KEYS, self.keys_bytes) }
    }

    /// All but KEYS and TAGS, in order.
    pub fn user(&self) -> impl Iterator<Item = (&str, &str)> {
        let tag_bytes = if self.tag_bytes == 0 { 0 } else { property_bytes(TAGS, self.tag_bytes) };
        let text = self.text.get(self.after_keys() + tag_bytes..).unwrap_or_default();
        User(text)
    }
}

fn holds_a_separator(text: &str) -> bool {
    memchr2(NAME_END as u8, VALUE_END as u8, text.as_bytes()).is_some()
}

/// What is left of the text.
struct User<'a>(&'a str);

impl<'a> Iterator for User<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split_at_byte(self.0, NAME_END)?;
        let (value, rest) = split_at_byte(rest, VALUE_END)?;
        self.0 = rest;
        Some((name, value))
    }
}

/// Before and after the first of those bytes.
fn split_at_byte(text: &str, end: char) -> Option<(&str, &str)> {
    let at = memchr(end as u8, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// All but KEYS and TAGS, as pairs: the spool's JSON.
impl Serialize for OutgoingProperties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.user())
    }
}

impl fmt::Debug for OutgoingProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(KEYS, self.keys()), (TAGS, self.tag())];
        f.debug_map().entries(named.into_iter().chain(self.user())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_found(
            keys in "[a-z ]{0,9}",
            tag in "[a-z/%]{0,9}",
            user in prop::collection::vec(("[A-Za-z]{1,9}", "[^\u{1}\u{2}]{1,9}"), 0..5),
        ) {
            let mut properties = OutgoingProperties::new(&keys, &tag, 0);
            for (name, value) in &user {
                properties.push(name, value);
            }
            prop_assert!(properties.is_storable());
            prop_assert_eq!((properties.keys(), properties.tag()), (keys.as_str(), tag.as_str()));
            let found: Vec<_> = properties.user().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(found, user);
        }

        #[test]
        fn what_the_form_cannot_hold_is_found(
            keys in "[a\u{1}\u{2}]{0,4}",
            user in prop::collection::vec(("[a\u{1}\u{2}]{0,3}", "[a\u{1}\u{2}]{0,3}"), 0..4),
        ) {
            let mut properties = OutgoingProperties::new(&keys, "", 0);
            for (name, value) in &user {
                properties.push(name, value);
            }
            let cannot = |text: &str| text.contains(['\u{1}', '\u{2}']);
            let unstorable = cannot(&keys)
                || user.iter().any(|(name, value)| [name, value].into_iter().any(|text| text.is_empty() || cannot(text)));
            prop_assert_eq!(properties.is_storable(), !unstorable);
        }
    }
}
