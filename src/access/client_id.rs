//! Client ids: `GROUP@@@DEVICE` as the vendor documents them, and the less strict ids of clients without credentials.
//!
//! Promises: whatever parses here is safe as one level of an MQTT topic, so `{parent}/p2p/{id}` names one client.
//! Must never: let `/`, `+`, `#` or a control character through, or an id so long that no command can name it.

use std::fmt;

use crate::model::MAX_NAME_CHARACTERS;

const SEPARATOR: &str = "@@@";

/// Shortest group id that the vendor documents; the vendor's own pages use shorter ones.
const USUAL_GROUP_CHARACTERS: usize = 7;

/// A checked client id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CheckedClientId {
    text: String,
    /// Length of the group id, where the id has the documented form.
    group_bytes: Option<usize>,
}

/// Why a text is no usable client id.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientIdError {
    #[error("the client id is empty; choose one such as GID_student@@@001")]
    Empty,
    #[error("the client id has {0} characters, the limit is 64; choose a shorter one")]
    TooLong(usize),
    #[error(
        "the client id {0:?} holds / + # or a control character, with which it could reach other clients' topics; choose one without"
    )]
    Unsafe(String),
    #[error("the client id {0:?} is not GROUP@@@DEVICE of letters, digits, - and _, as in GID_student@@@001")]
    Form(String),
}

impl CheckedClientId {
    /// The documented form `GROUP@@@DEVICE`, which every client with credentials must have.
    pub(crate) fn parse(text: &str) -> Result<Self, ClientIdError> {
        let id = Self::lenient(text)?;
        match id.group_bytes {
            Some(_) => Ok(id),
            None => Err(ClientIdError::Form(text.to_owned())),
        }
    }

    /// Any id that is safe as a topic level, in the documented form or not.
    pub(crate) fn lenient(text: &str) -> Result<Self, ClientIdError> {
        if text.is_empty() {
            return Err(ClientIdError::Empty);
        }
        let characters = text.chars().count();
        if characters > MAX_NAME_CHARACTERS {
            return Err(ClientIdError::TooLong(characters));
        }
        if crate::model::ClientId::parse(text).is_none() {
            return Err(ClientIdError::Unsafe(text.to_owned()));
        }
        let group_bytes = text
            .split_once(SEPARATOR)
            .filter(|(group, device)| is_name(group) && is_name(device))
            .map(|(group, _)| group.len());
        Ok(Self { text: text.to_owned(), group_bytes })
    }

    /// The whole id.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before `@@@`; `None` for an id of another form.
    pub(crate) fn group(&self) -> Option<&str> {
        self.text.get(..self.group_bytes?)
    }

    /// The part behind `@@@`; `None` for an id of another form.
    #[cfg(test)]
    pub(crate) fn device(&self) -> Option<&str> {
        self.text.get(self.group_bytes? + SEPARATOR.len()..)
    }

    /// Whether the vendor's service would refuse the group id as too short. The bridge accepts it.
    pub(crate) fn group_is_unusually_short(&self) -> bool {
        self.group().is_some_and(|group| group.len() < USUAL_GROUP_CHARACTERS)
    }
}

impl fmt::Display for CheckedClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ids_of_the_vendors_pages_have_a_group_and_a_device() {
        for (text, group, device) in [
            ("GID_student@@@001", "GID_student", "001"),
            ("GID_teacher@@@001", "GID_teacher", "001"),
            ("GID_Test@@@0001", "GID_Test", "0001"),
            ("GID-class_7@@@a-b_C9", "GID-class_7", "a-b_C9"),
        ] {
            let id = CheckedClientId::parse(text).unwrap();
            assert_eq!((id.group(), id.device()), (Some(group), Some(device)), "{text}");
            assert_eq!(id.as_str(), text);
        }
    }

    #[test]
    fn what_is_not_group_and_device_is_refused_to_clients_with_credentials() {
        for text in [
            "mqttx",
            "GID_student@@001",
            "@@@001",
            "GID_student@@@",
            "GID_student@@@@001",
            "GID_student@@@001@@@002",
            "GID student@@@001",
            "GID_student@@@a|b",
            "GID_student@@@a:b",
            "GID_学生@@@001",
        ] {
            assert_eq!(CheckedClientId::parse(text), Err(ClientIdError::Form(text.to_owned())));
            let id = CheckedClientId::lenient(text).unwrap();
            assert_eq!((id.group(), id.device()), (None, None), "{text}");
        }
    }

    /// Hazard 24: a client named `#`, `+` or `a/b` would be sent what others' p2p topics carry.
    #[test]
    fn an_id_that_could_be_more_than_one_topic_level_is_refused_to_everybody() {
        for text in
            ["#", "+", "a/b", "GID_student@@@+", "GID_student@@@001/x", "a\0b", "a\nb", "a\u{7f}", "a\u{85}"]
        {
            let refused = Err(ClientIdError::Unsafe(text.to_owned()));
            assert_eq!(CheckedClientId::lenient(text), refused, "{text:?}");
            assert_eq!(CheckedClientId::parse(text), refused, "{text:?}");
        }
        assert_eq!(CheckedClientId::lenient(""), Err(ClientIdError::Empty));
    }

    #[test]
    fn an_id_has_at_most_64_characters() {
        let longest = format!("GID_student@@@{}", "x".repeat(50));
        assert!(CheckedClientId::parse(&longest).is_ok());
        assert_eq!(CheckedClientId::parse(&format!("{longest}x")), Err(ClientIdError::TooLong(65)));
        assert!(CheckedClientId::lenient(&"学".repeat(64)).is_ok(), "characters, not bytes");
    }

    #[test]
    fn a_short_group_is_remarked_and_accepted() {
        assert!(CheckedClientId::parse("GID_a@@@1").unwrap().group_is_unusually_short());
        assert!(!CheckedClientId::parse("GID_abc@@@1").unwrap().group_is_unusually_short());
        assert!(!CheckedClientId::lenient("mqttx").unwrap().group_is_unusually_short());
    }

    proptest! {
        #[test]
        fn whatever_parses_is_one_safe_topic_level(text in ".{0,80}") {
            if let Ok(id) = CheckedClientId::lenient(&text) {
                prop_assert!(!id.as_str().is_empty());
                prop_assert!(!id.as_str().contains(['/', '+', '#', '\0']));
            }
            if let Ok(id) = CheckedClientId::parse(&text) {
                let rejoined = format!("{}@@@{}", id.group().unwrap(), id.device().unwrap());
                prop_assert_eq!(rejoined, text);
            }
        }
    }
}
