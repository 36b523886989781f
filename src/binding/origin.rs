//! Proofs of where a message came from, so that no message goes round in circles.
//!
//! `rbOrigin` on a stored message: it came from MQTT through this deployment. Value `1;hop=N;mac=M`, M = base64url
//! without padding of the first 16 bytes of HMAC-SHA256 with the deployment's key over `rbOrigin1`, RocketMQ topic,
//! message id, hop and stored body, with NUL between.
//!
//! `rbOrigin` on an MQTT message (user property): it came from RocketMQ through this deployment. Value
//! `1;hop=N;id=I;topic=T;mac=M`, T = the MQTT topic percent-encoded, M the same over `rbMark1`, MQTT topic, id, hop and
//! payload.
//!
//! The hop counts how often a message went through the bridge. It also counts on if another program copies the message
//! with its properties to another topic.
//!
//! Promises: a proof is not genuine if it was made without the key, or copied to another topic, id or body.
//! Must never: compare in a time that depends on the secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;

const MAC_BYTES: usize = 16;

/// A message that went through the bridge more often is in a circle of other programs, and is filtered.
pub(super) const MAX_HOPS: u8 = 8;

/// Makes and checks proofs with one key; the key schedule is computed once.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

/// Prints the name of the type only.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// A genuine mark of an MQTT message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// The MQTT topic that we published it on. Somebody may have copied it to another one since.
    pub topic: String,
    pub hop: u8,
}

impl Signer {
    /// `None` for an empty key, because anybody could sign with it.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        if key.is_empty() { None } else { Hmac::new_from_slice(key).ok().map(Self) }
    }

    /// Writes `rbOrigin` for a message that is going to be stored, at the end of that text.
    pub(crate) fn sign(&self, value: &mut String, topic: &str, id: &str, hop: u8, body: &[u8]) {
        let mut digits = itoa::Buffer::new();
        let hop = digits.format(hop);
        for part in ["1;hop=", hop, ";mac="] {
            value.push_str(part);
        }
        self.push_mac(value, "rbOrigin1", [topic, id, hop], body);
    }

    /// The hop of a stored message; `None` if this `rbOrigin` was not made for exactly this topic, id and body.
    pub(crate) fn hop_of(&self, topic: &str, id: &str, body: &[u8], value: &str) -> Option<u8> {
        let (hop, mac) = value.strip_prefix("1;hop=")?.split_once(";mac=")?;
        self.verify("rbOrigin1", [topic, id, hop], body, mac)?;
        hop.parse().ok()
    }

    /// Makes `rbOrigin` for a message that is going to be published.
    pub(crate) fn mark(&self, topic: &str, id: &str, hop: u8, payload: &[u8]) -> String {
        let hop = hop.to_string();
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut value = format!("1;hop={hop};id={};topic={};mac=", encode(id), encode(topic));
        self.push_mac(&mut value, "rbMark1", [topic, id, &hop], payload);
        value
    }

    /// Reads the mark of a published message; `None` if it was not made with our key for this payload.
    pub(crate) fn read_mark(&self, payload: &[u8], value: &str) -> Option<Mark> {
        let (hop, rest) = value.strip_prefix("1;hop=")?.split_once(";id=")?;
        let (id, rest) = rest.split_once(";topic=")?;
        let (topic, mac) = rest.split_once(";mac=")?;
        let decode = |text| percent_decode_str(text).decode_utf8().ok();
        let (id, topic) = (decode(id)?, decode(topic)?);
        self.verify("rbMark1", [&topic, &id, hop], payload, mac)?;
        Some(Mark { topic: topic.into_owned(), hop: hop.parse().ok()? })
    }

    /// Makes `rbVouch` for a derived message: it proves that this client said it.
    pub(crate) fn vouch(&self, topic: &str, id: &str, sender: &str, body: &[u8]) -> String {
        let mut value = String::new();
        self.push_mac(&mut value, "rbVouch1", [topic, id, sender], body);
        value
    }

    pub(crate) fn is_vouched(&self, topic: &str, id: &str, sender: &str, body: &[u8], vouch: &str) -> bool {
        self.verify("rbVouch1", [topic, id, sender], body, vouch).is_some()
    }

    fn push_mac(&self, value: &mut String, what: &str, names: [&str; 3], body: &[u8]) {
        let mac = self.over(what, names, body).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode_string(&mac[..MAC_BYTES], value);
    }

    fn verify(&self, what: &str, names: [&str; 3], body: &[u8], mac: &str) -> Option<()> {
        let mac = URL_SAFE_NO_PAD.decode(mac).ok().filter(|mac| mac.len() == MAC_BYTES)?;
        self.over(what, names, body).verify_truncated_left(&mac).ok()
    }

    fn over(&self, what: &str, names: [&str; 3], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(what.as_bytes());
        for name in names {
            mac.update(b"\0");
            mac.update(name.as_bytes());
        }
        mac.update(b"\0");
        mac.update(body);
        mac
    }
}

