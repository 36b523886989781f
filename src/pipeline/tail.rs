//! What this session stored last, read back at a start: the receipts whose PUBACK may not have reached the broker.

use std::time::Duration;

use super::ledger::{Fingerprint, Remembered, WINDOWS_READ};
use super::ports::{ReadError, Reader};
use super::retry::Retry;
use crate::binding::read_back;
use crate::data_dir::SessionState;
use crate::model::FailureKind;

const PAGE_MESSAGES: u32 = 256;
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(30);
const MISSING_AFTER: Duration = Duration::from_secs(20);

/// The last receive windows of the session's last connection, oldest first. `topics`: those that were written to.
/// Asks until RocketMQ answers, without a deadline: before it does, nothing could be stored or acknowledged anyway.
pub async fn last_receipts(
    reader: &dyn Reader,
    topics: &[String],
    session: &SessionState,
    receive_maximum: u16,
) -> Vec<Remembered> {
    if session.connection == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    for topic in topics {
        let began = tokio::time::Instant::now();
        let mut retry = Retry::reconnect();
        let mut logged: Option<tokio::time::Instant> = None;
        loop {
            match of_topic(reader, topic, session, receive_maximum).await {
                Ok(receipts) => break found.extend(receipts),
                // The name server also forgets the topics of a broker that is away, thus not at the first answer.
                Err(ReadError {
                    kind: FailureKind::TopicMissing,
                    ..
                }) if began.elapsed() > MISSING_AFTER => {
                    tracing::warn!(
                        topic,
                        "the topic is gone, and with it what was stored last; copies may be shown"
                    );
                    break;
                }
                Err(error) => {
                    if logged.is_none_or(|last| last.elapsed() > LOG_AGAIN_AFTER) {
                        tracing::warn!(%error, "waiting for RocketMQ, to know what was stored last");
                        logged = Some(tokio::time::Instant::now());
                    }
                }
            }
            tokio::time::sleep(retry.next_pause()).await;
        }
    }
    found.sort_by_key(|(sequence, _)| *sequence);
    tracing::info!(receipts = found.len(), "read what the last process stored last");
    found.into_iter().map(|(_, remembered)| remembered).collect()
}

async fn of_topic(
    reader: &dyn Reader,
    topic: &str,
    session: &SessionState,
    receive_maximum: u16,
) -> Result<Vec<(u64, Remembered)>, ReadError> {
    let mut found = Vec::new();
    for queue in reader.queues(topic).await? {
        let (first, end) = reader.offsets(topic, &queue).await?;
        let mut next = first.max(end.saturating_sub(u64::from(receive_maximum) * WINDOWS_READ as u64));
        while next < end {
            let page = reader.pull(topic, &queue, None, next, PAGE_MESSAGES).await?;
            if page.next_offset <= next {
                break;
            }
            next = page.next_offset;
            for message in &page.messages {
                let recorded = read_back(message);
                let ours = recorded.session.as_deref() == Some(session.stamp.as_str())
                    && recorded.connection == Some(session.connection);
                if let (true, Some(id), Some(packet_id)) = (ours, recorded.id, recorded.packet_id) {
                    let fingerprint = Fingerprint::of(&recorded.mqtt_topic, &recorded.payload);
                    let remembered = Remembered {
                        packet_id,
                        fingerprint,
                        id,
                    };
                    found.push((recorded.sequence.unwrap_or(0), remembered));
                }
            }
        }
    }
    Ok(found)
}
