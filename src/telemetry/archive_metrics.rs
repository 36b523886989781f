//! The metrics of the archiver.

use prometheus::{Gauge, IntCounter};

use super::register::{ByMember, IfKnown, Register};
use crate::model::{Kind, LostCause};

/// Counts what RocketMQ held and what became of it. The books of each queue are in its pieces; `roombridge archive verify` adds
/// them up.
#[derive(Debug)]
pub struct ArchiveMetrics {
    /// Messages written to the archive.
    pub archived_total: IntCounter,
    left_out: ByMember<Kind>,
    lost: ByMember<LostCause>,
    /// `archive.rocketmq_keeps_h`; 0 without an archive.
    pub rocketmq_keeps_seconds: Gauge,
    /// Absent while it is not known.
    pub headroom_seconds: IfKnown,
    /// How long ago the oldest message that is not archived was stored; absent while it is not known.
    pub position_age_seconds: IfKnown,
    /// Messages that RocketMQ hands out to nobody; absent while it is not known.
    pub withheld_messages: IfKnown,
    /// Files that were written.
    pub pieces_total: IntCounter,
    /// Bytes of these files.
    pub bytes_total: IntCounter,
    /// Files that became parts of larger ones.
    pub merged_total: IntCounter,
    /// Rounds that RocketMQ or the archive stopped.
    pub failures_total: IntCounter,
    /// Of these, those that the archive stopped.
    pub store_failures_total: IntCounter,
    /// Rows that were added to the index.
    pub index_rows_total: IntCounter,
    /// Rounds of the indexer that RocketMQ, the archive or the index's disk stopped.
    pub index_failures_total: IntCounter,
    /// Since when the index lacks something; absent while another process writes it.
    pub index_age_seconds: IfKnown,
}

impl ArchiveMetrics {
    pub(super) fn new(register: &Register) -> Result<Self, prometheus::Error> {
        let left_out = register.process_counters(
            "roombridge_archive_left_out_total",
            "Messages that the archive leaves out by its settings, by kind",
            &["reason"],
        )?;
        let lost = register.process_counters(
            "roombridge_archive_lost_total",
            "Messages that RocketMQ no longer had when they were to be archived, by cause",
            &["cause"],
        )?;
        Ok(Self {
            archived_total: register
                .process_counter("roombridge_archived_total", "Messages written to the archive")?,
            left_out: ByMember::new(&left_out, Kind::ALL, |kind| vec![kind.to_string()])?,
            lost: ByMember::new(&lost, LostCause::ALL, |cause| vec![cause.to_string()])?,
            rocketmq_keeps_seconds: register.seconds_gauge(
                "roombridge_archive_rocketmq_keeps_seconds",
                "How long RocketMQ keeps a message by its settings",
            )?,
            headroom_seconds: register.gauge_if_known(
                "roombridge_archive_headroom_seconds",
                "How long until RocketMQ deletes something that is not archived",
            )?,
            position_age_seconds: register.gauge_if_known(
                "roombridge_archive_position_age_seconds",
                "How long ago the oldest message that waits to be archived was stored",
            )?,
            withheld_messages: register.gauge_if_known(
                "roombridge_archive_withheld_messages",
                "Messages that are not archived because RocketMQ hands them out to nobody",
            )?,
            pieces_total: register
                .process_counter("roombridge_archive_pieces_total", "Pieces written to the archive")?,
            bytes_total: register
                .process_counter("roombridge_archive_bytes_total", "Bytes of these pieces")?,
            merged_total: register.process_counter(
                "roombridge_archive_merged_total",
                "Pieces that were joined with others of their day",
            )?,
            failures_total: register.process_counter(
                "roombridge_archive_failures_total",
                "Rounds of the archiver that RocketMQ or the archive stopped",
            )?,
            store_failures_total: register.process_counter(
                "roombridge_archive_store_failures_total",
                "Rounds of the archiver that the archive's folder or bucket stopped",
            )?,
            index_rows_total: register
                .process_counter("roombridge_index_rows_total", "Messages added to the archive's index")?,
            index_failures_total: register.process_counter(
                "roombridge_index_failures_total",
                "Rounds of the indexer that RocketMQ, the archive or the disk of the index stopped",
            )?,
            index_age_seconds: register.gauge_if_known(
                "roombridge_index_position_age_seconds",
                "How long ago the index had everything that RocketMQ and the archive had",
            )?,
        })
    }

    /// So many messages of that kind were left out.
    pub fn left_out(&self, kind: Kind, messages: u64) {
        self.left_out.add(kind, messages);
    }

    /// So many messages were gone.
    pub(crate) fn lost(&self, cause: LostCause, messages: u64) {
        self.lost.add(cause, messages);
    }
}