/// Whether this `rbOrigin` was made with that key for exactly this RocketMQ topic, id and stored body.
///
/// `id` must be the one in KEYS: a proof counts only for the message that it lies on.
#[cfg(test)]
pub(crate) fn origin_is_genuine(key: &[u8], topic: &str, id: &str, body: &[u8], value: &str) -> bool {
    Signer::new(key).is_some_and(|signer| signer.hop_of(topic, id, body, value).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::new(b"key").unwrap()
    }

    fn origin(topic: &str, id: &str, hop: u8, body: &[u8]) -> String {
        let mut value = String::new();
        signer().sign(&mut value, topic, id, hop, body);
        value
    }

    #[test]
    fn an_origin_holds_for_its_own_message_only() {
        let origin = origin("room", "1-1", 1, b"hi");
        let genuine =
            |key: &[u8], topic, id, body: &[u8], mark: &str| origin_is_genuine(key, topic, id, body, mark);

        assert!(genuine(b"key", "room", "1-1", b"hi", &origin));
        assert!(!genuine(b"other", "room", "1-1", b"hi", &origin));
        assert!(!genuine(b"key", "roomSend", "1-1", b"hi", &origin));
        assert!(!genuine(b"key", "room", "1-2", b"hi", &origin));
        assert!(!genuine(b"key", "room", "1-1", b"ho", &origin));
        assert!(!genuine(b"key", "room", "1-1", b"hi", &origin[..origin.len() - 4]));
        let fewer_hops = origin.replace("hop=1", "hop=0");
        assert!(!genuine(b"key", "room", "1-1", b"hi", &fewer_hops));
        assert!(!genuine(b"key", "room", "1-1", b"hi", "1;hop=1;mac="));
        assert!(!genuine(b"", "room", "1-1", b"hi", &origin));
    }

    #[test]
    fn the_written_form_never_changes() {
        // Computed with Python's hmac module.
        let origin = origin("room", "1-1", 1, b"hi");
        assert_eq!(origin, "1;hop=1;mac=Kjk8o_eWGXW8fd-ZnkJ_qw");
    }

    /// Hazard 19: any client can set the marker, or copy it to another message.
    #[test]
    fn a_mark_tells_where_we_published_and_cannot_be_made_or_changed_by_others() {
        let mark = signer().mark("room/message/1;x=2", "id 1", 3, b"hi");
        let read = signer().read_mark(b"hi", &mark).unwrap();
        assert_eq!((read.topic.as_str(), read.hop), ("room/message/1;x=2", 3));
        assert_eq!(signer().read_mark(b"ho", &mark), None);
        assert_eq!(Signer::new(b"other").unwrap().read_mark(b"hi", &mark), None);
        assert_eq!(signer().read_mark(b"hi", &mark.replace("hop=3", "hop=0")), None);
        assert_eq!(signer().read_mark(b"hi", &mark.replace("message%2F1", "message%2F2")), None);
        for garbage in ["", "1", "1;hop=1", "1;hop=1;id=;topic=;mac=", "1;hop=9;id=%FF;topic=a;mac=AAAA"] {
            assert_eq!(signer().read_mark(b"hi", garbage), None, "{garbage}");
        }
    }

    #[test]
    fn nobody_signs_with_an_empty_key() {
        assert!(Signer::new(b"").is_none());
    }
}
