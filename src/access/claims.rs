//! What a token says, and what it may say.
//!
//! Promises: claims that pass [`Claims::check`] hold usable filters, ids and names, in bounded numbers.
//! Must never: be acted on unchecked; only the claims of a [`super::token::Token`] have been checked.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::client_id::{ClientIdError, documented_id};
use super::deployment::is_account_name;
use super::grants::Role;
use super::resource::{self, ResourceError};
use crate::model::TopicFilter;

const MAX_RESOURCES: usize = 100;
/// The vendor allows topics of 64 characters.
const MAX_RESOURCE_BYTES: usize = 128;

/// The system's source of random numbers failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not draw random bytes: {0}")]
pub(crate) struct NoRandomness(String);

/// What a token says. Only [`super::Token::claims`] may be acted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Claims {
    /// Access key of the deployment that issued it.
    pub access_key: String,
    /// Instance id of the deployment that issued it.
    pub instance: String,
    /// MQTT filters, sorted, at most 100.
    pub resources: Vec<String>,
    /// Whether it permits to read the resources, to write to them, or both.
    pub actions: Actions,
    /// First moment at which it is no longer valid, milliseconds since 1970-01-01 UTC.
    pub expires_at_ms: u64,
    /// The only client that may use it; `None` = any client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// `None` = the group of the client id decides, unless the token is bound to a client: then it makes a student.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Random name of this token, by which it could be revoked.
    pub nonce: Nonce,
}

/// What the resources may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Actions {
    /// To subscribe, and to read what was stored.
    #[serde(rename = "R")]
    Read,
    /// To publish.
    #[serde(rename = "W")]
    Write,
    /// To subscribe and to publish.
    #[serde(rename = "RW")]
    ReadWrite,
}

/// A random name, 128 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Nonce(String);

/// Why no token can be made of these claims.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimsError {
    #[error("the {0} is empty, or holds | or a control character; write the one of the deployment")]
    Name(&'static str),
    #[error("no resource is given; name at least one topic filter, such as room/message/+")]
    NoResource,
    #[error("{0} resources are given, the limit is 100; use wildcards")]
    TooManyResources(usize),
    #[error("the resource {text:?} cannot be used: {cause}")]
    Resource { text: String, cause: ResourceError },
    #[error("the resource {0:?} has more than 128 bytes; shorten it")]
    LongResource(String),
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    #[error("the nonce is empty; draw a random one")]
    Nonce,
}

impl Actions {
    /// The form in a password.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "R",
            Self::Write => "W",
            Self::ReadWrite => "RW",
        }
    }

    /// Whether they permit to subscribe.
    pub(crate) fn reads(self) -> bool {
        match self {
            Self::Read | Self::ReadWrite => true,
            Self::Write => false,
        }
    }

    /// Whether they permit to publish.
    pub(crate) fn writes(self) -> bool {
        match self {
            Self::Write | Self::ReadWrite => true,
            Self::Read => false,
        }
    }

    /// Whether they permit everything that `wanted` permits.
    pub(crate) fn include(self, wanted: Self) -> bool {
        (self.reads() || !wanted.reads()) && (self.writes() || !wanted.writes())
    }
}

/// Reads the form of a password, `RW`, and the form of the vendor's interface, `R,W`.
impl FromStr for Actions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "R" => Ok(Self::Read),
            "W" => Ok(Self::Write),
            "RW" | "R,W" => Ok(Self::ReadWrite),
            _ => Err("actions are R, W or RW".to_owned()),
        }
    }
}

impl Nonce {
    /// Draws a new one at each call.
    pub(crate) fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| NoRandomness(error.to_string()))?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The name as it stands in the token.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Claims {
    /// Checks all claims, and gives the resources as filters.
    pub(super) fn check(&self) -> Result<Vec<TopicFilter>, ClaimsError> {
        for (what, name) in [("access key", &self.access_key), ("instance", &self.instance)] {
            if !is_account_name(name) {
                return Err(ClaimsError::Name(what));
            }
        }
        if self.nonce.0.is_empty() {
            return Err(ClaimsError::Nonce);
        }
        if let Some(id) = &self.client_id {
            documented_id(id)?;
        }
        match self.resources.len() {
            0 => return Err(ClaimsError::NoResource),
            1..=MAX_RESOURCES => {}
            count => return Err(ClaimsError::TooManyResources(count)),
        }
        self.resources.iter().map(|text| checked(text)).collect()
    }
}

fn checked(text: &str) -> Result<TopicFilter, ClaimsError> {
    if text.len() > MAX_RESOURCE_BYTES {
        return Err(ClaimsError::LongResource(text.to_owned()));
    }
    resource::parse(text).map_err(|cause| ClaimsError::Resource { text: text.to_owned(), cause })
}
