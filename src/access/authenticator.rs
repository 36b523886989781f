//! The authenticator checks the credentials of a client, and says what its connection may do.
//!
//! Promises: a username or a password is always checked, even where clients without one are admitted; of several tokens
//! each must be valid; a client gets no more than its tokens, the classroom's rules and the security of its connection
//! permit.
//! Must never: be asked only after the client has taken over a session: a refused client must not disturb anybody.

use std::sync::Arc;

use secrecy::SecretString;

use super::claims::{Actions, Claims};
use super::client_id::{ClientIdError, documented_id, group_and_device, safe_id};
use super::credentials::{Credentials, CredentialsError};
use super::deployment::Deployment;
use super::grants::{Grants, Role};
use super::secret::is_shown;
use super::token::{Token, TokenError};
use crate::model::{ClientId, TopicFilter};

/// Decides about connections and requests.
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    /// Names, secret and topics that logins are checked against.
    pub deployment: Arc<Deployment>,
    /// Group ids whose clients are teachers, unless their token says otherwise.
    pub teacher_groups: Vec<String>,
    /// Admit clients that connect from this machine without username and password.
    pub anonymous_on_loopback: bool,
    /// All operators; their usernames are not those of the vendor's modes.
    pub operators: Vec<Operator>,
}

/// A login with all rights: of the bridge itself, and of those who run it.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// As it stands in CONNECT.
    pub username: String,
    /// As it stands in CONNECT.
    pub password: SecretString,
    /// Client ids that nobody else may use: whoever connects as the bridge would take over its session.
    pub client_ids: Vec<String>,
}

/// What a client shows when it connects.
#[derive(Clone, Copy)]
pub(crate) struct ConnectAttempt<'a> {
    /// From CONNECT, unchecked.
    pub client_id: &'a str,
    /// From CONNECT, unchecked.
    pub username: Option<&'a str>,
    /// From CONNECT, unchecked; MQTT allows any bytes.
    pub password: Option<&'a [u8]>,
    /// The client connects from this machine.
    pub remote_is_loopback: bool,
    /// The connection is encrypted, so nobody on the way could read the password.
    pub tls: bool,
}

