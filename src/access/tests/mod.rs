//! Access as the rest of the program sees it: the attacks of a hostile class, each refused.

mod authenticator;
mod grants;
mod login;
mod token;

use std::sync::Arc;

use super::client_id::documented_id;
use super::*;
use crate::model::ClientId;

const NOW_MS: u64 = 1_767_268_800_000;
const HOUR_MS: u64 = 60 * 60 * 1000;

fn secret(text: &str) -> SigningSecret {
    SigningSecret::new(&text.into()).unwrap()
}

fn deployment() -> Arc<Deployment> {
    let deployment = Deployment::new("key", "mqtt-1", secret("s3cret"), Parents::default());
    Arc::new(deployment.unwrap())
}

fn client(text: &str) -> ClientId {
    documented_id(text).unwrap()
}

/// An unbound token's claims, valid for an hour, with the class's resources.
fn claims() -> Claims {
    Claims {
        access_key: "key".to_owned(),
        instance: "mqtt-1".to_owned(),
        resources: Parents::default().resources(None),
        actions: Actions::ReadWrite,
        expires_at_ms: NOW_MS + HOUR_MS,
        client_id: None,
        role: None,
        nonce: Nonce::random().unwrap(),
    }
}

fn issue(claims: Claims) -> String {
    Token::issue(claims, &secret("s3cret"), NOW_MS).unwrap()
}
