//! Who is given a token by `GET /login`, and which.
//!
//! Promises: without the login secret nobody gets more than a student's rights, for an hour, and only where the
//! deployment says that its form is open; who shows a secret shows the right one or gets nothing.
//! Must never: take resources from who asks, as the vendor's demo did with `room/#`.

use std::sync::Arc;

use secrecy::SecretString;

use super::claims::{Actions, Claims, NoRandomness, Nonce};
use super::client_id::{CheckedClientId, ClientIdError};
use super::deployment::Deployment;
use super::grants::Role;
use super::secret::is_shown;
use super::token::{IssueError, Token};
use crate::model::RoomId;

const VALIDITY_MS: u64 = 60 * 60 * 1000;

/// Decides about logins.
#[derive(Debug, Clone)]
pub(crate) struct LoginPolicy {
    pub deployment: Arc<Deployment>,
    /// Anybody gets an unbound token with a student's rights. Who teaches is then told by the group id alone.
    pub open: bool,
    /// What the application's server shows to get more; `None` = nobody gets more.
    pub login_secret: Option<SecretString>,
}

/// What is asked for, as it stands in the query, unchecked.
#[derive(Clone, Copy, Default)]
pub(crate) struct LoginRequest<'a> {
    /// Bind the token to this client.
    pub client_id: Option<&'a str>,
    pub role: Option<&'a str>,
    /// Limit reading to this room.
    pub room: Option<&'a str>,
    pub shown_secret: Option<&'a str>,
}

/// Why no token was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginRefused {
    /// The form is closed: 401 in HTTP.
    #[error("this login is not open; show the login secret in the header Authorization: Bearer SECRET")]
    Closed,
    /// 401 in HTTP.
    #[error(
        "a teacher's token, or one for a client id, is given only for the login secret; show it in the header Authorization: Bearer SECRET"
    )]
    SecretNeeded,
    /// 403 in HTTP.
    #[error("the login secret is wrong, or none is configured; check it")]
    WrongSecret,
    /// This and the following: 400 in HTTP.
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    #[error("the role {0:?} is unknown; ask for teacher or student")]
    Role(String),
    #[error("the room {0:?} is none; name one of 1 to 64 letters, digits, - and _")]
    Room(String),
    /// 500 in HTTP.
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl LoginPolicy {
    /// The text of a token that is valid for an hour.
    pub(crate) fn login(&self, request: &LoginRequest<'_>, now_ms: u64) -> Result<String, LoginRefused> {
        let trusted = self.is_trusted(request.shown_secret)?;
        if !trusted && !self.open {
            return Err(LoginRefused::Closed);
        }
        let client_id = request.client_id.map(CheckedClientId::parse).transpose()?;
        let role = request.role.map(role).transpose()?;
        if let Some(room) = request.room
            && RoomId::parse(room).is_none()
        {
            return Err(LoginRefused::Room(room.to_owned()));
        }
        if !trusted && (client_id.is_some() || role == Some(Role::Teacher)) {
            return Err(LoginRefused::SecretNeeded);
        }
        let claims = Claims {
            access_key: self.deployment.access_key().to_owned(),
            instance: self.deployment.instance().to_owned(),
            resources: self.deployment.parents().resources(request.room),
            actions: Actions::ReadWrite,
            expires_at_ms: now_ms.saturating_add(VALIDITY_MS),
            client_id: client_id.map(|id| id.as_str().to_owned()),
            role,
            nonce: Nonce::random()?,
        };
        Ok(Token::issue(claims, &self.deployment.secret, now_ms)?)
    }

    fn is_trusted(&self, shown: Option<&str>) -> Result<bool, LoginRefused> {
        match (shown, &self.login_secret) {
            (None, _) => Ok(false),
            (Some(shown), Some(secret)) if is_shown(secret, shown.as_bytes()) => Ok(true),
            (Some(_), _) => Err(LoginRefused::WrongSecret),
        }
    }
}

fn role(text: &str) -> Result<Role, LoginRefused> {
    Role::parse(text).ok_or_else(|| LoginRefused::Role(text.to_owned()))
}
