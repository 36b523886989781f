//! Splits the vendor's usernames and passwords into their parts, for Token mode and Signature mode.
//!
//! Promises: a password is accepted as a whole or not at all; no error repeats any of it.
//! Must never: decide whether a password is genuine; the authenticator does that.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::claims::Actions;

/// What a client shows, in its documented form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    /// Username `Token|ACCESS KEY|INSTANCE`; password `R|token`, `W|token` or `RW|token`, several joined by `|`.
    Token {
        access_key: &'a str,
        instance: &'a str,
        /// At least one; each type at most once.
        tokens: Vec<(Actions, &'a str)>,
    },
    /// Username `Signature|ACCESS KEY|INSTANCE`; password Base64(HMAC-SHA1(secret, client id)).
    Signature { access_key: &'a str, instance: &'a str, signature: Vec<u8> },
}

/// Why a username and a password are not in a documented form. The texts repeat neither, because people mix up the two.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error(
        "the username is neither Token|ACCESS KEY|INSTANCE nor Signature|ACCESS KEY|INSTANCE; write one of these"
    )]
    Username,
    #[error("the username came without a password; give the token (RW|TOKEN) or the signature")]
    NoPassword,
    #[error("the password is not made of pairs such as RW|TOKEN or R|TOKEN|W|TOKEN; write it so")]
    Pairs,
    #[error("the password has two tokens of type {0}; give at most one of each")]
    Twice(&'static str),
    #[error("the password is no Base64 of a signature; compute Base64(HMAC-SHA1(secret, client id))")]
    SignatureForm,
}

impl<'a> Credentials<'a> {
    /// Splits both. Does not check whether the account is ours or the proof is genuine.
    pub(crate) fn parse(username: &'a str, password: &'a str) -> Result<Self, CredentialsError> {
        let mut parts = username.split('|');
        let (Some(mode), Some(access_key), Some(instance), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CredentialsError::Username);
        };
        if access_key.is_empty() || instance.is_empty() {
            return Err(CredentialsError::Username);
        }
        match mode {
            "Token" => Ok(Self::Token { access_key, instance, tokens: pairs(password)? }),
            "Signature" => Ok(Self::Signature {
                access_key,
                instance,
                signature: STANDARD.decode(password).map_err(|_| CredentialsError::SignatureForm)?,
            }),
            _ => Err(CredentialsError::Username),
        }
    }
}

fn pairs(password: &str) -> Result<Vec<(Actions, &str)>, CredentialsError> {
    let mut tokens: Vec<(Actions, &str)> = Vec::new();
    let mut parts = password.split('|');
    while let Some(kind) = parts.next() {
        let actions = match kind {
            "R" => Actions::Read,
            "W" => Actions::Write,
            "RW" => Actions::ReadWrite,
            _ => return Err(CredentialsError::Pairs),
        };
        if tokens.iter().any(|(other, _)| *other == actions) {
            return Err(CredentialsError::Twice(actions.as_str()));
        }
        let token = parts.next().filter(|token| !token.is_empty());
        tokens.push((actions, token.ok_or(CredentialsError::Pairs)?));
    }
    Ok(tokens)
}

impl CredentialsError {
    /// The vendor's number: 1 forged or unreadable, 8 bad signature, -1 account not permitted.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Username => -1,
            Self::NoPassword | Self::Pairs | Self::Twice(_) => 1,
            Self::SignatureForm => 8,
        }
    }
}

/// Shows the account, and hides tokens and signature.
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, access_key, instance) = match self {
            Self::Token { access_key, instance, .. } => ("Token", access_key, instance),
            Self::Signature { access_key, instance, .. } => ("Signature", access_key, instance),
        };
        write!(f, "{mode}|{access_key}|{instance}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(password: &str) -> Result<Vec<(Actions, &str)>, CredentialsError> {
        match Credentials::parse("Token|key|mqtt-1", password)? {
            Credentials::Token { access_key, instance, tokens } => {
                assert_eq!((access_key, instance), ("key", "mqtt-1"));
                Ok(tokens)
            }
            other => panic!("{other:?} is no token login"),
        }
    }

    #[test]
    fn the_documented_passwords_are_read_in_any_order() {
        use Actions::{Read, ReadWrite, Write};
        assert_eq!(tokens("R|123"), Ok(vec![(Read, "123")]));
        assert_eq!(tokens("R|123|W|abcd"), Ok(vec![(Read, "123"), (Write, "abcd")]));
        assert_eq!(tokens("W|abcd|R|123"), Ok(vec![(Write, "abcd"), (Read, "123")]));
        assert_eq!(tokens("RW|x"), Ok(vec![(ReadWrite, "x")]));
        assert_eq!(tokens("W|c|RW|a|R|b"), Ok(vec![(Write, "c"), (ReadWrite, "a"), (Read, "b")]));
    }

    #[test]
    fn a_password_that_is_not_whole_pairs_is_refused_as_a_whole() {
        for password in [
            "", "R", "R|", "R|123|", "R|123|W", "R|123|W|", "|", "123", "X|123", "r|123", "R|1|2", " R|1",
            "R,W|1",
        ] {
            assert_eq!(tokens(password), Err(CredentialsError::Pairs), "{password:?}");
        }
        assert_eq!(tokens("R|1|R|2"), Err(CredentialsError::Twice("R")));
        assert_eq!(tokens("RW|1|W|2|RW|1"), Err(CredentialsError::Twice("RW")));
    }

    #[test]
    fn a_username_of_another_form_is_refused() {
        for username in [
            "",
            "admin",
            "Token",
            "Token|key",
            "Token||mqtt-1",
            "Token|key|",
            "Token|key|mqtt-1|",
            "token|key|mqtt-1",
            "Other|key|mqtt-1",
            "|key|mqtt-1",
        ] {
            assert_eq!(Credentials::parse(username, "RW|1"), Err(CredentialsError::Username), "{username:?}");
        }
    }

    #[test]
    fn a_signature_is_base64() {
        let parsed = Credentials::parse("Signature|key|mqtt-1", "vI009IZJZVGRwBwZvnbwjfuXxVM=").unwrap();
        match parsed {
            Credentials::Signature { signature, .. } => assert_eq!(signature.len(), 20),
            other @ Credentials::Token { .. } => panic!("{other:?}"),
        }
        for password in ["vI009IZJZVGRwBwZvnbwjfuXxVM", "no base64!", "RW|1"] {
            assert_eq!(
                Credentials::parse("Signature|key|mqtt-1", password),
                Err(CredentialsError::SignatureForm)
            );
        }
    }

    #[test]
    fn no_debug_text_holds_a_token() {
        let parsed = Credentials::parse("Token|key|mqtt-1", "RW|s3cret").unwrap();
        assert_eq!(format!("{parsed:?}"), "Token|key|mqtt-1");
    }

    proptest! {
        #[test]
        fn no_password_panics_and_each_type_comes_once(password in "(R|W|RW|a|\\||\\|){0,8}") {
            if let Ok(tokens) = tokens(&password) {
                prop_assert!((1..=3).contains(&tokens.len()));
                let text: Vec<_> = tokens.iter().map(|(a, t)| format!("{}|{t}", a.as_str())).collect();
                prop_assert_eq!(text.join("|"), password);
            }
        }
    }
}
