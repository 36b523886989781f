//! Measures regularly how old the oldest message in the spool is.
//!
//! Reads on a connection of its own, so that no write waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Clock;
use crate::spool::{Overflow, SpoolInspection};
use crate::telemetry::Metrics;

const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Runs until aborted, or until a thread of the spool has died.
pub(crate) async fn watch(
    path: PathBuf,
    spool: Arc<dyn Overflow>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) {
    while !spool.has_died() {
        let oldest_ms = if spool.depth().messages == 0 { Some(None) } else { oldest_ms(path.clone()).await };
        let age = oldest_ms.map(|oldest_ms| {
            let age_ms = oldest_ms.map_or(0, |oldest_ms| clock.wall_ms().saturating_sub(oldest_ms));
            Duration::from_millis(age_ms).as_secs_f64()
        });
        metrics.spool_oldest_age_seconds.set(age);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `None` if the file cannot be read; `Some(None)` if there is no message.
async fn oldest_ms(path: PathBuf) -> Option<Option<u64>> {
    let read = tokio::task::spawn_blocking(move || SpoolInspection::read(&path)).await;
    let inspection = match read.ok()? {
        Ok(inspection) => inspection,
        Err(error) => {
            tracing::warn!(%error, "the age of the oldest message in the spool is not known");
            return None;
        }
    };
    let oldest = inspection.topics.iter().filter_map(|topic| topic.oldest_spooled_ms);
    Some(oldest.min())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Kind, ManualClock, OutgoingMessage, OutgoingProperties, WhenFull};
    use crate::spool::{SpoolMessage, SpoolSettings, SqliteSpool};

    const SERIES: &str = "roombridge_spool_oldest_age_seconds{direction=\"uplink\"}";
    const NOON_MS: u64 = 1_767_268_800_000;

    #[tokio::test]
    async fn the_age_of_the_oldest_message_is_told() {
        // Given a spool with a message of a minute ago
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool.sqlite3");
        let clock = Arc::new(ManualClock::at(NOON_MS));
        let settings = SpoolSettings {
            path: path.clone(),
            max_bytes: 1 << 20,
            max_messages: 10,
            topic_bytes: 0,
            max_age: None,
            when_full: WhenFull::Hold,
            min_free_bytes: 0,
        };
        let (spool, _) = SqliteSpool::open(settings, clock.clone()).unwrap();
        let message =
            OutgoingMessage { properties: OutgoingProperties::default(), body: Bytes::from_static(b"hi") };
        let spooled = SpoolMessage { slot: 0, kind: Kind::Message, message };
        spool.append("room".into(), vec![spooled], 0, false).await.unwrap();
        clock.advance(Duration::from_secs(60));

        // When somebody looks
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let spool: Arc<dyn Overflow> = Arc::new(spool);
        let watch = || tokio::spawn(watch(path.clone(), spool.clone(), clock.clone(), metrics.clone()));
        let watching = watch();

        // Then its age is shown
        tokio::time::timeout(Duration::from_secs(10), async {
            while !metrics.render().contains(&format!("{SERIES} 60\n")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
        watching.abort();

        // And where the file cannot be read, nothing is, instead of 0 or the last age
        std::fs::write(&path, "no database at all").unwrap();
        let watching = watch();
        tokio::time::timeout(Duration::from_secs(10), async {
            while metrics.render().contains(SERIES) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
        watching.abort();
    }
}
