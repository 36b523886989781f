//! MQTT topic filters: syntax, matching, and how two of them lie to each other (MQTT 5.0, section 4.7).
//!
//! Promises: the only grammar of topic filters in the program. `room/#` matches `room` itself; a wildcard at the first level
//! never matches a topic that begins with `$`. [`TopicFilter::covers`] and [`TopicFilter::overlaps`] are exact: they say what
//! follows from all topics. (The empty topic, which MQTT forbids, counts as a topic here.)
//! Must never: accept `$share/GROUP/...`, which is no filter of its own: whoever allows it removes the group first.

use std::fmt;

/// A checked topic filter; without wildcards, a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicFilter(String);

/// Why a text is no usable topic filter.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicFilterError {
    #[error("it is empty; write a topic filter such as room/#")]
    Empty,
    #[error("it is longer than 65,535 bytes, the limit of MQTT; shorten it")]
    TooLong,
    #[error("it contains the character NUL, which MQTT forbids; remove it")]
    Nul,
    #[error("# must be the last level and stand alone, as in room/#")]
    MultiLevel,
    #[error("+ must stand alone in its level, as in room/+/123456")]
    SingleLevel,
    #[error(
        "shared subscriptions ($share/...) are not supported here; write the filter without $share/GROUP/"
    )]
    Shared,
}

