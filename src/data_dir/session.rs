//! What a process must know about the MQTT session of the process before it.

use serde::{Deserialize, Serialize};

/// The state of our MQTT session. It is on the disk after every CONNACK and before every SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    pub client_id: String,
    /// Client id and a random part, which is drawn again whenever the broker had no session.
    pub stamp: String,
    /// How many connections this session has had.
    pub connection: u64,
    /// How often a bridge has started on this data directory.
    pub generation: u64,
    /// The topic filters that the session at the broker is subscribed to.
    pub filters: Vec<String>,
    /// Absent in files of version 0.1, which gave no identifiers.
    #[serde(default)]
    pub subscriptions: Vec<Subscription>,
}

/// One filter that was ever subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// MQTT topic filter, as the configuration writes it.
    pub filter: String,
    /// The subscription identifier, which never belongs to another filter.
    pub identifier: u32,
    /// When this session first subscribed to it, counted in events of the session; `None` = the session is not subscribed.
    pub asked: Option<u64>,
    /// When the broker granted it with QoS 1, in the same count; `None` = it did not, or it may have changed since.
    pub granted: Option<u64>,
}
