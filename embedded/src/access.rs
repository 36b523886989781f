//! How the user of the embedded MQTT broker decides about its clients and hears of them.
//!
//! Promises: rights belong to a connection, so the end of an old connection takes no right from the one that took over. The
//! events of a connection come in order, and `Gone` comes last, however the connection ended; events of two connections of
//! the same client may mix.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

/// What a client shows when it connects.
pub struct ConnectRequest<'a> {
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub remote: SocketAddr,
    /// Topic of its last will; `None` if it has none.
    pub will_topic: Option<&'a str>,
}

/// Whether a client is admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may connect.
    Admitted {
        /// Its role, in letters. Receivers of its messages see it; see [`crate::SENDER_PROPERTY`].
        label: String,
    },
    /// It gets a CONNACK that says so, and its connection is closed.
    Refused,
}

/// Decides about clients, at once and from memory. Rights belong to a connection and not to a client id, because after a
/// takeover both connections of a client exist for a moment.
pub trait AccessControl: Send + Sync {
    /// Asked before the client can take over a session. For each admitted connection [`Self::disconnected`] is called once.
    fn connect(&self, connection: u64, request: &ConnectRequest<'_>) -> Admission;
    /// A refusal ends the connection. For a last will it is asked at CONNECT, where a refusal refuses the client, and again
    /// when the will is sent.
    fn may_publish(&self, connection: u64, topic: &str) -> bool;
    /// The filter comes without `$share/GROUP/`. A refusal ends the connection; a filter of a restored session is
    /// dropped instead.
    fn may_subscribe(&self, connection: u64, filter: &str) -> bool;
    /// The connection has ended; its rights may be forgotten.
    fn disconnected(&self, connection: u64);
}

/// Something that happened to a client, in order for each client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    pub client_id: String,
    /// Names the TCP connection: 32 hex digits.
    pub channel_id: String,
    pub remote: SocketAddr,
    /// Milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    pub what: ClientEventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEventKind {
    /// It was sent its CONNACK.
    Connected,
    /// It sent DISCONNECT; [`ClientEventKind::Gone`] follows.
    Disconnected,
    /// Its TCP connection is closed.
    Gone,
    /// The granted filters, as the client wrote them. For a restored session its filters come right after `Connected`.
    Subscribed(Vec<String>),
    /// The filters, as the client wrote them.
    Unsubscribed(Vec<String>),
}

/// How the broker treats its clients. By default everybody may do everything, and nobody hears of events.
#[derive(Clone)]
pub struct ClientPolicy {
    /// Decides about clients; `None` = everybody may do everything.
    pub access: Option<Arc<dyn AccessControl>>,
    /// Parent topics: messages on `{parent}/p2p/{clientId}` reach that client without a subscription.
    pub p2p_parents: Vec<String>,
    /// Takes the events; `None` = nobody hears of them. Bounded: while it is full, the client of the event is not served.
    pub events: Option<mpsc::Sender<ClientEvent>>,
    /// When there are so many, a newcomer takes the place of the caller that has sent no CONNECT for longest; if there is none,
    /// it is turned away.
    pub max_connections: usize,
    /// Most retained messages, each of at most 64 KiB; more are refused.
    pub max_retained: usize,
    /// Values of `Origin` with which the WebSocket may be used; then every caller must send one. `None` = anybody may use it.
    pub allowed_origins: Option<Vec<String>>,
    /// Wall time, milliseconds since 1970-01-01 UTC.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for ClientPolicy {
    fn default() -> Self {
        Self {
            access: None,
            p2p_parents: Vec::new(),
            events: None,
            max_connections: 10_000,
            max_retained: 10_000,
            allowed_origins: None,
            now_ms: Arc::new(|| {
                let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since_1970.map_or(0, |time| time.as_millis() as u64)
            }),
        }
    }
}
