//! Stands between the broker and its [`Gate`]: numbers connections, asks, closes refused ones, delivers P2P topics, tells.
//!
//! Promises: client ids that are no level of a topic never get in (`#` would read everybody's P2P messages); a refused
//! PUBLISH or SUBSCRIBE is answered and then ends its connection; each admitted connection is told to end once.
//! Must never: decide by a client id alone.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use mqtt5::QoS;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::events::{
    BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent, ClientSubscribeEvent,
    ClientUnsubscribeEvent,
};
use mqtt5::broker::router::{MessageRouter, SubscriptionRequest};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;

use crate::gate::{Admission, ClientEvent, ClientEventKind, ConnectRequest, Guests};

/// A connection that was admitted and did not become one in this time has failed on its way.
const CONNECTS_WITHIN: Duration = Duration::from_secs(30);
/// For the refusal to reach the client before its connection is closed.
const REFUSAL_ARRIVES: Duration = Duration::from_millis(50);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See the module's words.
pub(crate) struct Doorman {
    guests: Guests,
    router: OnceLock<Weak<MessageRouter>>,
    /// Makes the channel ids of this process unlike those of others.
    boot: u64,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    last: u64,
    known: HashMap<u64, Connection>,
    /// The newest of each client.
    newest: HashMap<String, u64>,
}

struct Connection {
    client_id: String,
    remote: SocketAddr,
    admitted: Instant,
    connected: bool,
}

impl Doorman {
    pub fn new(guests: Guests) -> Arc<Self> {
        Arc::new(Self {
            guests,
            router: OnceLock::new(),
            boot: RandomState::new().hash_one("boot"),
            connections: Mutex::default(),
        })
    }

    /// The broker's router, once there is a broker.
    pub fn serve(&self, router: &Arc<MessageRouter>) {
        let _ = self.router.set(Arc::downgrade(router));
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn router(&self) -> Option<Arc<MessageRouter>> {
        self.router.get().and_then(Weak::upgrade)
    }

    /// The user id that the broker carries with the connection, or `None` for who is not let in.
    fn admit(&self, connect: &ConnectPacket, remote: SocketAddr) -> Option<String> {
        let client_id = connect.client_id.as_str();
        if !is_level(client_id) {
            return None;
        }
        let will_topic = connect.will.as_ref().map(|will| will.topic.as_str());
        let request = ConnectRequest {
            client_id,
            username: connect.username.as_deref(),
            password: connect.password.as_deref(),
            remote,
            will_topic,
        };
        let number = {
            let mut connections = self.connections();
            connections.last += 1;
            connections.last
        };
        let label = match &self.guests.gate {
            None => "client".to_owned(),
            Some(gate) => match gate.connect(number, &request) {
                Admission::Admitted { label } => {
                    // The broker asks nobody about wills.
                    if will_topic.is_some_and(|topic| !gate.may_publish(number, topic)) {
                        gate.disconnected(number);
                        return None;
                    }
                    label
                }
                Admission::Refused => return None,
            },
        };
        self.remember(number, client_id, remote);
        Some(format!("{label}#{number}"))
    }

    fn remember(&self, number: u64, client_id: &str, remote: SocketAddr) {
        let mut connections = self.connections();
        let now = Instant::now();
        let failed: Vec<u64> = connections
            .known
            .iter()
            .filter(|(_, known)| !known.connected && now - known.admitted > CONNECTS_WITHIN)
            .map(|(number, _)| *number)
            .collect();
        for number in failed {
            connections.forget(number);
            if let Some(gate) = &self.guests.gate {
                gate.disconnected(number);
            }
        }
        connections.known.insert(
            number,
            Connection {
                client_id: client_id.to_owned(),
                remote,
                admitted: now,
                connected: false,
            },
        );
    }

    fn refused(&self, client_id: &str) {
        let (router, client_id) = (self.router(), client_id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(REFUSAL_ARRIVES).await;
            if let Some(router) = router {
                router.disconnect_client(&client_id).await;
            }
        });
    }

    async fn tell(&self, number: u64, what: ClientEventKind) {
        let Some(events) = &self.guests.events else { return };
        let event = {
            let connections = self.connections();
            let Some(connection) = connections.known.get(&number) else {
                return;
            };
            ClientEvent {
                client_id: connection.client_id.clone(),
                channel_id: format!("{:016x}{number:016x}", self.boot),
                remote: connection.remote,
                at_ms: (self.guests.now_ms)(),
                what,
            }
        };
        // Nobody listens any more only when the process ends.
        let _ = events.send(event).await;
    }

