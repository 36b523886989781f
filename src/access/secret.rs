//! The deployment's signing secret, which proves that a token or a signature password was made here.
//!
//! Promises: a secret is never printed, and a comparison with a stranger's input takes the same time, right or wrong.
//! Must never: sign with an empty secret, because anybody could do the same.

#[cfg(test)]
use base64::Engine;
#[cfg(test)]
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The secret is empty: set one, for example `openssl rand -hex 32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret is empty, with which anybody could sign; set one, such as what `openssl rand -hex 32` prints"
)]
pub(crate) struct EmptySecret;

/// Signs and checks with one secret; the key schedules are computed once.
#[derive(Clone)]
pub(crate) struct SigningSecret {
    token: Hmac<Sha256>,
    /// HMAC-SHA1, because the vendor's Signature mode prescribes it.
    signature: Hmac<Sha1>,
}

/// Prints the name of the type only.
impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningSecret")
    }
}

impl SigningSecret {
    /// Takes any secret that is not empty.
    pub(crate) fn new(secret: &SecretString) -> Result<Self, EmptySecret> {
        let secret = secret.expose_secret().as_bytes();
        if secret.is_empty() {
            return Err(EmptySecret);
        }
        // An HMAC takes a key of any length.
        Ok(Self {
            token: Hmac::new_from_slice(secret).map_err(|_| EmptySecret)?,
            signature: Hmac::new_from_slice(secret).map_err(|_| EmptySecret)?,
        })
    }

    /// The password of Signature mode: Base64(HMAC-SHA1(secret, client id)).
    #[cfg(test)]
    pub(crate) fn signature_password(&self, client_id: &str) -> String {
        let mac = self.signature.clone().chain_update(client_id);
        STANDARD.encode(mac.finalize().into_bytes())
    }

    pub(super) fn signature_is_genuine(&self, client_id: &str, signature: &[u8]) -> bool {
        let mac = self.signature.clone().chain_update(client_id);
        mac.verify_slice(signature).is_ok()
    }

    pub(super) fn sign_token(&self, signed: &str) -> [u8; 32] {
        let mac = self.token.clone().chain_update(signed);
        mac.finalize().into_bytes().into()
    }

    pub(super) fn token_is_genuine(&self, signed: &str, mac: &[u8]) -> bool {
        self.token.clone().chain_update(signed).verify_slice(mac).is_ok()
    }
}

/// Whether `shown` is the secret; an empty secret is never shown. The time that this takes tells the secret's length only.
pub(crate) fn is_shown(secret: &SecretString, shown: &[u8]) -> bool {
    let secret = secret.expose_secret().as_bytes();
    !secret.is_empty() && bool::from(secret.ct_eq(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signing(secret: &str) -> SigningSecret {
        SigningSecret::new(&secret.into()).unwrap()
    }

    #[test]
    fn signature_passwords_are_those_of_the_vendors_page() {
        for (client_id, secret, password) in [
            ("GID_Test@@@0001", "XXXXX", "vI009IZJZVGRwBwZvnbwjfuXxVM="),
            ("GID_teacher@@@001", "teacher-secret", "7ewMt58GxfNgHaf2NH2HPAl3Z58="),
            ("GID_student@@@001", "student-secret", "C10CQki4QOC+Zwn6ZE2NXAU3TZA="),
            ("testHmacSHA1", "SHA1Util", "LicXOdrzX+EWJKbJriUcGxm63Wg="),
        ] {
            assert_eq!(signing(secret).signature_password(client_id), password, "{client_id}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_client_id_and_secret_only() {
        let signature = STANDARD.decode("7ewMt58GxfNgHaf2NH2HPAl3Z58=").unwrap();
        let genuine = |secret, id, signature: &[u8]| signing(secret).signature_is_genuine(id, signature);
        assert!(genuine("teacher-secret", "GID_teacher@@@001", &signature));
        assert!(!genuine("student-secret", "GID_teacher@@@001", &signature));
        assert!(!genuine("teacher-secret", "GID_teacher@@@002", &signature));
        assert!(!genuine("teacher-secret", "GID_teacher@@@001", &signature[..19]));
        assert!(!genuine("teacher-secret", "GID_teacher@@@001", b""));
    }

    #[test]
    fn nobody_signs_with_an_empty_secret() {
        assert_eq!(SigningSecret::new(&"".into()).unwrap_err(), EmptySecret);
    }

    #[test]
    fn a_secret_is_not_in_its_debug_form() {
        assert_eq!(format!("{:?}", signing("teacher-secret")), "SigningSecret");
    }

    #[test]
    fn only_the_whole_secret_counts_as_shown() {
        let secret = "s3cret".into();
        assert!(is_shown(&secret, b"s3cret"));
        for wrong in ["", "s3cre", "s3cret ", "S3cret"] {
            assert!(!is_shown(&secret, wrong.as_bytes()), "{wrong:?}");
        }
        assert!(!is_shown(&"".into(), b""), "an empty secret is no secret");
    }
}
