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
}
