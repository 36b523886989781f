//! What all of one deployment's logins share: its names, its signing secret, its two parent topics.
//!
//! Promises: the names fit into the vendor's usernames, the parents are topic levels, and clients never write where they read.

use super::secret::SigningSecret;

/// The first levels of the classroom's topics: clients write below `up` and read below `down`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parents {
    down: String,
    up: String,
}

/// The names and the secret that a login is checked against.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    access_key: String,
    instance: String,
    parents: Parents,
    pub(super) secret: SigningSecret,
}

/// Why these names and topics make no deployment.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeploymentError {
    #[error(
        "the {what} {name:?} is empty, or holds | or a control character; write one of letters, digits, - and _"
    )]
    Name { what: &'static str, name: String },
    #[error(
        "the parent topic {0:?} is no first level of a topic; write one without / + #, not beginning with $"
    )]
    Parent(String),
    #[error(
        "both parent topics are {0:?}, so clients would write where they read and speak past the checks; write two"
    )]
    SameParents(String),
}

impl Parents {
    /// Both must be first levels of topics, and differ.
    pub(crate) fn new(down: impl Into<String>, up: impl Into<String>) -> Result<Self, DeploymentError> {
        let parents = Self { down: down.into(), up: up.into() };
        for name in [&parents.down, &parents.up] {
            let wrong = name.is_empty()
                || name.starts_with('$')
                || name.chars().any(|c| matches!(c, '/' | '+' | '#') || c.is_control());
            if wrong {
                return Err(DeploymentError::Parent(name.clone()));
            }
        }
        if parents.down == parents.up {
            return Err(DeploymentError::SameParents(parents.down));
        }
        Ok(parents)
    }

    /// The bridge publishes below it, and clients read there.
    pub(crate) fn down(&self) -> &str {
        &self.down
    }

    /// Clients publish below it, and the bridge reads there.
    pub(crate) fn up(&self) -> &str {
        &self.up
    }

    /// Filters that a member of the class may read; `None` = of all rooms.
    pub(crate) fn readable(&self, room: Option<&str>) -> Vec<String> {
        let down = &self.down;
        vec![
            format!("{down}/message/{}", room.unwrap_or("+")),
            format!("{down}/status"),
            format!("{down}/system"),
        ]
    }

    /// Filters that a member of the class may write to.
    pub(crate) fn writable(&self) -> Vec<String> {
        vec![format!("{}/#", self.up)]
    }

    /// What a member may read and write, as the resources of a token; `None` = of all rooms.
    pub(crate) fn resources(&self, room: Option<&str>) -> Vec<String> {
        let mut resources = self.readable(room);
        resources.extend(self.writable());
        resources
    }
}

/// The names of the vendor's live classroom.
impl Default for Parents {
    fn default() -> Self {
        Self { down: "room".to_owned(), up: "roomSend".to_owned() }
    }
}

impl Deployment {
    /// The names must fit into a username.
    pub(crate) fn new(
        access_key: impl Into<String>,
        instance: impl Into<String>,
        secret: SigningSecret,
        parents: Parents,
    ) -> Result<Self, DeploymentError> {
        let deployment = Self { access_key: access_key.into(), instance: instance.into(), parents, secret };
        for (what, name) in [("access key", &deployment.access_key), ("instance", &deployment.instance)] {
            if !is_account_name(name) {
                let name = name.clone();
                return Err(DeploymentError::Name { what, name });
            }
        }
        Ok(deployment)
    }

    /// Second part of the vendor's usernames.
    pub(crate) fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Third part of the vendor's usernames.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// The first levels of the classroom's topics.
    pub(crate) fn parents(&self) -> &Parents {
        &self.parents
    }
}

/// Whether the text can stand in a username, whose parts are joined by `|`.
pub(super) fn is_account_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c == '|' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> SigningSecret {
        SigningSecret::new(&"secret".into()).unwrap()
    }

    #[test]
    fn a_name_that_would_break_a_username_is_refused() {
        for name in ["", "a|b", "a\nb"] {
            let refused = Deployment::new(name, "instance", secret(), Parents::default()).unwrap_err();
            assert!(matches!(refused, DeploymentError::Name { what: "access key", .. }), "{name:?}");
            let refused = Deployment::new("key", name, secret(), Parents::default()).unwrap_err();
            assert!(matches!(refused, DeploymentError::Name { what: "instance", .. }), "{name:?}");
        }
    }

    #[test]
    fn a_parent_is_one_plain_level_and_the_two_differ() {
        for name in ["", "a/b", "+", "#", "$SYS", "a\0"] {
            assert!(Parents::new(name, "up").is_err(), "{name:?}");
            assert!(Parents::new("down", name).is_err(), "{name:?}");
        }
        assert_eq!(Parents::new("room", "room"), Err(DeploymentError::SameParents("room".to_owned())));
        assert_eq!(Parents::new("room", "roomSend"), Ok(Parents::default()));
    }

    #[test]
    fn resources_are_those_of_the_contract() {
        let parents = Parents::default();
        assert_eq!(parents.resources(None), ["room/message/+", "room/status", "room/system", "roomSend/#"]);
        assert_eq!(parents.resources(Some("7"))[0], "room/message/7");
    }
}
