//! The closed list of metrics; `docs/METRICS.md` says for each what to do when it changes.
//!
//! Promises: every series with a closed set of labels is there with 0 from the start, so that a rate over it counts the
//! first event; labels are looked up once, never for each message.
//! Must never: have a label with a room id, a client id, or a topic that does not stand literally in the configuration.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use super::archive_metrics::ArchiveMetrics;
use super::consumer_lag::ConsumerLag;
use super::downlink_metrics::DownlinkMetrics;
use super::log_writer;
use super::register::{ByMember, IfKnown, Register};
use crate::model::{DeadReason, DropReason, FailureKind, FilterReason, Kind};

const OTHER_TOPIC: &str = "other";

/// Handles of all metrics; shared by `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    received: Received,
    ends: Ends,
    sends: Sends,
    /// Messages that the classroom made out of others.
    pub derived_total: IntCounter,
    /// How often the live class left a client or a room out of its lists because a bound was reached.
    pub presence_unlisted_total: IntCounter,
    /// The way from RocketMQ to MQTT.
    pub downlink: DownlinkMetrics,
    pub archive: ArchiveMetrics,
    pub in_flight: IntGauge,
    /// Messages written to the spool, each once.
    pub spooled_total: IntCounter,
    pub spool_depth: IntGauge,
    pub spool_depth_at_start: IntGauge,
    pub spool_bytes: IntGauge,
    /// The most that the configuration allows for `spool_bytes`.
    pub spool_limit_bytes: IntGauge,
    /// 0 or 1.
    pub spool_full: IntGauge,
    /// 0 or 1.
    pub spool_poisoned: IntGauge,
    /// Absent while the spool's file cannot be read.
    pub spool_oldest_age_seconds: IfKnown,
    /// For how long the disk has not answered the oldest write to the `data_dir`; 0 if no write waits.
    pub data_dir_unwritten_seconds: Gauge,
    /// Messages received and not yet settled.
    pub unsettled_messages: IntGauge,
    pub oldest_unsettled_age_seconds: Gauge,
    /// Messages that have an end but no PUBACK yet.
    pub pubacks_unsent: IntGauge,
    /// 0 or 1.
    pub mqtt_connected: IntGauge,
    /// 0 or 1.
    pub rocketmq_connected: IntGauge,
    log_lines_lost_total: IntCounter,
    pub session_lost_total: IntCounter,
    /// 0 or 1.
    pub receive_window_full: IntGauge,
    pub reconnects_total: IntCounter,
    /// Redeliveries that are proven copies.
    pub redelivered_copies_total: IntCounter,
    pub maybe_copies_total: IntCounter,
    pub consumer_lag: ConsumerLag,
}

