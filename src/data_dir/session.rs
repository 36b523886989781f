//! What is known of the MQTT session between two processes.

use serde::{Deserialize, Serialize};

/// Written, fsynced, on every CONNACK and before SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    pub client_id: String,
    /// Client id and a random part, made anew whenever the broker had no session.
    pub stamp: String,
    /// Connections of this session so far.
    pub connection: u64,
    /// Starts of the bridge on this data directory so far.
    pub generation: u64,
    /// What the broker's session is subscribed to.
    pub filters: Vec<String>,
    /// Absent in files of version 0.1, which gave no identifiers.
    #[serde(default)]
    pub subscriptions: Vec<Subscription>,
}

/// One filter that was ever subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub filter: String,
    /// The subscription identifier, which never belongs to another filter.
    pub identifier: u32,
    /// When this session was first asked for it, as a number that grows with each event of the session; `None`: the session
    /// does not have it.
    pub asked: Option<u64>,
    /// When it was granted with QoS 1, in the same count; `None`: not, or no longer for certain.
    pub granted: Option<u64>,
}
