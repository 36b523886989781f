//! Names that strangers choose: of a room, of a client, and the name that a client wants to be shown by. Checked here only.
//!
//! Promises: a [`RoomId`] or a [`ClientId`] can stand as one level of an MQTT topic, and as a filter it matches itself only.
//! Must never: repair a name. A repaired name is the name of somebody else.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Characters in the id of a room or a client, and in a name to show.
pub(crate) const MAX_NAME_CHARACTERS: usize = 64;

/// What stands between a client's group and its device.
const GROUP_END: &str = "@@@";

/// The id of a room, `[A-Za-z0-9_-]{1,64}`: it holds no wildcard, no `||` of a tag expression, no space that would split
/// KEYS and no `../` that would leave a folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomId(Arc<str>);

/// The id of an MQTT client: 1 to 64 characters without `/ + #`, without control characters and without those for which
/// a strict MQTT broker closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientId(Arc<str>);

/// The text is no legal name.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalName {
    #[error("{0:?} is no room id; write 1 to 64 letters, digits, _ and -")]
    Room(String),
    #[error("{0:?} is no client id; write 1 to 64 characters without /, +, # and control characters")]
    Client(String),
}

impl RoomId {
    /// `None` if the text is no legal room id.
    pub fn parse(text: &str) -> Option<Self> {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let fits = (1..=MAX_NAME_CHARACTERS).contains(&text.len());
        (fits && text.bytes().all(is_legal)).then(|| Self(text.into()))
    }

    /// The id as it stands in topics and JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ClientId {
    /// `None` if the text is no legal client id.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX_NAME_CHARACTERS).contains(&text.chars().count());
        (fits && !text.chars().any(is_illegal)).then(|| Self(text.into()))
    }

    /// The id as it stands in topics and JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `GID_student` of `GID_student@@@001`; `None` for an id without `@@@`.
    pub fn group(&self) -> Option<&str> {
        self.0.split_once(GROUP_END).map(|(group, _)| group)
    }
}

/// The name as it may be shown: without control characters, cut at 64 characters; `None` if nothing is left.
///
/// It is still a stranger's text: whoever shows it escapes it for the place where it appears.
pub(crate) fn display_name(text: &str) -> Option<String> {
    let printable: String = text.chars().filter(|character| !character.is_control()).collect();
    let name: String = printable.trim().chars().take(MAX_NAME_CHARACTERS).collect();
    (!name.is_empty()).then_some(name)
}

fn is_illegal(character: char) -> bool {
    let code = u32::from(character);
    // Mosquitto closes a connection that names a Unicode noncharacter, and closes the next one when the message comes again.
    let is_noncharacter = (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe;
    matches!(character, '/' | '+' | '#') || character.is_control() || is_noncharacter
}

impl TryFrom<String> for RoomId {
    type Error = IllegalName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or(IllegalName::Room(text))
    }
}

impl TryFrom<String> for ClientId {
    type Error = IllegalName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or(IllegalName::Client(text))
    }
}

impl From<RoomId> for String {
    fn from(room: RoomId) -> Self {
        room.0.as_ref().to_owned()
    }
}

impl From<ClientId> for String {
    fn from(client: ClientId) -> Self {
        client.0.as_ref().to_owned()
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_is_more_than_one_level_is_none() {
        assert!(is_room("123456") && is_room("Room_7-b") && is_room(&"x".repeat(64)));
        for text in ["", "*", "a||b", "../x", "+", "#", "a/b", "a b", "学"] {
            assert!(!is_room(text), "{text}");
        }
        assert!(!is_room(&"x".repeat(65)));
    }

    fn is_room(text: &str) -> bool {
        RoomId::parse(text).is_some()
    }
}
