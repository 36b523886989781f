//! What one connection may do.
//!
//! Promises: a member of the class never reads below the up parent nor another client's p2p topic, and never writes
//! below the down parent nor to a p2p topic, whatever its token lists; it always reads its own p2p topic.
//! Must never: decide by the name of a client; rights belong to the connection that was admitted.

use serde::{Deserialize, Serialize};

use super::deployment::Parents;
use super::resource::{self, reaches_p2p_of_others, reaches_parent};
use crate::model::{ClientId, TopicFilter};

/// What a client is in the classroom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// May mute, unmute and give notices.
    Teacher,
    /// May speak, unless muted.
    Student,
}

/// The rights of one connection, or of one HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grants {
    reach: Reach,
    role: Role,
    client_id: Option<ClientId>,
    expires_at_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    Everything,
    Class { parents: Parents, read: Vec<TopicFilter>, write: Vec<TopicFilter> },
}

impl Role {
    /// The name in tokens, queries and JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
        }
    }

    /// `None` for a text that is no role.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Teacher, Self::Student].into_iter().find(|role| role.as_str() == text)
    }
}

impl Grants {
    /// Reads what the bridge publishes to the class, and writes to the bridge.
    #[cfg(test)]
    pub(crate) fn student(parents: &Parents, client_id: ClientId) -> Self {
        Self::of_class(parents, client_id, Role::Student)
    }

    /// Reads and writes what a student may; the classroom also obeys its commands.
    #[cfg(test)]
    pub(crate) fn teacher(parents: &Parents, client_id: ClientId) -> Self {
        Self::of_class(parents, client_id, Role::Teacher)
    }

    /// All rights without expiry: for the bridge itself, and for those who run it.
    pub(crate) fn operator() -> Self {
        Self { reach: Reach::Everything, role: Role::Teacher, client_id: None, expires_at_ms: None }
    }

    pub(super) fn of_class(parents: &Parents, client_id: ClientId, role: Role) -> Self {
        let filters =
            |texts: Vec<String>| texts.iter().filter_map(|text| resource::parse(text).ok()).collect();
        let (read, write) = (filters(parents.readable(None)), filters(parents.writable()));
        Self::limited(parents, Some(client_id), role, read, write, None)
    }

    pub(super) fn limited(
        parents: &Parents,
        client_id: Option<ClientId>,
        role: Role,
        read: Vec<TopicFilter>,
        write: Vec<TopicFilter>,
        expires_at_ms: Option<u64>,
    ) -> Self {
        let parents = parents.clone();
        Self { reach: Reach::Class { parents, read, write }, role, client_id, expires_at_ms }
    }

    pub(super) fn with_client_id(mut self, client_id: ClientId) -> Self {
        self.client_id = Some(client_id);
        self
    }

    /// Whether it may subscribe to this filter; for a topic, also whether it may read what is stored of it.
    ///
    /// The whole filter must lie within one resource. Behind `$share/GROUP/` the rest of the filter decides.
    pub(crate) fn may_read(&self, filter: &str) -> bool {
        let Some(filter) = without_share(filter).and_then(|text| resource::parse(text).ok()) else {
            return false;
        };
        match &self.reach {
            Reach::Everything => true,
            Reach::Class { parents, read, .. } => {
                let own = self.client_id.as_ref().map(ClientId::as_str);
                is_own_p2p(parents, own, &filter)
                    || (!reaches_parent(&filter, parents.up())
                        && !reaches_p2p_of_others(&filter, own)
                        && read.iter().any(|resource| resource.covers(&filter)))
            }
        }
    }

    /// Whether it may publish to this topic. Must be asked for the topic of a last will, too.
    pub(crate) fn may_write(&self, topic: &str) -> bool {
        let Some(topic) = resource::parse(topic).ok().filter(TopicFilter::is_topic) else {
            return false;
        };
        match &self.reach {
            Reach::Everything => true,
            Reach::Class { parents, write, .. } => {
                !reaches_parent(&topic, parents.down())
                    && !reaches_p2p_of_others(&topic, None)
                    && write.iter().any(|resource| resource.covers(&topic))
            }
        }
    }

    /// Whether it may read this topic because its token names the topic itself. A right by a wildcard does not count: whole classes
    /// have that one.
    pub(crate) fn names(&self, topic: &str) -> bool {
        let is_topic = resource::parse(topic).is_ok_and(|topic| topic.is_topic());
        let is_named = match &self.reach {
            Reach::Everything => true,
            Reach::Class { read, .. } => read.iter().any(|resource| resource.as_str() == topic),
        };
        is_topic && is_named && self.may_read(topic)
    }

    /// Its role in the classroom; an operator may do there what a teacher may.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Whether it has all rights.
    pub(crate) fn is_operator(&self) -> bool {
        match self.reach {
            Reach::Everything => true,
            Reach::Class { .. } => false,
        }
    }

    /// `None` if the request named no client, as some HTTP requests do.
    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client_id.as_ref().map(ClientId::as_str)
    }

    /// When the connection must be closed, milliseconds since 1970-01-01 UTC, because rights are checked at SUBSCRIBE only.
    /// `None` = never.
    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        self.expires_at_ms
    }
}

fn is_own_p2p(parents: &Parents, own: Option<&str>, filter: &TopicFilter) -> bool {
    let Some(own) = own else { return false };
    [parents.down(), parents.up()].iter().any(|parent| filter.as_str() == format!("{parent}/p2p/{own}"))
}

/// The filter behind `$share/GROUP/`; `None` for a share without a usable group or filter.
fn without_share(filter: &str) -> Option<&str> {
    let Some(shared) = filter.strip_prefix("$share/") else {
        return Some(filter);
    };
    let (group, rest) = shared.split_once('/')?;
    (!group.is_empty() && !group.contains(['+', '#'])).then_some(rest)
}
