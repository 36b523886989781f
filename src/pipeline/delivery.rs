//! One delivery of the MQTT broker, as far as it decides whether another one is its copy.

use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

/// Topic and payload of a message, as 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    pub fn of(topic: &str, payload: &[u8]) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(&(topic.len() as u64).to_le_bytes());
        hasher.update(topic.as_bytes());
        hasher.update(payload);
        Self(hasher.digest128())
    }
}

/// One delivery with QoS 1 or 2, as the ledger needs it.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    pub packet_id: u16,
    pub duplicate: bool,
    pub fingerprint: Fingerprint,
    /// Monotonic time of arrival.
    pub arrived: Duration,
}
