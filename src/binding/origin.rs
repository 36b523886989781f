//! `rbOrigin`: the proof that a stored message came from MQTT through this deployment.
//!
//! Value: `1;hop=1;mac=M`, M = base64url without padding of the first 16 bytes of HMAC-SHA256 with the deployment's key
//! over `rbOrigin1`, RocketMQ topic, message id, hop and stored body, with NUL between.
//!
//! Promises: a mark that was copied to another topic, id or body, or made without the key, is not genuine.
//! Must never: compare in a time that depends on the secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

const MAC_BYTES: usize = 16;
const PREFIX: &str = "1;hop=1;mac=";

/// Signs with one key, whose schedule is computed once.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

/// Shows nothing of the key.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// `None` for an empty key, with which anybody could sign.
    pub fn new(key: &[u8]) -> Option<Self> {
        if key.is_empty() {
            None
        } else {
            Hmac::new_from_slice(key).ok().map(Self)
        }
    }

    pub fn sign(&self, topic: &str, id: &str, body: &[u8]) -> String {
        let mac = self.over(topic, id, body).finalize().into_bytes();
        let mut value = String::with_capacity(PREFIX.len() + 22);
        value.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&mac[..MAC_BYTES], &mut value);
        value
    }

    fn over(&self, topic: &str, id: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [
            &b"rbOrigin1"[..],
            b"\0",
            topic.as_bytes(),
            b"\0",
            id.as_bytes(),
            b"\0",
            b"1",
            b"\0",
            body,
        ] {
            mac.update(part);
        }
        mac
    }
}

/// Whether this `rbOrigin` was made with that key for exactly this RocketMQ topic, id and stored body.
///
/// `id` must be the one in KEYS: a mark counts only for the message that it lies on.
pub fn origin_is_genuine(key: &[u8], topic: &str, id: &str, body: &[u8], value: &str) -> bool {
    let Some(mac) = value
        .strip_prefix(PREFIX)
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
    else {
        return false;
    };
    let Some(signer) = Signer::new(key) else {
        return false;
    };
    mac.len() == MAC_BYTES && signer.over(topic, id, body).verify_truncated_left(&mac).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_for_its_own_message_only() {
        let mark = Signer::new(b"key").unwrap().sign("room", "1-1", b"hi");
        let genuine =
            |key: &[u8], topic, id, body: &[u8], mark: &str| origin_is_genuine(key, topic, id, body, mark);

        assert!(genuine(b"key", "room", "1-1", b"hi", &mark));
        assert!(!genuine(b"other", "room", "1-1", b"hi", &mark));
        assert!(!genuine(b"key", "roomSend", "1-1", b"hi", &mark));
        assert!(!genuine(b"key", "room", "1-2", b"hi", &mark));
        assert!(!genuine(b"key", "room", "1-1", b"ho", &mark));
        assert!(!genuine(b"key", "room", "1-1", b"hi", &mark[..mark.len() - 4]));
        assert!(!genuine(
            b"key",
            "room",
            "1-1",
            b"hi",
            &mark.replace("hop=1", "hop=0")
        ));
        assert!(!genuine(b"key", "room", "1-1", b"hi", "1;hop=1;mac="));
        assert!(!genuine(b"", "room", "1-1", b"hi", &mark));
    }

    #[test]
    fn the_written_form_never_changes() {
        // Computed with Python's hmac module.
        let mark = Signer::new(b"key").unwrap().sign("room", "1-1", b"hi");
        assert_eq!(mark, "1;hop=1;mac=Kjk8o_eWGXW8fd-ZnkJ_qw");
    }

    #[test]
    fn nobody_signs_with_an_empty_key() {
        assert!(Signer::new(b"").is_none());
    }
}
