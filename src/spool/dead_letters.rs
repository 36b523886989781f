//! The dead letters of this machine: messages that RocketMQ can never take, with everything that a new try needs.
//!
//! Promises: when `store` answers, the letter is on the disk. A second process may list, resend and purge at the same time. A
//! damaged file is set aside, and what is readable is kept.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use tokio::sync::Semaphore;

use super::{DeadLetterStore, Depth, SpoolError};
use crate::model::{DeadLetter, DeadReason};
use crate::storage::{self, Durability, LocalFile, OpenError, StorageError};

const SCHEMA: &[&str] = &["
    -- One row for each dead letter; numbers are never given again.
    CREATE TABLE letters(
        letter INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,               -- the message's id
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        mqtt_topic TEXT NOT NULL,
        rocketmq_topic TEXT NOT NULL,
        arrived_ms INTEGER NOT NULL,    -- wall time
        qos INTEGER NOT NULL,
        user_properties TEXT NOT NULL,  -- JSON: [[name, value], ...]
        bytes INTEGER NOT NULL,         -- what the letter counts for
        crc INTEGER NOT NULL,           -- CRC-32 of the payload
        payload BLOB NOT NULL);
    CREATE TABLE totals(only_row INTEGER PRIMARY KEY CHECK(only_row = 1), messages INTEGER NOT NULL, bytes INTEGER NOT NULL);
    INSERT INTO totals VALUES(1, 0, 0);
    "];

const COLUMNS: &str =
    "letter, id, reason, detail, mqtt_topic, rocketmq_topic, arrived_ms, qos, user_properties, crc, payload";

/// A letter with its number in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredLetter {
    /// Its number in the local store.
    pub number: u64,
    /// As it was stored.
    pub letter: DeadLetter,
    /// The payload is not what was written.
    pub damaged: bool,
}

/// The store; cheap to clone. All calls but [`DeadLetterStore::store`] block on the disk.
#[derive(Clone)]
pub(crate) struct LocalDeadLetters {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    max_bytes: u64,
    connection: Mutex<Connection>,
    /// One thread at a time writes, so that a disk that stands still does not take all threads for blocking work.
    storing: Arc<Semaphore>,
    poisoned: OnceLock<String>,
}

impl LocalDeadLetters {
    /// Opens the store, or makes it if it is not there. A damaged file is set aside, and what is readable is copied.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> Result<Self, OpenError> {
        storage::finish_salvage(path).map_err(|error| io_failed(path, &error))?;
        let connection = match open(path) {
            Err(OpenError::Failed { error: StorageError::Corrupt(reason), .. }) => {
                set_aside(path, &reason)?;
                open(path)?
            }
            other => other?,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                max_bytes,
                connection: Mutex::new(connection),
                storing: Arc::new(Semaphore::new(1)),
                poisoned: OnceLock::new(),
            }),
        })
    }

    /// Refuses a store of a newer version, and changes nothing. It is asked before another file is opened for writing.
    pub(crate) fn refuse_newer(path: &Path) -> Result<(), OpenError> {
        file(path).refuse_newer()
    }

    /// Number and bytes of the letters.
    #[cfg(test)]
    pub(crate) fn depth(&self) -> Result<Depth, SpoolError> {
        self.inner.run(|connection| totals(connection))
    }

    /// The letters with numbers above `after`, in order of their numbers.
    pub(crate) fn list(&self, limit: usize, after: Option<u64>) -> Result<Vec<StoredLetter>, SpoolError> {
        self.inner.run(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM letters WHERE letter > ?1 ORDER BY letter LIMIT ?2"
            ))?;
            let after = after.map_or(-1, |after| after as i64);
            let letters = statement.query_map(params![after, limit as i64], read)?;
            letters.collect()
        })
    }

    /// The letter of this message id; if there are several, the newest.
    pub(crate) fn get(&self, id: &str) -> Result<Option<StoredLetter>, SpoolError> {
        self.inner.run(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM letters WHERE id = ?1 ORDER BY letter DESC LIMIT 1"
            ))?;
            statement.query_row([id], read).optional()
        })
    }

    /// Deletes these letters; returns how many were there.
    pub(crate) fn remove(&self, numbers: &[u64]) -> Result<u64, SpoolError> {
        self.inner.run(|connection| {
            delete(connection, |transaction| {
                let mut deleted = Depth::default();
                for number in numbers {
                    let mut statement = transaction
                        .prepare_cached("DELETE FROM letters WHERE letter = ?1 RETURNING bytes")?;
                    let bytes = statement.query_row([*number as i64], |row| row.get::<_, i64>(0));
                    if let Some(bytes) = bytes.optional()? {
                        deleted.messages += 1;
                        deleted.bytes += bytes.max(0) as u64;
                    }
                }
                Ok(deleted)
            })
        })
    }

    /// Deletes the letters that arrived before this wall time, milliseconds since 1970-01-01 UTC; `None` = all.
    pub(crate) fn purge(&self, arrived_before_ms: Option<u64>) -> Result<u64, SpoolError> {
        let before = arrived_before_ms.map_or(i64::MAX, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
        self.inner.run(|connection| {
            delete(connection, |transaction| {
                let counted = transaction.query_row(
                    "SELECT count(*), coalesce(sum(bytes), 0) FROM letters WHERE arrived_ms < ?1",
                    [before],
                    |row| {
                        Ok(Depth {
                            messages: row.get::<_, i64>(0)?.max(0) as u64,
                            bytes: row.get::<_, i64>(1)?.max(0) as u64,
                        })
                    },
                )?;
                transaction.execute("DELETE FROM letters WHERE arrived_ms < ?1", [before])?;
                Ok(counted)
            })
        })
    }

    /// What [`DeadLetterStore::store`] does, on this thread.
    pub(crate) fn store_now(&self, letters: &[DeadLetter]) -> Result<(), SpoolError> {
        if let Some(reason) = self.inner.poisoned.get() {
            return Err(SpoolError::Poisoned(reason.clone()));
        }
        let bytes: u64 = letters.iter().map(letter_bytes).sum();
        let max_bytes = self.inner.max_bytes;
        let written = self.inner.run(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // A second process may have purged, so only the file knows.
            if totals(&transaction)?.bytes.saturating_add(bytes) > max_bytes {
                return Ok(false);
            }
            for letter in letters {
                insert(&transaction, letter)?;
            }
            count(&transaction, letters.len() as i64, bytes as i64)?;
            transaction.commit()?;
            Ok(true)
        })?;
        if written {
            return Ok(());
        }
        Err(SpoolError::Full(format!(
            "the dead letters have reached dead_letter.max_bytes = {max_bytes}; resend or purge some"
        )))
    }
}

