//! Who may read the archive: these are not the rights of the class.
//!
//! In the class everybody may read every room, because what is said is said to all who are there. The archive holds years of it. So
//! only an operator may read everything, and a teacher the rooms that the teacher's token names one by one.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

use super::Api;
use super::error::ApiError;
use crate::access::{Role, is_shown};
use crate::http::bearer::bearer;
use crate::model::Kind;

/// What a request shows, unchecked.
pub(super) struct Shown {
    token: Option<String>,
    from: Option<SocketAddr>,
}

impl Shown {
    pub(super) fn is_empty(&self) -> bool {
        self.token.is_none()
    }
}

impl<S: Sync> FromRequestParts<S> for Shown {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let from = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|connected| connected.0);
        Ok(Self { token: bearer(&parts.headers).map(str::to_owned), from })
    }
}

/// Tells the callers apart for the limits, and nothing else. It is a hash, so that no list of callers is a list of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CallerKey([u8; 16]);

impl CallerKey {
    pub(super) fn of(shown: &str) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(shown)[..16]);
        Self(key)
    }
}

/// A caller whose right to a request was checked.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub key: CallerKey,
    pub right: Right,
    /// When its token expires, milliseconds since 1970-01-01 UTC; `None` = never.
    pub expires_at_ms: Option<u64>,
    from: Option<SocketAddr>,
}

/// By what right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Right {
    /// Everything, private messages too.
    Operator,
    /// One room.
    Teacher {
        /// The client that the token is bound to; `None` = any client may use it.
        client_id: Option<String>,
    },
}

impl Caller {
    pub(super) fn is_operator(&self) -> bool {
        match self.right {
            Right::Operator => true,
            Right::Teacher { .. } => false,
        }
    }

    /// Writes down who read what nobody else may. `what`: no text of a message, and no secret.
    pub(super) fn audit(&self, what: &str) {
        let from = self.from.map(|from| from.to_string()).unwrap_or_default();
        match &self.right {
            Right::Operator => tracing::info!(who = "operator", from, "read {what} through /api/v1"),
            Right::Teacher { client_id } => {
                let client_id = client_id.as_deref().unwrap_or_default();
                tracing::info!(who = "teacher", client_id, from, "read {what} through /api/v1");
            }
        }
    }
}

/// Which messages of a room somebody may see.
#[derive(Debug, Clone)]
pub(super) struct Shows {
    /// Those that were meant for one client, too.
    pub private: bool,
    /// What was sent below this topic was not judged by the classroom; `None` = there is no classroom.
    pub sent_below: Option<String>,
}

impl Shows {
    /// Whether a message of that kind and MQTT topic is among them.
    pub(super) fn hold(&self, kind: Kind, mqtt_topic: &str) -> bool {
        let is_unjudged = |below: &String| mqtt_topic.starts_with(below.as_str());
        self.private || (kind != Kind::P2p && !self.sent_below.as_ref().is_some_and(is_unjudged))
    }
}

impl Api {
    pub(super) fn shows(&self, caller: &Caller) -> Shows {
        let sent_below = self.parts.send_parent.as_ref().map(|parent| format!("{parent}/"));
        Shows { private: caller.is_operator(), sent_below }
    }

    /// Lets operators in, and whoever was given this room as a teacher.
    pub(super) fn reader_of(&self, shown: &Shown, room: &str) -> Result<Caller, ApiError> {
        if let Some(operator) = self.operator_of(shown)? {
            return Ok(operator);
        }
        let token = shown.token.as_deref().ok_or(ApiError::NoToken)?;
        let authenticator = self.parts.authenticator.as_ref();
        let authenticator = authenticator.ok_or_else(|| {
            ApiError::Token(
                "this server takes the operator's secret only; set [access] for tokens".to_owned(),
            )
        })?;
        // Never with the client id of the request's header: a group id anybody can write there, and for a token that names no role it
        // would decide who is a teacher.
        let grants = authenticator.admit_bearer(token, None, self.parts.clock.wall_ms());
        let grants = grants.map_err(|refused| ApiError::Token(refused.to_string()))?;
        let topic = format!("{}/message/{room}", self.parts.parent);
        if grants.role() != Role::Teacher || !grants.names(&topic) {
            return Err(ApiError::NotYourRoom(room.to_owned()));
        }
        let right = Right::Teacher { client_id: grants.client_id().map(str::to_owned) };
        let (key, expires_at_ms) = (CallerKey::of(token), grants.expires_at_ms());
        Ok(Caller { key, right, expires_at_ms, from: shown.from })
    }

    /// Lets operators in. `what`: for the answer to somebody else.
    pub(super) fn operator(&self, shown: &Shown, what: &'static str) -> Result<Caller, ApiError> {
        self.operator_of(shown)?.ok_or(ApiError::OperatorsOnly { what })
    }

    /// The operator, if the request shows the operator's secret.
    fn operator_of(&self, shown: &Shown) -> Result<Option<Caller>, ApiError> {
        let token = shown.token.as_deref().ok_or(ApiError::NoToken)?;
        let secret = self.parts.operator_secret.as_ref();
        let is_operator = secret.is_some_and(|secret| is_shown(secret, token.as_bytes()));
        let (key, right) = (CallerKey::of(token), Right::Operator);
        Ok(is_operator.then_some(Caller { key, right, expires_at_ms: None, from: shown.from }))
    }
}
