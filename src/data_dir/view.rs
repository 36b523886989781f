//! Reads a data directory for commands, even while a bridge uses it.
//!
//! A write replaces the whole file at once, so reading needs no lock.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::KnownBrokers;

use super::{DataDirError, Positions, QueueTables, positions_file, read, version};

/// Names of the followers that keep positions.
const FOLLOWERS: [&str; 2] = ["downlink", "classroom"];

/// A data directory, for reading only.
#[derive(Debug, Clone)]
pub(crate) struct DataDirView {
    path: PathBuf,
}

impl DataDirView {
    /// The folder must exist, and hold no file of a newer version.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        fs::read_dir(path).map_err(|cause| DataDirError::Io { path: path.to_owned(), cause })?;
        version::check_all(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// `None` before the first start.
    pub(crate) fn origin_key(&self) -> Result<Option<Vec<u8>>, DataDirError> {
        read(&self.path, "origin-key.json", "origin key")
    }

    /// Empty before the first message was stored.
    pub(crate) fn queue_tables(&self) -> Result<QueueTables, DataDirError> {
        Ok(read(&self.path, "queues.json", "queue tables")?.unwrap_or_default())
    }
}

/// The brokers that the queue tables and the positions name; empty before the first start.
pub(crate) fn known_brokers(path: &Path) -> Result<KnownBrokers, DataDirError> {
    let mut known = KnownBrokers::new();
    let tables: QueueTables = read(path, "queues.json", "queue tables")?.unwrap_or_default();
    for (topic, table) in tables.topics {
        let brokers = table.queues().into_iter().map(|queue| queue.broker.to_string());
        known.entry(topic).or_default().extend(brokers);
    }
    for follower in FOLLOWERS {
        let positions: Option<Positions> = read(path, &positions_file(follower), "positions in RocketMQ")?;
        for (topic, queues) in positions.unwrap_or_default().topics {
            let brokers =
                queues.keys().filter_map(|queue| queue.rsplit_once('/')).map(|(broker, _)| broker.to_owned());
            known.entry(topic).or_default().extend(brokers);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::{DataDir, Position, TopicQueues};
    use crate::model::QueueName;

    #[test]
    fn a_held_folder_can_be_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::open(folder.path()).unwrap();
        let view = DataDirView::open(folder.path()).unwrap();
        assert_eq!(view.origin_key().unwrap(), None);
        let key = held.origin_key().unwrap();
        assert_eq!(view.origin_key().unwrap(), Some(key));
        assert_eq!(view.queue_tables().unwrap(), QueueTables::default());
    }

    #[tokio::test]
    async fn the_brokers_of_a_topic_are_those_that_were_written_to_or_followed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(known_brokers(&folder.path().join("absent")).unwrap().is_empty());
        let held = DataDir::open(folder.path()).unwrap();
        let queue = |broker: &str| QueueName { broker: broker.into(), id: 0 };
        let mut tables = QueueTables::default();
        let written = TopicQueues::first(vec![queue("a"), queue("b")]);
        tables.topics.insert("room".into(), written);
        held.save_queue_tables(&tables).await.unwrap();
        for (follower, topic) in [("downlink", "room"), ("classroom", "roomSend")] {
            let mut positions = Positions::default();
            let position = Position { offset: 1, last: None };
            positions.set(topic, &queue("c/d"), position);
            held.save_positions(follower, &positions).await.unwrap();
        }

        let brokers = |topic: &str| known_brokers(folder.path()).unwrap()[topic].clone();
        assert_eq!(Vec::from_iter(brokers("room")), ["a", "b", "c/d"]);
        assert_eq!(Vec::from_iter(brokers("roomSend")), ["c/d"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        let error = DataDirView::open(&absent).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("data_dir"), "{error}");
        assert!(!absent.exists());
    }
}
