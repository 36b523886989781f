//! MQTT topic filters as rights: which filter lies wholly within another (MQTT 5.0, section 4.7).
//!
//! Promises: `covers` is exact: it is true if and only if every topic that the narrower filter matches is matched by
//! the wider one (the empty topic, which MQTT forbids, counts as a topic here, which can only refuse more); a wildcard at
//! the first level matches no name that begins with `$`.
//! Must never: accept `$share/GROUP/...`: callers remove the group first, and the filter behind it decides.

/// A checked topic filter; without wildcards, a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Filter(String);

/// Why a text is no usable topic filter.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("it is empty; write a topic filter such as room/message/+")]
    Empty,
    #[error("it is longer than 65,535 bytes, the limit of MQTT; shorten it")]
    TooLong,
    #[error("it holds a control character; remove it")]
    Control,
    #[error("# must be the last level and stand alone, as in roomSend/#")]
    MultiLevel,
    #[error("+ must stand alone in its level, as in room/message/+")]
    SingleLevel,
    #[error("rights are given for topics; write the filter without $share/GROUP/")]
    Shared,
}

impl Filter {
    /// Checks the syntax.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.len() > usize::from(u16::MAX) {
            return Err(FilterError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(FilterError::Control);
        }
        if text == "$share" || text.starts_with("$share/") {
            return Err(FilterError::Shared);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            match level {
                "#" if levels.peek().is_none() => {}
                "+" => {}
                _ if level.contains('#') => return Err(FilterError::MultiLevel),
                _ if level.contains('+') => return Err(FilterError::SingleLevel),
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

    /// Whether this filter matches every topic that `narrow` matches.
    pub(crate) fn covers(&self, narrow: &Self) -> bool {
        if narrow.0.starts_with('$') && self.0.starts_with(['+', '#']) {
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

    /// Whether it could match the topic `parent`, or a topic below it.
    pub(crate) fn reaches_parent(&self, parent: &str) -> bool {
        let first = self.levels().next();
        first == Some(parent) || (first == Some("+") && !parent.starts_with('$'))
    }

    /// Whether it could match `{parent}/p2p/{client id}` for any parent and for another client than `own`.
    pub(crate) fn reaches_p2p_of_others(&self, own: Option<&str>) -> bool {
        let mut levels = self.levels().skip(1);
        match levels.next() {
            Some("#") => true,
            Some("p2p" | "+") => levels.next().is_some_and(|id| own != Some(id)),
            _ => false,
        }
    }

    /// A lone `#` matches the same topics as `+/#`, because each topic has a first level.
    fn levels(&self) -> impl Iterator<Item = &str> {
        let first = (self.0 == "#").then_some("+");
        first.into_iter().chain(self.0.split('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The specification's rules as a recursion, to compare with.
    fn matches(filter: &str, topic: &str) -> bool {
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

    /// All topics of one to four levels, the empty one too, over names that the generated filters know, and one (`z`) that they do not.
    fn topics() -> Vec<String> {
        let names = ["a", "p2p", "me", "z", "", "$a"];
        let mut all: Vec<String> = names.map(str::to_owned).to_vec();
        let mut longest = all.clone();
        for _ in 0..3 {
            longest = longest.iter().flat_map(|topic| names.map(|name| format!("{topic}/{name}"))).collect();
            all.extend(longest.iter().cloned());
        }
        all
    }

    fn filters() -> impl Strategy<Value = String> {
        let levels = proptest::collection::vec("(a|p2p|me|\\+|\\+|\\$a|)", 0..4);
        (levels, any::<bool>())
            .prop_map(|(mut levels, multi)| {
                if multi {
                    levels.push("#".to_owned());
                }
                levels.join("/")
            })
            .prop_filter("a filter has a character", |text| !text.is_empty())
    }

    fn filter(text: &str) -> Filter {
        Filter::parse(text).unwrap()
    }

    proptest! {
        #[test]
        fn one_filter_covers_another_exactly_if_every_topic_says_so(wide in filters(), narrow in filters()) {
            let mut matched = topics();
            matched.retain(|topic| matches(&narrow, topic));
            let expected = matched.iter().all(|topic| matches(&wide, topic));
            prop_assert_eq!(filter(&wide).covers(&filter(&narrow)), expected, "{} {}", wide, narrow);
        }

        #[test]
        fn a_filter_reaches_a_parent_exactly_if_a_topic_says_so(text in filters()) {
            let below = |topic: &String| topic == "a" || topic.starts_with("a/");
            let expected = topics().iter().any(|topic| below(topic) && matches(&text, topic));
            prop_assert_eq!(filter(&text).reaches_parent("a"), expected, "{}", text);
        }

        /// Hazard 23: rights that reach another's p2p topic are found, however the filter is written.
        #[test]
        fn a_filter_that_matches_anothers_p2p_topic_is_found(text in filters()) {
            let private = |topic: &String| {
                let levels: Vec<_> = topic.split('/').collect();
                matches!(levels[..], [_, "p2p", id, ..] if id != "me")
            };
            let matched = topics().iter().any(|topic| private(topic) && matches(&text, topic));
            prop_assert_eq!(filter(&text).reaches_p2p_of_others(Some("me")), matched, "{}", text);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            if let Ok(filter) = Filter::parse(&text) {
                prop_assert!(filter.covers(&filter));
            }
        }
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
            ("", FilterError::Empty),
            ("room/#/x", FilterError::MultiLevel),
            ("room#", FilterError::MultiLevel),
            ("room/+x", FilterError::SingleLevel),
            ("room/\0", FilterError::Control),
            ("room/\u{9b}2J", FilterError::Control),
            ("$share/bridges/room/#", FilterError::Shared),
        ] {
            assert_eq!(Filter::parse(text), Err(error), "{text}");
        }
        assert_eq!(Filter::parse(&"x".repeat(65_536)), Err(FilterError::TooLong));
    }
}
