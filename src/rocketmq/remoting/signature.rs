//! Signs requests for a RocketMQ with ACL. Source: `AclClientRPCHook` and `AclUtils` of Apache RocketMQ 5.5.0.
//!
//! Promises: the secret key is never printed.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha1::Sha1;

/// The keys of a RocketMQ user.
pub(crate) struct Keys {
    access_key: String,
    mac: Hmac<Sha1>,
}

impl Keys {
    /// A secret key of any length is legal.
    pub(crate) fn new(access_key: &str, secret_key: &SecretString) -> Option<Self> {
        let mac = Hmac::new_from_slice(secret_key.expose_secret().as_bytes()).ok()?;
        Some(Self { access_key: access_key.to_owned(), mac })
    }

    /// Adds the access key, and the signature over the values of all fields, in the order of their names, and the body.
    pub(super) fn sign(&self, fields: &mut Vec<(&'static str, Cow<'_, str>)>, body: &[u8]) {
        fields.push(("AccessKey", Cow::Owned(self.access_key.clone())));
        fields.sort_unstable_by_key(|(name, _)| *name);
        let mut mac = self.mac.clone();
        for (_, value) in fields.iter() {
            mac.update(value.as_bytes());
        }
        mac.update(body);
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        fields.push(("Signature", Cow::Owned(signature)));
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use bytes::Bytes;
    use rocketmq_client_rust::{AclClientRPCHook, SessionCredentials};
    use rocketmq_protocol::protocol::remoting_command::RemotingCommand;
    use rocketmq_transport::api::RPCHook;

    /// Compared with the client library's signature of the same request.
    #[test]
    fn a_signature_is_the_one_of_the_client_library() {
        let secret = SecretString::from("a secret");
        let mut ours: Vec<(&'static str, Cow<'_, str>)> =
            vec![("e", "3".into()), ("b", "room".into()), ("a", "group".into())];
        Keys::new("user", &secret).unwrap().sign(&mut ours, b"hello");

        let hook = AclClientRPCHook::new(SessionCredentials::with_keys("user", "a secret"));
        let fields = [("b", "room"), ("a", "group"), ("e", "3")];
        let fields = fields.map(|(name, value)| (name.into(), value.into()));
        let mut theirs = RemotingCommand::create_remoting_command(310).set_body(Bytes::from_static(b"hello"));
        theirs = theirs.set_ext_fields(fields.into_iter().collect());
        hook.do_before_request("127.0.0.1:1".parse().unwrap(), &mut theirs).unwrap();

        let theirs = theirs.ext_fields().unwrap();
        assert_eq!(theirs.len(), ours.len());
        for (name, value) in &ours {
            assert_eq!(theirs.get(*name).map(ToString::to_string).as_deref(), Some(&**value), "{name}");
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let keys = Keys::new("user", &SecretString::from("hidden")).unwrap();
        assert!(!format!("{keys:?}").contains("hidden"));
    }
}