    /// Before anything else is sent to it: what is for this client alone needs no subscription.
    async fn deliver_p2p(&self, client_id: &str) {
        let Some(router) = self.router() else { return };
        for parent in &self.guests.p2p_parents {
            let topic = format!("{parent}/p2p/{client_id}");
            let request = SubscriptionRequest::new(client_id, topic, QoS::AtLeastOnce);
            if let Err(error) = router.subscribe(request).await {
                tracing::warn!(client_id, %error, "a client will not get what is for it alone");
            }
        }
    }

    fn newest_of(&self, client_id: &str) -> Option<u64> {
        self.connections().newest.get(client_id).copied()
    }
}

impl Connections {
    fn forget(&mut self, number: u64) {
        if let Some(connection) = self.known.remove(&number)
            && self.newest.get(&connection.client_id) == Some(&number)
        {
            self.newest.remove(&connection.client_id);
        }
    }
}

/// One level of a topic: no wildcard, no separator, nothing that cannot be seen.
fn is_level(client_id: &str) -> bool {
    !client_id.is_empty()
        && !client_id
            .chars()
            .any(|letter| ['/', '+', '#'].contains(&letter) || letter.is_control())
}

fn number_of(user_id: Option<&str>) -> Option<u64> {
    user_id?.rsplit_once('#')?.1.parse().ok()
}

impl AuthProvider for Doorman {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        client_addr: SocketAddr,
    ) -> Boxed<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            Ok(match self.admit(connect, client_addr) {
                Some(user_id) => AuthResult::success_with_user(user_id),
                None => AuthResult::fail(ReasonCode::NotAuthorized),
            })
        })
    }

    fn authorize_publish<'a>(
        &'a self,
        client_id: &str,
        user_id: Option<&'a str>,
        topic: &'a str,
    ) -> Boxed<'a, bool> {
        let may = match (&self.guests.gate, number_of(user_id)) {
            (None, _) => true,
            (Some(gate), Some(number)) => gate.may_publish(number, topic),
            (Some(_), None) => false,
        };
        if !may {
            self.refused(client_id);
        }
        Box::pin(std::future::ready(may))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client_id: &str,
        user_id: Option<&'a str>,
        topic_filter: &'a str,
    ) -> Boxed<'a, bool> {
        let filter = match topic_filter.strip_prefix("$share/") {
            Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
            None => topic_filter,
        };
        let may = match (&self.guests.gate, number_of(user_id)) {
            (None, _) => true,
            (Some(gate), Some(number)) => gate.may_subscribe(number, filter),
            (Some(_), None) => false,
        };
        if !may {
            self.refused(client_id);
        }
        Box::pin(std::future::ready(may))
    }
}

impl BrokerEventHandler for Doorman {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Boxed<'a, ()> {
        Box::pin(async move {
            let Some(number) = number_of(event.user_id.as_deref()) else {
                return;
            };
            {
                let mut connections = self.connections();
                if let Some(connection) = connections.known.get_mut(&number) {
                    connection.connected = true;
                }
                connections.newest.insert(event.client_id.to_string(), number);
            }
            self.deliver_p2p(&event.client_id).await;
            self.tell(number, ClientEventKind::Connected).await;
        })
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> Boxed<'a, ()> {
        Box::pin(async move {
            use mqtt5::broker::events::SubAckReasonCode as Code;
            let granted = event.subscriptions.iter().filter(|subscription| {
                matches!(
                    subscription.result,
                    Code::GrantedQoS0 | Code::GrantedQoS1 | Code::GrantedQoS2
                )
            });
            let filters: Vec<String> = granted.map(|granted| granted.topic_filter.to_string()).collect();
            if let Some(number) = self.newest_of(&event.client_id).filter(|_| !filters.is_empty()) {
                self.tell(number, ClientEventKind::Subscribed(filters)).await;
            }
        })
    }

    fn on_client_unsubscribe<'a>(&'a self, event: ClientUnsubscribeEvent) -> Boxed<'a, ()> {
        Box::pin(async move {
            let filters = event.topic_filters.iter().map(ToString::to_string).collect();
            if let Some(number) = self.newest_of(&event.client_id) {
                self.tell(number, ClientEventKind::Unsubscribed(filters)).await;
            }
        })
    }

    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> Boxed<'a, ()> {
        Box::pin(async move {
            let Some(number) = number_of(event.user_id.as_deref()) else {
                return;
            };
            if !event.unexpected {
                self.tell(number, ClientEventKind::Disconnected).await;
            }
            self.tell(number, ClientEventKind::Gone).await;
            self.connections().forget(number);
            if let Some(gate) = &self.guests.gate {
                gate.disconnected(number);
            }
        })
    }
}
