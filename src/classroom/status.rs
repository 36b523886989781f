//! Reads the broker's documented notices about its clients.
//!
//! Promises: reads times in seconds and in milliseconds; every event but `connect` is an end, as the vendor documents it.
//! Must never: rely on a legal client id in a notice; other brokers let any id through.

use serde::Deserialize;

use super::presence::{PresenceChange, PresenceEvent};
use crate::model::ClientId;

/// Smaller times are in seconds: as milliseconds they would lie before March 1973.
const FIRST_MILLISECONDS: u64 = 100_000_000_000;
const MAX_CHANNEL_BYTES: usize = 128;

/// Why a notice makes no event.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAStatus {
    #[error(
        "this is no status notice: {0}; clientId, time, eventType and channelId of a connection were expected"
    )]
    Json(String),
    #[error("the status notice names the client {0:?}, which no MQTT topic can name; it is left out")]
    Client(String),
    #[error("the status notice has a channelId of {0} bytes; 1 to {MAX_CHANNEL_BYTES} were expected")]
    Channel(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notice {
    client_id: String,
    time: u64,
    event_type: String,
    channel_id: String,
}

/// The event that a status notice reports.
pub(crate) fn status_event(notice: &[u8]) -> Result<PresenceEvent, NotAStatus> {
    let notice: Notice =
        serde_json::from_slice(notice).map_err(|problem| NotAStatus::Json(problem.to_string()))?;
    if !(1..=MAX_CHANNEL_BYTES).contains(&notice.channel_id.len()) {
        return Err(NotAStatus::Channel(notice.channel_id.len()));
    }
    let is_connect = notice.event_type == "connect";
    Ok(PresenceEvent {
        client: ClientId::parse(&notice.client_id).ok_or(NotAStatus::Client(notice.client_id))?,
        channel: notice.channel_id.into(),
        at_ms: if notice.time < FIRST_MILLISECONDS { notice.time.saturating_mul(1000) } else { notice.time },
        change: if is_connect { PresenceChange::Connected } else { PresenceChange::Ended },
    })
}
