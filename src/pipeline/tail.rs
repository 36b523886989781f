//! What this session stored last, read back at a start: the receipts whose PUBACK may not have reached the broker.

use std::time::Duration;

use super::delivery::Fingerprint;
use super::ledger::{Remembered, WINDOWS_READ};
use super::ports::{ReadError, Reader};
use super::retry::Retry;
use crate::binding::{self, read_back};
use crate::data_dir::SessionState;
use crate::model::{FailureKind, StoredMessage};
use crate::spool::{LaneKey, Overflow, SpoolError, SpoolMessage};
use crate::telemetry::Throttle;

const PAGE_MESSAGES: u32 = 256;
const MISSING_AFTER: Duration = Duration::from_secs(20);

/// A receipt of the session's last connection and the number of its PUBLISH there.
pub type Numbered = (u64, Remembered);

/// The last receive windows of the session's last connection. `topics`: those that were written to.
/// Asks until RocketMQ answers. `patience`: give up when nothing was read for so long; `None` = never, because without a
/// spool nothing could be acknowledged before that anyway.
pub async fn last_receipts(
    reader: &dyn Reader,
    topics: &[String],
    session: &SessionState,
    receive_maximum: u16,
    patience: Option<Duration>,
) -> Vec<Numbered> {
    if session.connection == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut answered = tokio::time::Instant::now();
    for topic in topics {
        let began = tokio::time::Instant::now();
        let mut retry = Retry::reconnect();
        let mut throttle = Throttle::default();
        loop {
            match of_topic(reader, topic, session, receive_maximum).await {
                Ok((receipts, away)) => {
                    if !away.is_empty() {
                        tracing::warn!(
                            topic,
                            brokers = away.join(", "),
                            "a RocketMQ broker is away, so what was stored there last is not known: messages that the MQTT \
                             broker delivers again may be shown twice"
                        );
                    }
                    answered = tokio::time::Instant::now();
                    break found.extend(receipts);
                }
                // The name server also forgets the topics of a broker that is away, thus not at the first answer.
                Err(ReadError { kind: FailureKind::TopicMissing, .. }) if began.elapsed() > MISSING_AFTER => {
                    tracing::warn!(
                        topic,
                        "the topic is gone, and with it what was stored last; copies may be shown"
                    );
                    break;
                }
                Err(_) if patience.is_some_and(|patience| answered.elapsed() > patience) => {
                    tracing::warn!(
                        "RocketMQ does not answer, so what was stored last is not known: the bridge goes on with its \
                         spool; messages that the MQTT broker delivers again may be shown twice"
                    );
                    return found;
                }
                Err(error) => {
                    if throttle.is_due() {
                        tracing::warn!(%error, "waiting for RocketMQ, to know what was stored last");
                    }
                }
            }
            tokio::time::sleep(retry.next_pause()).await;
        }
    }
    tracing::info!(receipts = found.len(), "read what the last process stored last");
    found
}

/// Both together, oldest first: of two that had one packet identifier the later one counts.
pub fn in_order(mut receipts: Vec<Numbered>) -> impl Iterator<Item = Remembered> {
    receipts.sort_by_key(|(sequence, _)| *sequence);
    receipts.into_iter().map(|(_, remembered)| remembered)
}

/// What the last process wrote to the spool last, on the session's last connection: its receipts may have been
/// acknowledged or not, like those of RocketMQ.
pub async fn last_in_the_spool(
    overflow: &dyn Overflow,
    session: &SessionState,
    receive_maximum: u16,
) -> Result<Vec<Numbered>, SpoolError> {
    let span = u64::from(receive_maximum) * WINDOWS_READ as u64;
    let mut lanes = Vec::new();
    for (lane, _) in overflow.lanes().await? {
        let newest = overflow.newest(lane.clone(), None, 1).await?;
        let last = newest.first().and_then(|(_, row)| remembered(&lane, row, session));
        lanes.extend(last.map(|(sequence, _)| (lane, sequence)));
    }
    let newest = lanes.iter().map(|(_, sequence)| *sequence).max().unwrap_or(0);
    let mut found = Vec::new();
    for (lane, _) in lanes {
        let mut before = None;
        loop {
            let page = overflow.newest(lane.clone(), before, PAGE_MESSAGES as usize).await?;
            let receipts: Vec<_> = page
                .iter()
                .map_while(|(_, row)| remembered(&lane, row, session))
                .take_while(|(sequence, _)| sequence + span > newest)
                .collect();
            let whole = receipts.len() == page.len();
            found.extend(receipts);
            before = page.last().map(|(row, _)| row.number);
            if page.is_empty() || !whole {
                break;
            }
        }
    }
    Ok(found)
}

fn remembered(lane: &LaneKey, row: &SpoolMessage, session: &SessionState) -> Option<Numbered> {
    of_session(&binding::stored_form(&lane.topic, &row.message), session)
}

/// The receipt of a message that came on the session's last connection, with its number there.
fn of_session(message: &StoredMessage, session: &SessionState) -> Option<Numbered> {
    let recorded = read_back(message);
    let ours = recorded.session.as_deref() == Some(session.stamp.as_str())
        && recorded.connection == Some(session.connection);
    let (id, packet_id) = (recorded.id?, recorded.packet_id?);
    let fingerprint = Fingerprint::of(&recorded.mqtt_topic, &recorded.payload);
    ours.then_some((recorded.sequence.unwrap_or(0), Remembered { packet_id, fingerprint, id }))
}

/// Also says which brokers of the topic are away.
async fn of_topic(
    reader: &dyn Reader,
    topic: &str,
    session: &SessionState,
    receive_maximum: u16,
) -> Result<(Vec<Numbered>, Vec<String>), ReadError> {
    let mut found = Vec::new();
    let away = reader.away(topic).await?;
    for queue in reader.queues(topic).await? {
        let (first, end) = reader.offsets(topic, &queue).await?;
        let mut next = first.max(end.saturating_sub(u64::from(receive_maximum) * WINDOWS_READ as u64));
        while next < end {
            let page = reader.pull(topic, &queue, None, next, PAGE_MESSAGES).await?;
            if !page.holds(next) {
                return Err(ReadError {
                    what: format!("topic {topic}, queue {queue} from offset {next} on"),
                    cause: "the queue was emptied, or old messages were deleted, while it was read"
                        .to_owned(),
                    kind: FailureKind::Unknown,
                });
            }
            if page.next_offset <= next {
                break;
            }
            next = page.next_offset;
            found.extend(page.messages.iter().filter_map(|message| of_session(message, session)));
        }
    }
    Ok((found, away))
}
