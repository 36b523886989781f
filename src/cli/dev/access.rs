//! The door of the embedded broker: the gatekeeper's rules, with the rights of each connection while it lasts.

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

/// Who may connect without showing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Auth {
    /// Clients on this machine may, as members of the class.
    Optional,
    /// Nobody; and browsers only from the classroom's own pages.
    Required,
    /// Everybody, and may do everything; there is no class then, only brokers and the bridge.
    None,
}

/// See the module's words.
pub(crate) struct ClassAccess {
    authenticator: Authenticator,
    auth: Auth,
    clock: Arc<dyn Clock>,
    open: Mutex<HashMap<u64, Grants>>,
}

impl ClassAccess {
    pub(crate) fn new(mut keeper: Authenticator, auth: Auth, clock: Arc<dyn Clock>) -> Self {
        keeper.anonymous_on_loopback = auth == Auth::Optional;
        Self { authenticator: keeper, auth, clock, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Grants>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections whose tokens have run out, with their clients: rights are asked for at SUBSCRIBE only, so they must
    /// end.
    fn expired(&self) -> Vec<(u64, Option<String>)> {
        let now_ms = self.clock.wall_ms();
        let open = self.open();
        let expired = open.iter().filter(|(_, grants)| {
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
            // On this machine nobody on the way reads along.
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
        self.open().insert(connection, grants);
        Admission::Admitted { label }
    }

    fn may_publish(&self, connection: u64, topic: &str) -> bool {
        self.open().get(&connection).is_some_and(|grants| grants.may_write(topic))
    }

    fn may_subscribe(&self, connection: u64, filter: &str) -> bool {
        self.open().get(&connection).is_some_and(|grants| grants.may_read(filter))
    }

    fn disconnected(&self, connection: u64) {
        self.open().remove(&connection);
    }
}

/// Ends connections whose tokens have run out, for as long as the broker lives.
pub(crate) async fn end_expired(gate: Arc<ClassAccess>, broker: Arc<MqttBroker>) {
    loop {
        tokio::time::sleep(LOOK_FOR_EXPIRED_EVERY).await;
        for (connection, client_id) in gate.expired() {
            tracing::info!(client_id, "the token of a client has run out");
            broker.disconnect(connection);
        }
    }
}

/// Passes on what the broker tells, until it ends. The bridge's own connections are nobody in a class.
pub(crate) async fn pass_on(
    mut events: mpsc::Receiver<ClientEvent>,
    news: mpsc::Sender<ClientNews>,
    own_clients: Vec<String>,
) {
    while let Some(event) = events.recv().await {
        if own_clients.contains(&event.client_id) {
            continue;
        }
        let told = ClientNews {
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
        // The classroom is gone when the bridge stops; the broker must not wait for it.
        let _ = news.send(told).await;
    }
}
