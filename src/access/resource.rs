//! The rules that rights add to the MQTT rules for topic filters.
//!
//! Must never: accept a control character, with which a filter could look like another one in a log.

use crate::model::{TopicFilter, TopicFilterError};

/// Why a text can be no resource of a token, and no filter or topic that a client asks for.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResourceError {
    #[error(transparent)]
    Filter(#[from] TopicFilterError),
    #[error("it holds a control character; remove it")]
    Control,
}

/// Checks the syntax.
pub(crate) fn parse(text: &str) -> Result<TopicFilter, ResourceError> {
    if text.chars().any(char::is_control) {
        return Err(ResourceError::Control);
    }
    Ok(TopicFilter::parse(text)?)
}

/// Whether the filter could match the topic `parent`, or a topic below it.
pub(super) fn reaches_parent(filter: &TopicFilter, parent: &str) -> bool {
    let first = filter.levels().next();
    first == Some(parent) || (first == Some("+") && !parent.starts_with('$'))
}

/// Whether the filter could match `{parent}/p2p/{client id}` for any parent and for another client than `own`.
pub(super) fn reaches_p2p_of_others(filter: &TopicFilter, own: Option<&str>) -> bool {
    let mut levels = filter.levels().skip(1);
    match levels.next() {
        Some("#") => true,
        Some("p2p" | "+") => levels.next().is_some_and(|id| own != Some(id)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All topics of one to four levels over names that the generated filters know, and one (`z`) that they do not.
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

    fn filters() -> impl Strategy<Value = TopicFilter> {
        let levels = proptest::collection::vec("(a|p2p|me|\\+|\\+|\\$a|)", 0..4);
        (levels, any::<bool>()).prop_filter_map("a filter has a character", |(mut levels, multi)| {
            if multi {
                levels.push("#".to_owned());
            }
            parse(&levels.join("/")).ok()
        })
    }

    proptest! {
        #[test]
        fn a_filter_reaches_a_parent_exactly_if_a_topic_says_so(filter in filters()) {
            let below = |topic: &String| topic == "a" || topic.starts_with("a/");
            let expected = topics().iter().any(|topic| below(topic) && filter.matches(topic));
            prop_assert_eq!(reaches_parent(&filter, "a"), expected, "{}", filter);
        }

        /// Hazard 23: rights that reach another's p2p topic are found, however the filter is written.
        #[test]
        fn a_filter_that_matches_anothers_p2p_topic_is_found(filter in filters()) {
            let private = |topic: &String| {
                let levels: Vec<_> = topic.split('/').collect();
                matches!(levels[..], [_, "p2p", id, ..] if id != "me")
            };
            let matched = topics().iter().any(|topic| private(topic) && filter.matches(topic));
            prop_assert_eq!(reaches_p2p_of_others(&filter, Some("me")), matched, "{}", filter);
        }
    }

    #[test]
    fn what_is_no_resource_is_refused_with_its_reason() {
        for text in ["room/\0", "room/\u{9b}2J", "a\nb"] {
            assert_eq!(parse(text), Err(ResourceError::Control), "{text}");
        }
        assert_eq!(parse("room#"), Err(ResourceError::Filter(TopicFilterError::MultiLevel)));
    }
}
