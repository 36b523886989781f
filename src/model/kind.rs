//! The closed list of kinds that a classroom's message can be of.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// What a message is for; a label of metrics and a filter of history, never free text.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    VariantArray,
    IntoStaticStr,
    Display,
    EnumString,
    serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What somebody says in a room.
    Message,
    /// What a client asks of the classroom: to mute, to unmute, to be listed as present.
    Command,
    /// Who came and left.
    Status,
    /// A notice to everybody in a room.
    System,
    /// Meant for one client.
    P2p,
    /// Every kind that this list does not name.
    Other,
}

impl Kind {
    /// Every kind once; metrics make one series of each.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name that is stored, counted under and asked for, such as `message`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The kind of that name; every other name is [`Kind::Other`].
    pub fn from_name(name: &str) -> Self {
        name.parse().unwrap_or(Self::Other)
    }
}
