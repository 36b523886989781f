//! Access control of the embedded broker: asks the authenticator, and keeps the rights of each connection while it is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use roombridge_embedded::{
    AccessControl, Admission, ClientEvent, ClientEventKind, ConnectRequest, MqttBroker,
};
use tokio::sync::mpsc;

use crate::access::{Authenticator, ConnectAttempt, Grants};
use crate::live_class::{ClientNews, NewsKind};
use crate::model::Clock;

const LOOK_FOR_EXPIRED_EVERY: Duration = Duration::from_secs(1);

/// Who may connect without username and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Auth {
    /// Clients on this machine may connect, as members of the class.
    Optional,
    /// Nobody may connect without a token; browsers only from the classroom's own pages.
    Required,
    /// Everybody may connect and do everything. There is no class then, only the brokers and the bridge.
    None,
}

/// A page's origin as browsers send it: scheme, host and port, or `null` for a page from a file.
pub(super) fn origin(text: &str) -> Result<String, String> {
    if text == "null" {
        return Ok(text.to_owned());
    }
    let example =
        "write it as https://class.example or http://localhost:3000, or null for a page from a file";
    let url = url::Url::parse(text).map_err(|error| format!("{error}; {example}"))?;
    let origin = url.origin();
    let is_bare = url.path().len() <= 1 && url.query().is_none() && url.fragment().is_none();
    let names_nobody = url.username().is_empty() && url.password().is_none();
    if !origin.is_tuple() || !is_bare || !names_nobody {
        return Err(format!("it is no origin of a page; {example}"));
    }
    Ok(origin.ascii_serialization())
}

/// Decides for the embedded broker what each connection may do.
pub(crate) struct ClassAccess {
    authenticator: Authenticator,
    auth: Auth,
    clock: Arc<dyn Clock>,
    /// The rights of each open connection, by its number.
    connections: Mutex<HashMap<u64, Grants>>,
}

impl ClassAccess {
    pub(crate) fn new(mut authenticator: Authenticator, auth: Auth, clock: Arc<dyn Clock>) -> Self {
        authenticator.anonymous_on_loopback = auth == Auth::Optional;
        Self { authenticator, auth, clock, connections: Mutex::default() }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Grants>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections with expired tokens, and their clients. Such a connection must be closed, because the rights of a
    /// subscription are checked only at SUBSCRIBE.
    fn expired(&self) -> Vec<(u64, Option<String>)> {
        let now_ms = self.clock.wall_ms();
        let connections = self.connections();
        let expired = connections.iter().filter(|(_, grants)| {
            grants.expires_at_ms().is_some_and(|expires_at_ms| expires_at_ms <= now_ms)
        });
        expired.map(|(connection, grants)| (*connection, grants.client_id().map(str::to_owned))).collect()
    }
}

impl AccessControl for ClassAccess {
    fn connect(&self, connection: u64, request: &ConnectRequest<'_>) -> Admission {
        let attempt = ConnectAttempt {
            client_id: request.client_id,
            username: request.username,
            password: request.password,
            remote_is_loopback: request.remote.ip().is_loopback(),
            // Nobody can read along on a connection inside this machine.
            tls: request.remote.ip().is_loopback(),
        };
        let anonymous = request.username.is_none() && request.password.is_none();
        let admitted = self.authenticator.admit(&attempt, self.clock.wall_ms());
        let grants = match admitted {
            Err(_) if anonymous && self.auth == Auth::None => Grants::operator(),
            Ok(grants) => grants,
            Err(refused) => {
                tracing::info!(client_id = ?request.client_id, code = refused.code(), %refused, "a client is refused");
                return Admission::Refused;
            }
        };
        let label =
            if grants.is_operator() { "operator".to_owned() } else { grants.role().as_str().to_owned() };
        self.connections().insert(connection, grants);
        Admission::Admitted { label }
    }

    fn may_publish(&self, connection: u64, topic: &str) -> bool {
        self.connections().get(&connection).is_some_and(|grants| grants.may_write(topic))
    }

    fn may_subscribe(&self, connection: u64, filter: &str) -> bool {
        self.connections().get(&connection).is_some_and(|grants| grants.may_read(filter))
    }

    fn disconnected(&self, connection: u64) {
        self.connections().remove(&connection);
    }
}

/// Closes connections with expired tokens, until it is aborted.
pub(crate) async fn end_expired(access: Arc<ClassAccess>, broker: Arc<MqttBroker>) {
    loop {
        tokio::time::sleep(LOOK_FOR_EXPIRED_EVERY).await;
        for (connection, client_id) in access.expired() {
            tracing::info!(client_id, "the token of a client has run out");
            broker.disconnect(connection);
        }
    }
}

/// Passes on the broker's events, until the broker ends. Leaves out the bridge's own connections, which are no members.
pub(crate) async fn pass_on(
    mut events: mpsc::Receiver<ClientEvent>,
    news: mpsc::Sender<ClientNews>,
    own_clients: Vec<String>,
) {
    while let Some(event) = events.recv().await {
        if own_clients.contains(&event.client_id) {
            continue;
        }
        let report = ClientNews {
            client_id: event.client_id,
            channel_id: event.channel_id,
            remote: event.remote.to_string(),
            at_ms: event.at_ms,
            what: match event.what {
                ClientEventKind::Connected => NewsKind::Connected,
                ClientEventKind::Disconnected => NewsKind::Disconnected,
                ClientEventKind::Gone => NewsKind::Gone,
                ClientEventKind::Subscribed(filters) => NewsKind::Subscribed(filters),
                ClientEventKind::Unsubscribed(filters) => NewsKind::Unsubscribed(filters),
            },
        };
        // A failed send means that the bridge has stopped; the events must still be read, or the broker would wait.
        let _ = news.send(report).await;
    }
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for (text, sent) in [
            ("https://class.example", "https://class.example"),
            ("https://Class.Example:443/", "https://class.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("https://课堂.example", "https://xn--cksr32j.example"),
            ("null", "null"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(sent), "{text}");
        }
        for text in [
            "",
            "*",
            "class.example",
            "localhost:3000",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://:p@a",
            "file:///x",
        ] {
            let refused = origin(text).unwrap_err();
            assert!(refused.contains("https://class.example"), "{text}: {refused}");
        }
    }
}
