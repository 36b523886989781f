//! Access: who may connect, what one connection may read and write, and the tokens that say so.
//!
//! Promises: decisions are pure and follow from the parameters and the settings; secrets are compared in constant time and
//! stand in no error, no `Debug` and no token; no token can give more rights than the classroom's own rules.
//! Must never: do IO, look at a clock, name a protocol library, or trust a client id that was not checked first.

mod claims;
mod client_id;
mod credentials;
mod deployment;
mod filter;
mod gatekeeper;
mod grants;
mod login;
mod secret;
mod token;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use claims::ClaimsError;
pub(crate) use claims::{Actions, Claims, Nonce};
pub(crate) use client_id::CheckedClientId;
#[cfg(test)]
pub(crate) use client_id::ClientIdError;
#[cfg(test)]
pub(crate) use credentials::CredentialsError;
pub(crate) use deployment::{Deployment, Parents};
#[cfg(test)]
pub(crate) use filter::Filter;
#[cfg(test)]
pub(crate) use gatekeeper::Refused;
pub(crate) use gatekeeper::{Authenticator, ConnectAttempt, Operator};
pub(crate) use grants::{Grants, Role};
pub(crate) use login::{LoginPolicy, LoginRefused, LoginRequest};
pub(crate) use secret::{SigningSecret, is_shown};
pub(crate) use token::Token;
#[cfg(test)]
pub(crate) use token::{IssueError, TokenError};
