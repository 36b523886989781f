//! The closed list of kinds that a classroom's message can be of.

use std::fmt;

/// What a message is for; a label of metrics and a filter of history, never free text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    pub const ALL: [Self; 6] =
        [Self::Message, Self::Command, Self::Status, Self::System, Self::P2p, Self::Other];

    /// The name that is stored, counted under and asked for, such as `message`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Command => "command",
            Self::Status => "status",
            Self::System => "system",
            Self::P2p => "p2p",
            Self::Other => "other",
        }
    }

    /// The kind of that name; every other name is [`Kind::Other`].
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or(Self::Other)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