/// Why a client is refused. The texts repeat nothing secret. [`Refused::code`] is the number that the vendor documents.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    #[error("the client id {0:?} is kept for an operator; choose another one")]
    Reserved(String),
    #[error("clients without username and password are not admitted; get a token and log in with it")]
    Anonymous,
    #[error("a password came without a username; give both")]
    PasswordAlone,
    #[error("the password is no text; give RW|TOKEN or a signature")]
    PasswordNoText,
    #[error("the username or the password is wrong; check both")]
    Operator,
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("the {0} is not the one of this deployment; check it, or log in where it belongs")]
    Account(&'static str),
    #[error("the signature does not belong to this client id and secret; compute it anew")]
    Signature,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the token was issued for another {0}; ask for one here")]
    TokenOfOther(&'static str),
    #[error("the token is bound to another client id; ask for one for this client")]
    TokenOfOtherClient,
    #[error("the token permits {permitted} and was shown as {shown}; show it as what it is")]
    Action { permitted: &'static str, shown: &'static str },
}

impl Authenticator {
    /// What the connection may do, or why it is refused.
    pub(crate) fn admit(&self, attempt: &ConnectAttempt<'_>, now_ms: u64) -> Result<Grants, Refused> {
        let client_id = safe_id(attempt.client_id)?;
        let operator = self.operator(attempt)?;
        let keeps_id = |operator: &Operator| operator.client_ids.iter().any(|id| id == client_id.as_str());
        if self.operators.iter().any(keeps_id) && !operator.is_some_and(keeps_id) {
            return Err(Refused::Reserved(attempt.client_id.to_owned()));
        }
        if operator.is_some() {
            return Ok(Grants::operator().with_client_id(client_id));
        }
        match (attempt.username, attempt.password) {
            (None, None) => self.admit_anonymous(client_id, attempt.remote_is_loopback),
            (None, Some(_)) => Err(Refused::PasswordAlone),
            (Some(_), None) => Err(CredentialsError::NoPassword.into()),
            (Some(username), Some(password)) => {
                let client_id = documented_id(attempt.client_id)?;
                let password = std::str::from_utf8(password).map_err(|_| Refused::PasswordNoText)?;
                self.admit_member(client_id, Credentials::parse(username, password)?, attempt.tls, now_ms)
            }
        }
    }

    /// What an HTTP request with a token may do; the request may name the client that makes it.
    pub(crate) fn admit_bearer(
        &self,
        token: &str,
        client_id: Option<&str>,
        now_ms: u64,
    ) -> Result<Grants, Refused> {
        let client_id = client_id.map(documented_id).transpose()?;
        self.admit_tokens(client_id, &[(None, token)], now_ms)
    }

    /// The operator of that username, once its password is checked; `None` if no operator has that username.
    fn operator(&self, attempt: &ConnectAttempt<'_>) -> Result<Option<&Operator>, Refused> {
        let Some(username) = attempt.username else {
            return Ok(None);
        };
        let claimed = |operator: &&Operator| operator.username == username;
        let Some(operator) = self.operators.iter().find(claimed) else {
            return Ok(None);
        };
        match attempt.password {
            Some(shown) if is_shown(&operator.password, shown) => Ok(Some(operator)),
            Some(_) | None => Err(Refused::Operator),
        }
    }

    fn admit_anonymous(&self, client_id: ClientId, remote_is_loopback: bool) -> Result<Grants, Refused> {
        if !self.anonymous_on_loopback || !remote_is_loopback {
            return Err(Refused::Anonymous);
        }
        let role = self.role_of_group(&client_id);
        Ok(Grants::of_class(self.deployment.parents(), client_id, role))
    }

    fn admit_member(
        &self,
        client_id: ClientId,
        credentials: Credentials<'_>,
        tls: bool,
        now_ms: u64,
    ) -> Result<Grants, Refused> {
        match credentials {
            Credentials::Token { access_key, instance, tokens } => {
                self.check_account(access_key, instance)?;
                let tokens: Vec<_> = tokens.into_iter().map(|(shown, text)| (Some(shown), text)).collect();
                self.admit_tokens(Some(client_id), &tokens, now_ms)
            }
            Credentials::Signature { access_key, instance, signature } => {
                self.check_account(access_key, instance)?;
                let secret = &self.deployment.secret;
                if !secret.signature_is_genuine(client_id.as_str(), &signature) {
                    return Err(Refused::Signature);
                }
                // A signature never changes. Whoever reads it once on an open connection could be the teacher for ever,
                // so without TLS it only admits students.
                let role = if tls { self.role_of_group(&client_id) } else { Role::Student };
                Ok(Grants::of_class(self.deployment.parents(), client_id, role))
            }
        }
    }

    /// Each token comes with the actions that the client shows it for; `None` = all that the token permits.
    fn admit_tokens(
        &self,
        client_id: Option<ClientId>,
        tokens: &[(Option<Actions>, &str)],
        now_ms: u64,
    ) -> Result<Grants, Refused> {
        let (mut read, mut write) = (Vec::<TopicFilter>::new(), Vec::<TopicFilter>::new());
        let (mut bound, mut roles, mut expires_at_ms) = (None, Vec::new(), u64::MAX);
        for (shown, text) in tokens {
            let token = Token::read(text, &self.deployment.secret, now_ms)?;
            let claims = token.claims();
            let actions = shown.unwrap_or(claims.actions);
            self.check_claims(claims, client_id.as_ref(), actions)?;
            if actions.reads() {
                read.extend_from_slice(token.resources());
            }
            if actions.writes() {
                write.extend_from_slice(token.resources());
            }
            bound = bound.or(claims.client_id.clone());
            roles.extend(claims.role);
            expires_at_ms = expires_at_ms.min(claims.expires_at_ms);
        }
        let role = self.role(&roles, bound.is_some(), client_id.as_ref());
        let client_id = match (client_id, bound) {
            (None, Some(bound)) => Some(documented_id(&bound)?),
            (client_id, _) => client_id,
        };
        let parents = self.deployment.parents();
        Ok(Grants::limited(parents, client_id, role, read, write, Some(expires_at_ms)))
    }

    fn check_account(&self, access_key: &str, instance: &str) -> Result<(), Refused> {
        if access_key != self.deployment.access_key() {
            return Err(Refused::Account("access key"));
        }
        if instance != self.deployment.instance() {
            return Err(Refused::Account("instance"));
        }
        Ok(())
    }

    fn check_claims(
        &self,
        claims: &Claims,
        client: Option<&ClientId>,
        shown: Actions,
    ) -> Result<(), Refused> {
        if claims.access_key != self.deployment.access_key() {
            return Err(Refused::TokenOfOther("access key"));
        }
        if claims.instance != self.deployment.instance() {
            return Err(Refused::TokenOfOther("instance"));
        }
        if let (Some(bound), Some(client)) = (&claims.client_id, client)
            && bound != client.as_str()
        {
            return Err(Refused::TokenOfOtherClient);
        }
        if !claims.actions.include(shown) {
            return Err(Refused::Action { permitted: claims.actions.as_str(), shown: shown.as_str() });
        }
        Ok(())
    }

    /// The lowest role that a token names. If none names one, the group decides, unless a token is bound to a client: its
    /// issuer knew the client and gave it no role, so it is a student.
    fn role(&self, said: &[Role], bound: bool, client_id: Option<&ClientId>) -> Role {
        match (said, client_id) {
            ([], Some(client_id)) if !bound => self.role_of_group(client_id),
            ([], _) => Role::Student,
            (said, _) if said.contains(&Role::Student) => Role::Student,
            _ => Role::Teacher,
        }
    }

    fn role_of_group(&self, client_id: &ClientId) -> Role {
        let teaches = |group| self.teacher_groups.iter().any(|teacher| teacher == group);
        match group_and_device(client_id) {
            Some((group, _)) if teaches(group) => Role::Teacher,
            Some(_) | None => Role::Student,
        }
    }
}

impl Refused {
    /// The vendor's number: 1 forged or unreadable, 2 expired, 4 resource mismatch, 5 action mismatch, 8 bad signature,
    /// -1 account not permitted.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Token(error) => error.code(),
            Self::Credentials(error) => error.code(),
            Self::PasswordNoText => 1,
            Self::TokenOfOther(_) | Self::TokenOfOtherClient => 4,
            Self::Action { .. } => 5,
            Self::Signature => 8,
            Self::ClientId(_)
            | Self::Reserved(_)
            | Self::Anonymous
            | Self::PasswordAlone
            | Self::Operator
            | Self::Account(_) => -1,
        }
    }
}