impl Inner {
    /// After an I/O error of a write the store takes nothing more in; it can still be read.
    fn run<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, SpoolError> {
        let mut connection = self.connection();
        let done = work(&mut connection).and_then(|done| {
            storage::checkpoint_if_due(&connection)?;
            Ok(done)
        });
        done.map_err(|error| match StorageError::of(&error, &self.path) {
            StorageError::Full(reason) | StorageError::Busy(reason) => SpoolError::Full(reason),
            error @ (StorageError::Io(_) | StorageError::Corrupt(_)) => {
                let reason = self.poisoned.get_or_init(|| error.to_string());
                tracing::error!(path = %self.path.display(), %reason, "the local dead letters are out of use");
                SpoolError::Poisoned(reason.clone())
            }
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeadLetterStore for LocalDeadLetters {
    fn store(&self, letters: Vec<DeadLetter>) -> BoxFuture<'static, Result<(), SpoolError>> {
        let store = self.clone();
        async move {
            let ended = |reason: String| SpoolError::Poisoned(reason);
            let turn = store.inner.storing.clone().acquire_owned().await;
            let turn = turn.map_err(|error| ended(error.to_string()))?;
            let task = tokio::task::spawn_blocking(move || {
                let stored = store.store_now(&letters);
                drop(turn);
                stored
            });
            match task.await {
                Ok(stored) => stored,
                Err(died) => match died.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => Err(ended(error.to_string())),
                },
            }
        }
        .boxed()
    }
}

fn file(path: &Path) -> LocalFile {
    LocalFile {
        path: path.to_owned(),
        schema: SCHEMA,
        page_bytes: 4096,
        cache_kib: 1024,
        max_pages: None,
        durability: Durability::Commit,
    }
}

fn open(path: &Path) -> Result<Connection, OpenError> {
    let connection = file(path).open()?;
    let checked = storage::checkpoint(&connection).and_then(|()| totals(&connection));
    checked.map_err(|error| failed(path, &error))?;
    Ok(connection)
}

fn failed(path: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::Failed { path: path.to_owned(), error: StorageError::of(error, path) }
}

fn io_failed(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Failed { path: path.to_owned(), error: StorageError::Io(error.to_string()) }
}

/// Copies what is readable of a damaged file into a new one, which takes its place.
fn set_aside(path: &Path, reason: &str) -> Result<(), OpenError> {
    let new = storage::salvage_path(path);
    storage::remove(&new).map_err(|error| io_failed(path, &error))?;
    let copied = {
        let mut target = open(&new)?;
        let copied = copy(path, &mut target).map_err(|error| failed(&new, &error))?;
        storage::checkpoint(&target).map_err(|error| failed(&new, &error))?;
        copied
    };
    let kept = storage::set_aside(path).map_err(|error| io_failed(path, &error))?;
    tracing::error!(
        path = %path.display(), set_aside = %kept.display(), copied, reason,
        "the dead letters were damaged: what is readable is in a new file; keep the old one"
    );
    Ok(())
}

/// Copies letter by letter from both ends, because what lies between may not be readable.
fn copy(from: &Path, target: &mut Connection) -> rusqlite::Result<u64> {
    let Ok(old) = storage::open_to_salvage(from) else {
        return Ok(0);
    };
    let mut found = std::collections::BTreeMap::new();
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT letter FROM letters ORDER BY letter {order}");
        let Ok(mut statement) = old.prepare(&sql) else {
            continue;
        };
        let mut rows = statement.query([])?;
        while let Ok(Some(row)) = rows.next() {
            found.insert(row.get::<_, i64>(0)?, ());
        }
    }
    let transaction = target.transaction()?;
    let mut copied = 0;
    for number in found.into_keys() {
        let select = format!("SELECT {COLUMNS} FROM letters WHERE letter = ?1");
        let letter = old.prepare_cached(&select).and_then(|mut one| one.query_row([number], read));
        if let Ok(stored) = letter
            && !stored.damaged
        {
            insert(&transaction, &stored.letter)?;
            count(&transaction, 1, letter_bytes(&stored.letter) as i64)?;
            copied += 1;
        }
    }
    transaction.commit()?;
    Ok(copied)
}

fn letter_bytes(letter: &DeadLetter) -> u64 {
    const OVERHEAD_BYTES: usize = 128;
    let properties: usize =
        letter.user_properties.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let texts = letter.id.len() + letter.detail.len() + letter.mqtt_topic.len() + letter.rocketmq_topic.len();
    (letter.payload.len() + properties + texts + OVERHEAD_BYTES) as u64
}

fn totals(connection: &Connection) -> rusqlite::Result<Depth> {
    connection.query_row("SELECT messages, bytes FROM totals", [], |row| {
        Ok(Depth {
            messages: row.get::<_, i64>(0)?.max(0) as u64,
            bytes: row.get::<_, i64>(1)?.max(0) as u64,
        })
    })
}

fn count(connection: &Connection, messages: i64, bytes: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE totals SET messages = max(0, messages + ?1), bytes = max(0, bytes + ?2)")?
        .execute([messages, bytes])?;
    Ok(())
}

fn delete(
    connection: &mut Connection,
    work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<Depth>,
) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let deleted = work(&transaction)?;
    count(&transaction, -(deleted.messages as i64), -(deleted.bytes as i64))?;
    transaction.commit()?;
    Ok(deleted.messages)
}

