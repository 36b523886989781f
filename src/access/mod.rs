//! Access: who may connect, what one connection may read and write, and the tokens that say so.
//!
//! Promises: pure decisions, made from what is passed in and from the settings; secrets are compared in constant time
//! and stand in no error, no `Debug` and no token; what a token lists never reaches beyond the classroom's own rules.
//! Must never: do IO, look at a clock, name a protocol library; trust a client id that was not checked first.

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

pub use claims::{Actions, Claims, ClaimsError, NoRandomness, Nonce};
pub use client_id::{CheckedClientId, ClientIdError};
pub use credentials::{Credentials, CredentialsError};
pub use deployment::{Deployment, DeploymentError, Parents};
pub use filter::{Filter, FilterError};
pub use gatekeeper::{Authenticator, ConnectAttempt, Operator, Refused};
pub use grants::{Grants, Role};
pub use login::{LoginPolicy, LoginRefused, LoginRequest};
pub use secret::{EmptySecret, SigningSecret, is_shown};
pub use token::{IssueError, Token, TokenError, Unverified};
