//! Access: who may connect, what one connection may read and write, and the tokens that say so.
//!
//! Promises: decisions are pure and follow from the parameters and the settings; secrets are compared in constant time and
//! stand in no error, no `Debug` and no token; no token can give more rights than the classroom's own rules.
//! Must never: do IO, look at a clock, name a protocol library, or trust a client id that was not checked first.

mod authenticator;
mod claims;
mod client_id;
mod credentials;
mod deployment;
mod grants;
mod login;
mod resource;
mod secret;
mod token;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use authenticator::Refused;
pub(crate) use authenticator::{Authenticator, ConnectAttempt, Operator};
#[cfg(test)]
pub(crate) use claims::ClaimsError;
pub(crate) use claims::{Actions, Claims, Nonce};
#[cfg(test)]
pub(crate) use client_id::ClientIdError;
pub(crate) use client_id::{documented_id, group_is_unusually_short};
#[cfg(test)]
pub(crate) use credentials::CredentialsError;
pub(crate) use deployment::{Deployment, Parents};
pub(crate) use grants::{Grants, Role};
pub(crate) use login::{LoginPolicy, LoginRefused, LoginRequest};
pub(crate) use secret::{SigningSecret, is_shown};
pub(crate) use token::Token;
#[cfg(test)]
pub(crate) use token::{IssueError, TokenError};
