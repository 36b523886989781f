//! Decides who gets a token from `GET /login`, and which one.
//!
//! Promises: without the login secret nobody gets more than a student's rights for an hour, and only if the deployment
//! says that its login is open; a request with a wrong secret gets nothing.
//! Must never: let the client choose the resources, as the vendor's demo did with `room/#`.

use std::sync::Arc;

use secrecy::SecretString;

use super::claims::{Actions, Claims, NoRandomness, Nonce};
use super::client_id::{ClientIdError, documented_id};
use super::deployment::Deployment;
use super::grants::Role;
use super::secret::is_shown;
use super::token::{IssueError, Token};
use crate::model::RoomId;

const VALIDITY_MS: u64 = 60 * 60 * 1000;

/// Decides about logins.
#[derive(Debug, Clone)]
pub(crate) struct LoginPolicy {
    /// Whose tokens are issued.
    pub deployment: Arc<Deployment>,
    /// Anybody gets a token with a student's rights that is bound to no client. Then the group id alone decides who is a
    /// teacher.
    pub open: bool,
    /// The application's server shows it to get other tokens; `None` = nobody gets others.
    pub login_secret: Option<SecretString>,
}

/// The query and the secret of one request, unchecked.
#[derive(Clone, Copy, Default)]
pub(crate) struct LoginRequest<'a> {
    /// Bind the token to this client; `None` = any client may use it.
    pub client_id: Option<&'a str>,
    /// `teacher` or `student`; `None` = the group of the client id decides.
    pub role: Option<&'a str>,
    /// Limit reading to this room; `None` = all rooms.
    pub room: Option<&'a str>,
    /// From the header `Authorization: Bearer`; `None` = no such header.
    pub shown_secret: Option<&'a str>,
}

/// Why no token was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginRefused {
    /// 401 in HTTP: the login is not open.
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
    /// 400 in HTTP.
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    /// 400 in HTTP.
    #[error("the role {0:?} is unknown; ask for teacher or student")]
    Role(String),
    /// 400 in HTTP.
    #[error("the room {0:?} is none; name one of 1 to 64 letters, digits, - and _")]
    Room(String),
    /// 500 in HTTP.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// 500 in HTTP.
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
        let client_id = request.client_id.map(documented_id).transpose()?;
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