impl Metrics {
    /// `topics` are the RocketMQ topic names that stand literally in the configuration; all others share one label.
    pub fn new(topics: &[String]) -> Result<Self, prometheus::Error> {
        let register = Register::uplink();
        register_process(&register)?;
        Ok(Self {
            received: Received::new(&register)?,
            ends: Ends::new(&register, topics)?,
            sends: Sends::new(&register)?,
            derived_total: register
                .counter("roombridge_derived_total", "Messages that the classroom made out of others")?,
            presence_unlisted_total: register.counter(
                "roombridge_presence_unlisted_total",
                "Clients and rooms that the lists of who is there left out because a bound was reached",
            )?,
            downlink: DownlinkMetrics::new(&register.downlink())?,
            archive: ArchiveMetrics::new(&register)?,
            in_flight: register.way_gauge("roombridge_in_flight", "Messages received whose end is open")?,
            spooled_total: register
                .counter("roombridge_spooled_total", "Messages that went through the spool")?,
            spool_depth: register.way_gauge("roombridge_spool_depth", "Messages in the spool now")?,
            spool_depth_at_start: register.way_gauge(
                "roombridge_spool_depth_at_start",
                "Messages that were in the spool when this process started",
            )?,
            spool_bytes: register.way_gauge("roombridge_spool_bytes", "Bytes in the spool now")?,
            spool_limit_bytes: register
                .way_gauge("roombridge_spool_limit_bytes", "Bytes that the spool may hold")?,
            spool_full: register.way_gauge("roombridge_spool_full", "1 while the spool has no room")?,
            spool_poisoned: register.way_gauge(
                "roombridge_spool_poisoned",
                "1 if the spool is out of use after an error of the disk",
            )?,
            spool_oldest_age_seconds: register.way_seconds_if_known(
                "roombridge_spool_oldest_age_seconds",
                "Age of the oldest message in the spool",
            )?,
            data_dir_unwritten_seconds: register.seconds_gauge(
                "roombridge_data_dir_unwritten_seconds",
                "Time for which the oldest write to the data_dir has not been answered by its disk",
            )?,
            unsettled_messages: register.way_gauge("roombridge_lag_messages", "Messages not yet settled")?,
            oldest_unsettled_age_seconds: register
                .way_seconds_gauge("roombridge_lag_seconds", "Age of the oldest message not yet settled")?,
            pubacks_unsent: register.way_gauge(
                "roombridge_pubacks_unsent",
                "Messages that have an end and whose PUBACK has not left",
            )?,
            mqtt_connected: register
                .gauge("roombridge_mqtt_connected", "1 while connected to the MQTT broker")?,
            rocketmq_connected: register
                .gauge("roombridge_rocketmq_connected", "1 while RocketMQ answers")?,
            log_lines_lost_total: register.process_counter(
                "roombridge_log_lines_lost_total",
                "Lines of the log that were not written",
            )?,
            session_lost_total: register.counter(
                "roombridge_session_lost_total",
                "Connections on which the broker had forgotten our session",
            )?,
            receive_window_full: register
                .way_gauge("roombridge_receive_window_full", "1 while the broker may send nothing more")?,
            reconnects_total: register
                .counter("roombridge_reconnects_total", "Connections after the first one")?,
            redelivered_copies_total: register
                .counter("roombridge_redelivered_copies_total", "Redeliveries that are proven copies")?,
            maybe_copies_total: register.counter(
                "roombridge_maybe_copies_total",
                "Redeliveries that may be copies, stored with a mark",
            )?,
            consumer_lag: ConsumerLag::new(&register)?,
            registry: register.registry,
        })
    }

    /// One PUBLISH came from MQTT.
    pub fn received(&self, bytes: usize) {
        self.received.messages.inc();
        self.received.bytes.inc_by(bytes as u64);
    }

    pub fn stored(&self, topic: &str, kind: Kind, count: u64) {
        self.ends.stored.get(topic).unwrap_or(&self.ends.stored_elsewhere).add(kind, count);
    }

    pub fn filtered(&self, reason: FilterReason) {
        self.ends.filtered.add(reason, 1);
    }

    pub fn dropped(&self, reason: DropReason, count: u64) {
        self.ends.dropped.add(reason, count);
    }

    pub fn dead_lettered(&self, reason: DeadReason) {
        self.ends.dead_lettered.add(reason, 1);
    }

    /// How many messages have come to each end, over all topics and reasons.
    pub fn ends(&self) -> EndCounts {
        let elsewhere = self.ends.stored_elsewhere.sum();
        EndCounts {
            stored: elsewhere + self.ends.stored.values().map(ByMember::sum).sum::<u64>(),
            filtered: self.ends.filtered.sum(),
            dropped: self.ends.dropped.sum(),
            dead_lettered: self.ends.dead_lettered.sum(),
        }
    }

    pub fn send_failed(&self, kind: FailureKind) {
        self.sends.failures.add(kind, 1);
    }

    /// The time from arrival to PUBACK of one message.
    pub fn store_seconds(&self, seconds: f64) {
        self.sends.store_seconds.observe(seconds);
    }

    /// The time of one send, whatever the answer was.
    pub fn send_seconds(&self, seconds: f64) {
        self.sends.send_seconds.observe(seconds);
    }

    pub fn batch_messages(&self, messages: usize) {
        self.sends.batch_messages.observe(messages as f64);
    }

    /// Sets both lags: the age to `oldest_age`, the messages to the number in flight.
    pub fn set_lag(&self, oldest_age: Duration) {
        self.oldest_unsettled_age_seconds.set(oldest_age.as_secs_f64());
        self.unsettled_messages.set(self.in_flight.get());
    }

    /// All metrics in Prometheus text format.
    pub fn render(&self) -> String {
        self.log_lines_lost_total.inc_by(log_writer::take_lost());
        let mut text = String::new();
        match TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            Ok(()) => text,
            Err(error) => format!("# the metrics could not be written: {error}\n"),
        }
    }
}

