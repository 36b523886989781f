//! The metrics of the way from RocketMQ to MQTT; they carry `direction="downlink"`.

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::register::{ByMember, Register};
use crate::model::{DeadReason, FilterReason};

/// Counts the messages of all downlinks. The books: received = published + filtered + dead-lettered + in flight.
#[derive(Debug)]
pub struct DownlinkMetrics {
    received: IntCounter,
    received_bytes: IntCounter,
    /// Messages that the MQTT broker acknowledged.
    pub published_total: IntCounter,
    filtered: ByMember<FilterReason>,
    dead_lettered: ByMember<DeadReason>,
    /// Messages that came from RocketMQ and have no end yet.
    pub in_flight: IntGauge,
    /// Connections of the downlink to the MQTT broker after the first one.
    pub reconnects_total: IntCounter,
    /// How often a queue no longer held the messages that were read from it before.
    pub position_lost_total: IntCounter,
    /// Stored messages that are not published yet. Label: topic, as the configuration writes it.
    pub lag_messages: IntGaugeVec,
}

impl DownlinkMetrics {
    pub(super) fn new(register: &Register) -> Result<Self, prometheus::Error> {
        let filtered = register.counters(
            "roombridge_filtered_total",
            "Messages not meant to be stored, by reason",
            &["reason"],
        )?;
        let dead_lettered = register.counters(
            "roombridge_dead_lettered_total",
            "Messages put aside as dead letters, by reason",
            &["reason"],
        )?;
        Ok(Self {
            received: register.counter("roombridge_received_total", "PUBLISH packets that came from MQTT")?,
            received_bytes: register
                .counter("roombridge_received_bytes_total", "Payload bytes that came from MQTT")?,
            published_total: register.counter(
                "roombridge_published_total",
                "Messages from RocketMQ that the MQTT broker acknowledged",
            )?,
            filtered: ByMember::new(&filtered, FilterReason::ALL, |reason| vec![reason.to_string()])?,
            dead_lettered: ByMember::new(&dead_lettered, DeadReason::ALL, |reason| vec![reason.to_string()])?,
            in_flight: register.way_gauge("roombridge_in_flight", "Messages received whose end is open")?,
            reconnects_total: register
                .counter("roombridge_reconnects_total", "Connections after the first one")?,
            position_lost_total: register.counter(
                "roombridge_position_lost_total",
                "Queues whose messages were no longer those that were read before",
            )?,
            lag_messages: register.way_gauges(
                "roombridge_downlink_lag_messages",
                "Stored messages that have not gone down yet, by RocketMQ topic",
                &["topic"],
            )?,
        })
    }

    /// One message came from RocketMQ.
    pub fn received(&self, bytes: usize) {
        self.received.inc();
        self.received_bytes.inc_by(bytes as u64);
        self.in_flight.inc();
    }

    /// The MQTT broker acknowledged a message.
    pub fn published(&self) {
        self.published_total.inc();
        self.in_flight.dec();
    }

    /// A message was not meant to be published.
    pub fn filtered(&self, reason: FilterReason) {
        self.filtered.add(reason, 1);
        self.in_flight.dec();
    }

    /// A message became a dead letter.
    pub fn dead_lettered(&self, reason: DeadReason) {
        self.dead_lettered.add(reason, 1);
        self.in_flight.dec();
    }

    /// How many dead letters there were, over all reasons.
    pub fn dead_lettered_count(&self) -> u64 {
        self.dead_lettered.sum()
    }
}
