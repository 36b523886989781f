//! What others decide about the clients of the embedded MQTT broker, and what they are told of them.
//!
//! Promises: a right belongs to a connection, so the end of an old one takes nothing from the one that took over. The
//! events of a connection come in order, and `Gone` comes last, however it ended; events of two connections of one
//! client may mix.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

/// What a client shows when it connects.
pub struct ConnectRequest<'a> {
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub remote: SocketAddr,
    /// Where its last will is to be published.
    pub will_topic: Option<&'a str>,
}

/// Whether a client is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// `label`: letters, by which receivers of its messages know what it is; see [`crate::SENDER_PROPERTY`].
    Admitted {
        label: String,
    },
    Refused,
}

/// Decides at once, from memory. Rights belong to a connection and not to a client id: after a takeover both of its
/// connections are there for a moment.
pub trait AccessControl: Send + Sync {
    /// Asked before a session is taken over. An admitted connection ends with [`Gate::disconnected`], whatever happens.
    fn connect(&self, connection: u64, request: &ConnectRequest<'_>) -> Admission;
    /// A refusal ends the connection. Asked for a last will at CONNECT, where a refusal refuses the client, and again
    /// when the will is sent.
    fn may_publish(&self, connection: u64, topic: &str) -> bool;
    /// The filter comes without `$share/GROUP/`. A refusal ends the connection; a filter of a restored session is
    /// dropped instead.
    fn may_subscribe(&self, connection: u64, filter: &str) -> bool;
    fn disconnected(&self, connection: u64);
}

/// Something that happened to a client, in order for each client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    pub client_id: String,
    /// 32 hex digits for each TCP connection.
    pub channel_id: String,
    pub remote: SocketAddr,
    /// Milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    pub what: ClientEventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEventKind {
    /// It has its CONNACK.
    Connected,
    /// It said goodbye; [`ClientEventKind::Gone`] follows.
    Disconnected,
    /// Its TCP connection is closed.
    Gone,
    /// What was granted, as it wrote it. A restored session tells its filters right after `Connected`.
    Subscribed(Vec<String>),
    Unsubscribed(Vec<String>),
}

/// How the broker works with others; the default is a broker for everybody that tells nobody anything.
#[derive(Clone)]
pub struct ClientPolicy {
    /// `None`: everybody may do everything.
    pub access: Option<Arc<dyn AccessControl>>,
    /// `{parent}/p2p/{clientId}` is delivered to that client without a subscription.
    pub p2p_parents: Vec<String>,
    /// Bounded; when it is full the client waits, and is not served meanwhile.
    pub events: Option<mpsc::Sender<ClientEvent>>,
    /// When there are so many, a newcomer takes the place of the longest silent caller, or is turned away.
    pub max_connections: usize,
    /// Retained messages in all, of 64 KiB at most each; what is beyond is refused.
    pub max_retained: usize,
    /// Pages whose browsers may use the WebSocket, by their `Origin`; then callers must name one. `None`: all.
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