/// How many messages have come to each end since the start, over all labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndCounts {
    /// RocketMQ answered SEND_OK.
    pub stored: u64,
    /// Not meant to be stored.
    pub filtered: u64,
    /// Given up by a bound that the user chose.
    pub dropped: u64,
    /// Put aside as dead letters.
    pub dead_lettered: u64,
}

/// What came from MQTT.
#[derive(Debug)]
struct Received {
    messages: IntCounter,
    /// Of the payloads.
    bytes: IntCounter,
}

impl Received {
    fn new(register: &Register) -> Result<Self, prometheus::Error> {
        Ok(Self {
            messages: register.counter("roombridge_received_total", "PUBLISH packets that came from MQTT")?,
            bytes: register
                .counter("roombridge_received_bytes_total", "Payload bytes that came from MQTT")?,
        })
    }
}

/// The ends that a message can come to.
#[derive(Debug)]
struct Ends {
    stored: HashMap<String, ByMember<Kind>>,
    stored_elsewhere: ByMember<Kind>,
    filtered: ByMember<FilterReason>,
    dropped: ByMember<DropReason>,
    dead_lettered: ByMember<DeadReason>,
}

impl Ends {
    fn new(register: &Register, topics: &[String]) -> Result<Self, prometheus::Error> {
        let stored = register.counters(
            "roombridge_stored_total",
            "Messages for which RocketMQ answered SEND_OK, by RocketMQ topic and kind",
            &["topic", "kind"],
        )?;
        let by_kind = |topic: &str| {
            ByMember::new(&stored, Kind::ALL, |kind| vec![topic.to_owned(), kind.as_str().to_owned()])
        };
        let filtered = register.counters(
            "roombridge_filtered_total",
            "Messages not meant to be stored, by reason",
            &["reason"],
        )?;
        let dropped =
            register.counters("roombridge_dropped_total", "Messages given up, by reason", &["reason"])?;
        let dead_lettered = register.counters(
            "roombridge_dead_lettered_total",
            "Messages put aside as dead letters, by reason",
            &["reason"],
        )?;
        Ok(Self {
            stored: topics
                .iter()
                .map(|topic| Ok((topic.clone(), by_kind(topic)?)))
                .collect::<Result<_, prometheus::Error>>()?,
            stored_elsewhere: by_kind(OTHER_TOPIC)?,
            filtered: ByMember::new(&filtered, FilterReason::ALL, |reason| vec![reason.to_string()])?,
            dropped: ByMember::new(&dropped, DropReason::ALL, |reason| vec![reason.to_string()])?,
            dead_lettered: ByMember::new(&dead_lettered, DeadReason::ALL, |reason| vec![reason.to_string()])?,
        })
    }
}

/// How sends to RocketMQ go.
#[derive(Debug)]
struct Sends {
    failures: ByMember<FailureKind>,
    store_seconds: Histogram,
    send_seconds: Histogram,
    batch_messages: Histogram,
}

impl Sends {
    fn new(register: &Register) -> Result<Self, prometheus::Error> {
        let failures = register.counters(
            "roombridge_send_failures_total",
            "Sends that failed and are tried again, by reason",
            &["reason"],
        )?;
        Ok(Self {
            failures: ByMember::new(&failures, &FailureKind::ALL, |kind| vec![kind.as_str().to_owned()])?,
            store_seconds: register.seconds("roombridge_store_seconds", "Time from arrival to PUBACK")?,
            send_seconds: register.seconds("roombridge_send_seconds", "Time of one send to RocketMQ")?,
            batch_messages: register.batch_sizes("roombridge_batch_messages", "Messages in one send")?,
        })
    }
}

fn register_process(register: &Register) -> Result<(), prometheus::Error> {
    register.registry.register(Box::new(ProcessCollector::for_self()))?;
    let features = if cfg!(feature = "embedded") { "embedded" } else { "none" };
    register
        .gauges(
            "roombridge_build_info",
            "Always 1; the labels say which build this is",
            &["version", "features"],
        )?
        .get_metric_with_label_values(&[env!("CARGO_PKG_VERSION"), features])?
        .set(1);
    Ok(())
}

#[cfg(test)]
mod tests;
