//! Tokens: signed texts that say what a client may do, until when, and in which role.
//!
//! Text: `rb1.CLAIMS.MAC`, where CLAIMS is the JSON of [`Claims`] and MAC the HMAC-SHA256 over `rb1.CLAIMS`, both in
//! base64url without padding. So a token holds no `|`, comma or space and can stand in a password, a URL and a header.
//!
//! Promises: a [`Token`] exists only if its signature was checked first; no claim can be changed, added or taken away; a claim
//! that this version does not know makes the token unreadable, because it may be a restriction.
//! Must never: give anything but [`Unverified`] without the secret, or compare in a time that depends on the secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::{Claims, ClaimsError};
use super::secret::SigningSecret;
use crate::model::TopicFilter;

/// A later format gets another name, so that neither is taken for the other.
const VERSION: &str = "rb1";
/// Longer texts are not looked at. (An MQTT password has at most 65,535 bytes.)
const MAX_TOKEN_BYTES: usize = 48 << 10;
/// The vendor's limits of `ExpireTime`.
const MIN_VALIDITY_MS: u64 = 60_000;
const MAX_VALIDITY_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// A token whose signature and expiry were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    claims: Claims,
    resources: Vec<TopicFilter>,
}

/// A token whose signature was not checked: anybody could have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unverified {
    /// As they stand in the text; nothing proves them.
    pub claims: Claims,
}

/// Why no token was issued.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    #[error("the token would expire within a minute; choose a later time")]
    TooShort,
    #[error("the token would have more than 49,152 bytes; name fewer or shorter resources")]
    TooLong,
}

/// Why a text is no valid token. [`TokenError::code`] is the number that the vendor documents.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token cannot be read ({0}); ask for a new one")]
    Unreadable(String),
    #[error("the token expired at {expired_at_ms} ms since 1970, now it is {now_ms}; ask for a new one")]
    Expired { expired_at_ms: u64, now_ms: u64 },
    #[error("the token's signature is not of this deployment; ask for one here")]
    BadSignature,
}

impl Token {
    /// The text of a new token. An expiry more than 30 days ahead becomes 30 days without an error, as with the vendor.
    pub(crate) fn issue(
        mut claims: Claims,
        secret: &SigningSecret,
        now_ms: u64,
    ) -> Result<String, IssueError> {
        claims.resources.sort();
        claims.resources.dedup();
        claims.check()?;
        if claims.expires_at_ms < now_ms.saturating_add(MIN_VALIDITY_MS) {
            return Err(IssueError::TooShort);
        }
        claims.expires_at_ms = claims.expires_at_ms.min(now_ms.saturating_add(MAX_VALIDITY_MS));
        // Plain data always has a JSON text.
        let json = serde_json::to_vec(&claims).map_err(|_| IssueError::TooLong)?;
        let signed = format!("{VERSION}.{}", URL_SAFE_NO_PAD.encode(json));
        let text = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(secret.sign_token(&signed)));
        if text.len() > MAX_TOKEN_BYTES {
            return Err(IssueError::TooLong);
        }
        Ok(text)
    }

    /// Checks the signature, then what is signed, then the time.
    pub(crate) fn read(text: &str, secret: &SigningSecret, now_ms: u64) -> Result<Self, TokenError> {
        let token = Self::read_at_any_time(text, secret)?;
        let expired_at_ms = token.claims.expires_at_ms;
        if now_ms >= expired_at_ms {
            return Err(TokenError::Expired { expired_at_ms, now_ms });
        }
        Ok(token)
    }

    /// Whether this deployment issued it. Expired tokens count as genuine, too.
    pub(crate) fn is_genuine(text: &str, secret: &SigningSecret) -> bool {
        Self::read_at_any_time(text, secret).is_ok()
    }

    /// Reads the claims without the secret. No right may be granted for them.
    pub(crate) fn inspect(text: &str) -> Result<Unverified, TokenError> {
        let parts = Parts::split(text)?;
        let (claims, _) = parts.claims()?;
        Ok(Unverified { claims })
    }

    fn read_at_any_time(text: &str, secret: &SigningSecret) -> Result<Self, TokenError> {
        let parts = Parts::split(text)?;
        if !secret.token_is_genuine(parts.signed, &parts.mac) {
            return Err(TokenError::BadSignature);
        }
        let (claims, resources) = parts.claims()?;
        Ok(Self { claims, resources })
    }

    /// The claims, which are checked and may be acted on.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(super) fn resources(&self) -> &[TopicFilter] {
        &self.resources
    }
}

impl TokenError {
    /// As documented for `$SYS/tokenInvalidNotice`: 1 forged or unreadable, 2 expired, 8 bad signature.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Unreadable(_) => 1,
            Self::Expired { .. } => 2,
            Self::BadSignature => 8,
        }
    }
}

/// The parts of a token's text, before any check.
struct Parts<'a> {
    signed: &'a str,
    claims: &'a str,
    mac: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, TokenError> {
        let wrong = |why: &str| TokenError::Unreadable(why.to_owned());
        if text.len() > MAX_TOKEN_BYTES {
            return Err(wrong("it is too long"));
        }
        let (signed, mac) = text.rsplit_once('.').ok_or_else(|| wrong("it does not have three parts"))?;
        let claims = signed
            .strip_prefix(VERSION)
            .and_then(|rest| rest.strip_prefix('.'))
            .ok_or_else(|| wrong("it does not begin with rb1."))?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| wrong("its signature is damaged"))?;
        Ok(Self { signed, claims, mac })
    }

    fn claims(&self) -> Result<(Claims, Vec<TopicFilter>), TokenError> {
        let json = URL_SAFE_NO_PAD
            .decode(self.claims)
            .map_err(|_| TokenError::Unreadable("its claims are damaged".to_owned()))?;
        let claims: Claims =
            serde_json::from_slice(&json).map_err(|error| TokenError::Unreadable(error.to_string()))?;
        let resources = claims.check().map_err(|error| TokenError::Unreadable(error.to_string()))?;
        Ok((claims, resources))
    }
}
