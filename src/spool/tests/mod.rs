//! Stories about the spool, and what they share: a folder, messages, a spool that is opened again and again.

mod damage;
mod full;
mod letters;
mod measure;
mod model;
mod order;
mod poisoned;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use super::{schema, writer::BeforeCommit};
use crate::model::{Kind, ManualClock, OutgoingMessage, OutgoingProperties, WhenFull};

pub(super) struct SpoolFolder {
    folder: TempDir,
    pub settings: SpoolSettings,
    pub clock: Arc<ManualClock>,
    /// The file's own limit, below what `max_bytes` asks for.
    pub max_pages: Option<u32>,
    pub before_commit: Option<BeforeCommit>,
}

impl SpoolFolder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = SpoolSettings {
            path: folder.path().join("spool.sqlite3"),
            max_bytes: 1 << 30,
            max_messages: 1_000_000,
            topic_bytes: 0,
            max_age: None,
            when_full: WhenFull::Hold,
            min_free_bytes: 0,
        };
        Self {
            folder,
            settings,
            clock: Arc::new(ManualClock::at(1_700_000_000_000)),
            max_pages: None,
            before_commit: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.settings.path
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn open(&mut self) -> SqliteSpool {
        self.open_with_report().0
    }

    pub(crate) fn open_with_report(&mut self) -> (SqliteSpool, OpenReport) {
        let mut file = schema::file(&self.settings);
        file.max_pages = self.max_pages.or(file.max_pages);
        let hook = self.before_commit.take();
        SqliteSpool::open_file(&file, self.settings.clone(), self.clock.clone(), hook).unwrap()
    }
}

pub(super) fn topic() -> Arc<str> {
    Arc::from("room")
}

pub(super) fn message(slot: u8, text: &str) -> SpoolMessage {
    let mut properties = OutgoingProperties::new(&format!("{slot} id-{text}"), &format!("message/{slot}"), 0);
    properties.push("mqttSecondTopic", &format!("/message/{slot}"));
    properties.push("quote\"\\\u{3}", "line\nend");
    SpoolMessage {
        slot,
        kind: Kind::Message,
        message: OutgoingMessage { properties, body: Bytes::copy_from_slice(text.as_bytes()) },
    }
}

pub(super) fn messages(slot: u8, numbers: std::ops::Range<u32>) -> Vec<SpoolMessage> {
    numbers.map(|number| message(slot, &format!("{number}"))).collect()
}

pub(super) fn texts(rows: &[(RowKey, SpoolMessage)]) -> Vec<String> {
    let text = |message: &SpoolMessage| String::from_utf8(message.message.body.to_vec()).unwrap();
    rows.iter().map(|(_, message)| text(message)).collect()
}

pub(super) fn keys(rows: &[(RowKey, SpoolMessage)]) -> Vec<RowKey> {
    rows.iter().map(|(key, _)| *key).collect()
}

impl SqliteSpool {
    async fn put(&self, messages: Vec<SpoolMessage>) -> Result<Appended, SpoolError> {
        self.append(topic(), messages, 0, false).await
    }

    async fn take_all(&self, slots: Vec<u8>) -> Taken {
        self.take(topic(), slots, 100_000, usize::MAX).await.unwrap()
    }
}

/// Waits for what another thread does.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 10 s: {what}");
}
