//! Splits an MQTT topic into its levels, and reads kind, room and order key from them by the default rule.
//!
//! Promises: gives the same answers when a message is bound and when it is read back.
//! Must never: allocate while a message is bound.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

use crate::model::{Kind, TopicFilter};

/// So many levels can be named, because templates name a level by one digit.
pub(super) const NAMED_LEVELS: usize = 10;

/// The parts of a topic that fill a template. `None` = the topic has no such part, or it is not known.
pub(super) trait Parts {
    fn level(&self, index: usize) -> Option<&str>;
    /// Everything after the first level, without the slash between.
    fn sub(&self) -> Option<Cow<'_, str>>;
    fn topic(&self) -> Option<Cow<'_, str>>;
}

/// The levels of one topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels<'a> {
    topic: &'a str,
    names: [&'a str; NAMED_LEVELS],
    count: usize,
}

impl<'a> Levels<'a> {
    pub(crate) fn of(topic: &'a str) -> Self {
        let mut levels = Self { topic, names: [""; NAMED_LEVELS], count: 0 };
        for name in topic.split('/') {
            if let Some(place) = levels.names.get_mut(levels.count) {
                *place = name;
            }
            levels.count += 1;
        }
        levels
    }

    pub(crate) fn below_first(&self) -> Option<&'a str> {
        self.topic.split_once('/').map(|(_, sub)| sub)
    }

    /// As [`Self::below_first`], with the slash between.
    pub(crate) fn below_first_with_slash(&self) -> Option<&'a str> {
        self.topic.find('/').and_then(|slash| self.topic.get(slash..))
    }

    /// The kind by the default rule: the second level, if it names a kind; else [`Kind::Other`].
    pub(crate) fn default_kind(&self) -> Kind {
        if self.count < 2 { Kind::Other } else { Kind::from_name(self.names[1]) }
    }

    /// The room by the default rule: the third and last level of a topic of kind `message`. Deeper topics have no room, so
    /// that a room's tag always follows from the room.
    pub(crate) fn default_room(&self, kind: Kind) -> Option<&'a str> {
        (kind == Kind::Message && self.count == 3 && !self.names[2].is_empty()).then_some(self.names[2])
    }

    /// The order key of a message without a room by the default rule: the sub-topic, else the topic.
    pub(crate) fn default_order_key(&self) -> &'a str {
        self.below_first().filter(|sub| !sub.is_empty()).unwrap_or(self.topic)
    }
}

impl Parts for Levels<'_> {
    fn level(&self, index: usize) -> Option<&str> {
        self.names.get(index).copied().filter(|_| index < self.count)
    }

    fn sub(&self) -> Option<Cow<'_, str>> {
        self.below_first().map(Cow::Borrowed)
    }

    fn topic(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.topic))
    }
}

/// What all topics that match a filter have in common. Each call of `learn` narrows them to fewer topics.
#[derive(Debug, Clone)]
pub(super) struct Known {
    names: [Option<String>; NAMED_LEVELS],
    count: Option<usize>,
}

impl Known {
    pub(crate) fn of(filter: &TopicFilter) -> Self {
        Self {
            names: std::array::from_fn(|index| filter.literal(index).map(str::to_owned)),
            count: filter.level_count(),
        }
    }

    /// Narrows them to topics with this name at that level; `false` if none is left.
    #[must_use]
    pub(crate) fn learn_level(&mut self, index: usize, name: &str) -> bool {
        if self.count.is_some_and(|count| index >= count) {
            return false;
        }
        let Some(place) = self.names.get_mut(index) else {
            return false;
        };
        place.get_or_insert_with(|| name.to_owned()) == name
    }

    /// Narrows them to topics with so many levels; `false` if none is left.
    #[must_use]
    pub(crate) fn learn_count(&mut self, count: usize) -> bool {
        let named_beyond = self.names.iter().skip(count).any(Option::is_some);
        *self.count.get_or_insert(count) == count && !named_beyond
    }

    pub(crate) fn count(&self) -> Option<usize> {
        self.count
    }

    fn joined(&self, from: usize) -> Option<Cow<'_, str>> {
        let count = self.count.filter(|count| (from + 1..=NAMED_LEVELS).contains(count))?;
        let names: Option<Vec<&str>> = self.names[from..count].iter().map(Option::as_deref).collect();
        Some(Cow::Owned(names?.join("/")))
    }
}

impl Parts for Known {
    fn level(&self, index: usize) -> Option<&str> {
        self.names.get(index)?.as_deref()
    }

    fn sub(&self) -> Option<Cow<'_, str>> {
        self.joined(1)
    }

    fn topic(&self) -> Option<Cow<'_, str>> {
        self.joined(0)
    }
}

/// The slot of an order key, 0 to 255, which decides about its lane and queue. Must never change, because the queues of
/// stored messages follow from it.
pub fn slot_of(order_key: &str) -> u8 {
    (xxh3_64(order_key.as_bytes()) % 256) as u8
}