impl TopicFilter {
    /// Checks the syntax.
    pub(crate) fn parse(text: &str) -> Result<Self, TopicFilterError> {
        if text.is_empty() {
            return Err(TopicFilterError::Empty);
        }
        if text.len() > usize::from(u16::MAX) {
            return Err(TopicFilterError::TooLong);
        }
        if text.contains('\0') {
            return Err(TopicFilterError::Nul);
        }
        if text == "$share" || text.starts_with("$share/") {
            return Err(TopicFilterError::Shared);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            match level {
                "#" if levels.peek().is_none() => {}
                "+" => {}
                _ if level.contains('#') => return Err(TopicFilterError::MultiLevel),
                _ if level.contains('+') => return Err(TopicFilterError::SingleLevel),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The filter as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no wildcard, and so names one topic.
    pub(crate) fn is_topic(&self) -> bool {
        !self.0.contains(['+', '#'])
    }

    /// Whether a message on this topic matches.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.begins_with_wildcard() {
            return false;
        }
        let mut names = topic.split('/');
        for level in self.0.split('/') {
            match (level, names.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(name)) if wanted == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// Whether this filter matches every topic that `narrow` matches.
    pub(crate) fn covers(&self, narrow: &Self) -> bool {
        if narrow.0.starts_with('$') && self.begins_with_wildcard() {
            return false;
        }
        let (mut wide, mut narrow) = (self.levels(), narrow.levels());
        loop {
            match (wide.next(), narrow.next()) {
                (Some("#"), _) => return true,
                (Some("+"), Some(level)) if level != "#" => {}
                (Some(name), Some(level)) if name == level => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    /// Whether some topic matches both filters.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let is_hidden = |named: &Self, wild: &Self| named.0.starts_with('$') && wild.begins_with_wildcard();
        if is_hidden(self, other) || is_hidden(other, self) {
            return false;
        }
        let (mut ours, mut theirs) = (self.levels(), other.levels());
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
                (Some(one), Some(other)) if one == other => {}
                _ => return false,
            }
        }
    }

    /// Its levels. A lone `#` is read as `+/#`: both match the same topics, because each topic has a first level.
    pub(crate) fn levels(&self) -> impl Iterator<Item = &str> {
        let first = (self.0 == "#").then_some("+");
        first.into_iter().chain(self.0.split('/'))
    }

    /// How many levels every matching topic has; `None` if the filter ends with `#`.
    pub(crate) fn level_count(&self) -> Option<usize> {
        (!self.0.ends_with('#')).then(|| self.levels().count())
    }

    /// The name that every matching topic has at that level, counted from 0; `None` for a wildcard.
    pub(crate) fn literal(&self, index: usize) -> Option<&str> {
        self.levels().nth(index).filter(|level| !["+", "#"].contains(level))
    }

    fn begins_with_wildcard(&self) -> bool {
        self.0.starts_with(['+', '#'])
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The specification's rules as a recursion, to compare with.
    fn model(filter: &str, topic: &str) -> bool {
        fn levels(filter: &[&str], topic: &[&str]) -> bool {
            match (filter, topic) {
                (["#"], _) => true,
                ([], []) => true,
                (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
                ([wanted, filter @ ..], [name, topic @ ..]) => wanted == name && levels(filter, topic),
                _ => false,
            }
        }
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
        levels(&filter, &topic)
    }

    /// All topics of one to four levels, the empty one too: one level more than the filters that are compared with each other.
    /// `z` stands for all names that no filter says.
    fn topics() -> Vec<String> {
        let names = ["a", "b", "z", "", "$a"];
        let mut all: Vec<String> = names.map(str::to_owned).to_vec();
        let mut longest = all.clone();
        for _ in 0..3 {
            longest = longest.iter().flat_map(|topic| names.map(|name| format!("{topic}/{name}"))).collect();
            all.extend(longest.iter().cloned());
        }
        all
    }

    /// Filters of at most `max` levels, and perhaps a `#` behind them.
    fn filters(max: usize) -> impl Strategy<Value = String> {
        let levels = proptest::collection::vec("(a|b|\\+|\\+|\\$a|)", 0..=max);
        (levels, any::<bool>())
            .prop_map(|(mut levels, multi)| {
                if multi {
                    levels.push("#".to_owned());
                }
                levels.join("/")
            })
            .prop_filter("a filter has a character", |text| !text.is_empty())
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn matches(text: &str, topic: &str) -> bool {
        filter(text).matches(topic)
    }

    proptest! {
        #[test]
        fn it_matches_as_the_specification_says(
            text in filters(4),
            topic in proptest::collection::vec("(a|b|\\$a|)", 1..6),
        ) {
            let topic = topic.join("/");
            prop_assert_eq!(matches(&text, &topic), model(&text, &topic), "{} {}", text, topic);
        }

        #[test]
        fn covering_and_overlapping_follow_from_matching(one in filters(3), other in filters(3)) {
            let topics = topics();
            let both = topics.iter().any(|topic| model(&one, topic) && model(&other, topic));
            let all = topics.iter().all(|topic| model(&one, topic) || !model(&other, topic));
            prop_assert_eq!(filter(&one).overlaps(&filter(&other)), both, "{} overlaps {}", one, other);
            prop_assert_eq!(filter(&one).covers(&filter(&other)), all, "{} covers {}", one, other);
        }

        #[test]
        fn level_count_and_literals_hold_for_every_topic_that_matches(text in filters(3)) {
            let filter = filter(&text);
            for topic in topics().iter().filter(|topic| model(&text, topic)) {
                let names: Vec<&str> = topic.split('/').collect();
                prop_assert!(filter.level_count().is_none_or(|count| count == names.len()), "{} {}", text, topic);
                for index in 0..5 {
                    prop_assert!(filter.literal(index).is_none_or(|name| names.get(index) == Some(&name)));
                }
            }
        }

        #[test]
        fn a_topic_matches_itself_and_no_text_panics(topic in "[^+#\\x00]{1,40}", any in ".{0,40}") {
            prop_assume!(!topic.starts_with("$share"));
            prop_assert!(matches(&topic, &topic) && filter(&topic).is_topic());
            if let Ok(filter) = TopicFilter::parse(&any) {
                prop_assert!(filter.covers(&filter) && filter.overlaps(&filter));
            }
        }
    }

    #[test]
    fn the_examples_of_the_specification() {
        assert!(matches("sport/tennis/player1/#", "sport/tennis/player1"));
        assert!(matches("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"));
        assert!(matches("room/#", "room"));
        assert!(!matches("room/#", "rooms"));
        assert!(matches("+/+", "/finance") && matches("/+", "/finance") && !matches("+", "/finance"));
        assert!(!matches("#", "$SYS/uptime") && !matches("+/uptime", "$SYS/uptime"));
        assert!(matches("$SYS/#", "$SYS/uptime"));
    }

    #[test]
    fn containment_in_examples() {
        for (wide, narrow, expected) in [
            ("room/message/+", "room/message/123456", true),
            ("room/message/+", "room/message/+", true),
            ("room/message/+", "room/message/#", false),
            ("room/message/+", "room/+/123456", false),
            ("room/message/+", "room/message/1/2", false),
            ("room/#", "room", true),
            ("room/#", "room/+/x/#", true),
            ("room/#", "rooms", false),
            ("room/+/#", "room/#", false),
            ("#", "+/#", true),
            ("+/#", "#", true),
            ("+", "#", false),
            ("#", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("+/+", "/", true),
        ] {
            assert_eq!(filter(wide).covers(&filter(narrow)), expected, "{wide} covers {narrow}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_reason() {
        for (text, error) in [
            ("", TopicFilterError::Empty),
            ("room/#/x", TopicFilterError::MultiLevel),
            ("room#", TopicFilterError::MultiLevel),
            ("room/+x", TopicFilterError::SingleLevel),
            ("room/\0", TopicFilterError::Nul),
            ("$share/bridges/room/#", TopicFilterError::Shared),
        ] {
            assert_eq!(TopicFilter::parse(text), Err(error), "{text}");
        }
        assert_eq!(TopicFilter::parse(&"x".repeat(65_536)), Err(TopicFilterError::TooLong));
    }
}
