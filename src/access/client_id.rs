//! Client ids: `GROUP@@@DEVICE` as the vendor documents them, and the less strict ids of clients without credentials.
//!
//! Promises: whatever parses here is safe as one level of an MQTT topic, so `{parent}/p2p/{id}` names one client.
//! Must never: let `/`, `+`, `#` or a control character through, or an id so long that no command can name it.

use crate::model::{ClientId, MAX_NAME_CHARACTERS};

const SEPARATOR: &str = "@@@";

/// Shortest group id that the vendor documents; the vendor's own pages use shorter ones.
const USUAL_GROUP_CHARACTERS: usize = 7;

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

/// An id of the documented form `GROUP@@@DEVICE`, which every client with credentials must have.
pub(crate) fn documented_id(text: &str) -> Result<ClientId, ClientIdError> {
    let id = safe_id(text)?;
    match group_and_device(&id) {
        Some(_) => Ok(id),
        None => Err(ClientIdError::Form(text.to_owned())),
    }
}

/// Any id that is safe as a topic level, in the documented form or not.
pub(crate) fn safe_id(text: &str) -> Result<ClientId, ClientIdError> {
    if text.is_empty() {
        return Err(ClientIdError::Empty);
    }
    let characters = text.chars().count();
    if characters > MAX_NAME_CHARACTERS {
        return Err(ClientIdError::TooLong(characters));
    }
    ClientId::parse(text).ok_or_else(|| ClientIdError::Unsafe(text.to_owned()))
}

/// Both parts of an id of the documented form; `None` for an id of another form.
pub(super) fn group_and_device(id: &ClientId) -> Option<(&str, &str)> {
    let parts = id.as_str().split_once(SEPARATOR);
    parts.filter(|(group, device)| is_name(group) && is_name(device))
}

/// Whether the vendor's service would refuse the group id as too short. The bridge accepts it.
pub(crate) fn group_is_unusually_short(id: &ClientId) -> bool {
    group_and_device(id).is_some_and(|(group, _)| group.len() < USUAL_GROUP_CHARACTERS)
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
            let id = documented_id(text).unwrap();
            assert_eq!(group_and_device(&id), Some((group, device)), "{text}");
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
            assert_eq!(documented_id(text), Err(ClientIdError::Form(text.to_owned())));
            let id = safe_id(text).unwrap();
            assert_eq!(group_and_device(&id), None, "{text}");
        }
    }

    /// Hazard 24: a client named `#`, `+` or `a/b` would be sent what others' p2p topics carry.
    #[test]
    fn an_id_that_could_be_more_than_one_topic_level_is_refused_to_everybody() {
        for text in
            ["#", "+", "a/b", "GID_student@@@+", "GID_student@@@001/x", "a\0b", "a\nb", "a\u{7f}", "a\u{85}"]
        {
            let refused = Err(ClientIdError::Unsafe(text.to_owned()));
            assert_eq!(safe_id(text), refused, "{text:?}");
            assert_eq!(documented_id(text), refused, "{text:?}");
        }
        assert_eq!(safe_id(""), Err(ClientIdError::Empty));
    }

    #[test]
    fn an_id_has_at_most_64_characters() {
        let longest = format!("GID_student@@@{}", "x".repeat(50));
        assert!(documented_id(&longest).is_ok());
        assert_eq!(documented_id(&format!("{longest}x")), Err(ClientIdError::TooLong(65)));
        assert!(safe_id(&"学".repeat(64)).is_ok(), "characters, not bytes");
    }

    #[test]
    fn a_short_group_is_remarked_and_accepted() {
        assert!(group_is_unusually_short(&documented_id("GID_a@@@1").unwrap()));
        assert!(!group_is_unusually_short(&documented_id("GID_abc@@@1").unwrap()));
        assert!(!group_is_unusually_short(&safe_id("mqttx").unwrap()));
    }

    proptest! {
        #[test]
        fn whatever_parses_is_one_safe_topic_level(text in ".{0,80}") {
            if let Ok(id) = safe_id(&text) {
                prop_assert!(!id.as_str().is_empty());
                prop_assert!(!id.as_str().contains(['/', '+', '#', '\0']));
            }
            if let Ok(id) = documented_id(&text) {
                let (group, device) = group_and_device(&id).unwrap();
                prop_assert_eq!(format!("{group}@@@{device}"), text);
            }
        }
    }
}
