//! MQTT topic filters: syntax and matching (MQTT 5.0, section 4.7).
//!
//! Promises: `room/#` matches `room` itself; a wildcard at the first level never matches a topic that begins with `$`.
//! Must never: accept a shared subscription, because this process would get only a part of the messages.

use std::cmp::Ordering;

/// A checked topic filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    text: String,
    levels: Vec<Level>,
    /// Whether it ends with `#`.
    multi: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Name(String),
    /// `+`
    One,
}

/// Why a text is no usable topic filter.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
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
        "shared subscriptions ($share/...) are not supported yet; write the filter without $share/GROUP/"
    )]
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
        if text.contains('\0') {
            return Err(FilterError::Nul);
        }
        if text == "$share" || text.starts_with("$share/") {
            return Err(FilterError::Shared);
        }
        let (named, multi) = match text.strip_suffix('#') {
            Some("") => {
                return Ok(Self { text: text.to_owned(), levels: Vec::new(), multi: true });
            }
            Some(parent) => (parent.strip_suffix('/').ok_or(FilterError::MultiLevel)?, true),
            None => (text, false),
        };
        let levels = named.split('/').map(level).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), levels, multi })
    }

    /// The filter as the configuration writes it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a message on this topic matches.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Name(_))) {
            return false;
        }
        let mut names = topic.split('/');
        for level in &self.levels {
            match (level, names.next()) {
                (Level::Name(wanted), Some(name)) if wanted == name => {}
                (Level::One, Some(_)) => {}
                (Level::Name(_) | Level::One, _) => return false,
            }
        }
        self.multi || names.next().is_none()
    }

    /// Whether this filter matches every topic that `other` matches.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.spelled_out(), other.spelled_out());
        // A wildcard at the first level does not match topics that begin with `$`.
        if let (Some(Level::One), Some(Level::Name(name))) = (ours.first(), theirs.first())
            && name.starts_with('$')
        {
            return false;
        }
        let fits = |(ours, theirs): (&Level, &Level)| *ours == Level::One || ours == theirs;
        let as_long = self.multi || (ours.len() == theirs.len() && !other.multi);
        ours.len() <= theirs.len() && as_long && ours.iter().zip(theirs).all(fits)
    }

    /// Whether some topic matches both filters.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.spelled_out(), other.spelled_out());
        let hidden = |wild: &[Level], named: &[Level]| matches!((wild.first(), named.first()), (Some(Level::One), Some(Level::Name(name))) if name.starts_with('$'));
        if hidden(ours, theirs) || hidden(theirs, ours) {
            return false;
        }
        let meet =
            |(ours, theirs): (&Level, &Level)| *ours == Level::One || *theirs == Level::One || ours == theirs;
        let reach = match ours.len().cmp(&theirs.len()) {
            Ordering::Less => self.multi,
            Ordering::Equal => true,
            Ordering::Greater => other.multi,
        };
        reach && ours.iter().zip(theirs).all(meet)
    }

    /// The levels, with `#` alone read as `+/#`: both match the same, because each topic has a first level.
    fn spelled_out(&self) -> &[Level] {
        if self.levels.is_empty() { &[Level::One] } else { &self.levels }
    }

    /// How many levels every matching topic has; `None` if the filter ends with `#`.
    pub(super) fn level_count(&self) -> Option<usize> {
        (!self.multi).then_some(self.levels.len())
    }

    /// The name that every matching topic has at that level, counted from 0; `None` for a wildcard.
    pub(super) fn literal(&self, index: usize) -> Option<&str> {
        match self.levels.get(index)? {
            Level::Name(name) => Some(name),
            Level::One => None,
        }
    }
}

fn level(name: &str) -> Result<Level, FilterError> {
    match name {
        "+" => Ok(Level::One),
        _ if name.contains('+') => Err(FilterError::SingleLevel),
        _ if name.contains('#') => Err(FilterError::MultiLevel),
        _ => Ok(Level::Name(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The specification's rules as a recursion, to compare with.
    fn reference(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => reference(filter, topic),
            ([wanted, filter @ ..], [name, topic @ ..]) => wanted == name && reference(filter, topic),
            _ => false,
        }
    }

    fn matches(filter: &str, topic: &str) -> bool {
        Filter::parse(filter).unwrap().matches(topic)
    }

    proptest! {
        #[test]
        fn it_matches_as_the_specification_says(
            mut filter in proptest::collection::vec("(a|b|\\+|\\$a|)", 1..5),
            multi: bool,
            topic in proptest::collection::vec("(a|b|\\$a|)", 1..6),
        ) {
            if multi {
                filter.push("#".to_owned());
            }
            let (text, name) = (filter.join("/"), topic.join("/"));
            prop_assume!(!text.is_empty());
            let levels: Vec<&str> = filter.iter().map(String::as_str).collect();
            let names: Vec<&str> = topic.iter().map(String::as_str).collect();
            let hidden = name.starts_with('$') && ["+", "#"].contains(&levels[0]);
            prop_assert_eq!(matches(&text, &name), !hidden && reference(&levels, &names), "{} {}", text, name);
        }

        /// Held against all topics of a small world, one level longer than the filters.
        #[test]
        fn covering_and_overlapping_follow_from_matching(
            one in "((a|b|\\+|\\$a|)(/(a|\\+|)){0,2}(/#)?|#)",
            other in "((a|b|\\+|\\$a|)(/(a|\\+|)){0,2}(/#)?|#)",
        ) {
            prop_assume!(!one.is_empty() && !other.is_empty());
            let (one, other) = (Filter::parse(&one).unwrap(), Filter::parse(&other).unwrap());
            // `z` stands for all names that no filter says.
            let names = ["a", "b", "z", "$a", ""];
            let mut topics: Vec<String> = names.map(str::to_owned).to_vec();
            let mut longest = topics.clone();
            for _ in 0..3 {
                longest = longest.iter().flat_map(|topic| names.map(|name| format!("{topic}/{name}"))).collect();
                topics.extend(longest.iter().cloned());
            }
            let both = topics.iter().any(|topic| one.matches(topic) && other.matches(topic));
            let all = topics.iter().all(|topic| one.matches(topic) || !other.matches(topic));
            prop_assert_eq!(one.overlaps(&other), both, "{} overlaps {}", one.as_str(), other.as_str());
            prop_assert_eq!(one.covers(&other), all, "{} covers {}", one.as_str(), other.as_str());
        }

        #[test]
        fn a_topic_matches_itself_and_no_text_panics(topic in "[^+#\\x00]{1,40}", any in ".{0,40}") {
            prop_assume!(!topic.starts_with("$share"));
            prop_assert!(matches(&topic, &topic));
            let _ = Filter::parse(&any);
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
    fn what_is_no_filter_is_refused_with_its_reason() {
        for (text, error) in [
            ("", FilterError::Empty),
            ("room/#/x", FilterError::MultiLevel),
            ("room#", FilterError::MultiLevel),
            ("room/+x", FilterError::SingleLevel),
            ("room/\0", FilterError::Nul),
            ("$share/bridges/room/#", FilterError::Shared),
        ] {
            assert_eq!(Filter::parse(text), Err(error), "{text}");
        }
    }
}