fn insert(connection: &Connection, letter: &DeadLetter) -> rusqlite::Result<()> {
    let properties = serde_json::to_string(&letter.user_properties)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO letters(id, reason, detail, mqtt_topic, rocketmq_topic, arrived_ms, qos, user_properties, bytes,
                             crc, payload)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    statement.execute(params![
        letter.id,
        letter.reason.as_str(),
        letter.detail,
        letter.mqtt_topic,
        letter.rocketmq_topic,
        letter.arrived_ms as i64,
        letter.qos,
        properties,
        letter_bytes(letter) as i64,
        crc32fast::hash(&letter.payload),
        &letter.payload[..],
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredLetter> {
    let payload: Vec<u8> = row.get(10)?;
    let damaged = i64::from(crc32fast::hash(&payload)) != row.get::<_, i64>(9)?;
    let properties: String = row.get(8)?;
    let reason: String = row.get(2)?;
    let reason = DeadReason::from_name(&reason);
    Ok(StoredLetter {
        number: row.get::<_, i64>(0)? as u64,
        damaged,
        letter: DeadLetter {
            id: row.get(1)?,
            // A later version wrote a reason that this one does not know; the detail says it in words.
            reason: reason.unwrap_or(DeadReason::RefusedByRocketmq),
            detail: row.get(3)?,
            mqtt_topic: row.get(4)?,
            rocketmq_topic: row.get(5)?,
            arrived_ms: row.get::<_, i64>(6)?.max(0) as u64,
            qos: row.get(7)?,
            user_properties: serde_json::from_str(&properties).unwrap_or_default(),
            payload: Bytes::from(payload),
        },
    })
}
