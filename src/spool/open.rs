//! Opens the spool: the file, what its lanes count, and the two threads. A damaged file is salvaged first.
//!
//! Promises: a start reads the lanes and the ends of each, never all rows.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::Semaphore;

use super::clock::SpoolClock;
use super::handle::{QUEUE_KIB, QUEUED_READS, SqliteSpool};
use super::index::SpoolIndex;
use super::lane_table::read_lanes;
use super::limits::Limits;
use super::reader::Reader;
use super::salvage;
use super::schema::{self, position};
use super::shared::Shared;
use super::writer::{BeforeCommit, Writer};
use super::{Depth, OpenReport, SpoolOpenError, SpoolSettings};
use crate::model::Clock;
use crate::storage::{self, LocalFile, OpenError, StorageError};

/// An empty spool gives its space back at a start, if it has so much of it.
const SHRINK_PAGES: i64 = 16 * 1024;

struct Opened {
    connection: Connection,
    index: SpoolIndex,
    running_ms: i64,
}

impl SqliteSpool {
    /// Opens the spool, makes it if it is not there, salvages it if it is damaged.
    pub(crate) fn open(
        settings: SpoolSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, OpenReport), SpoolOpenError> {
        let file = schema::file(&settings);
        Self::open_file(&file, settings, clock, None)
    }

    pub(super) fn open_file(
        file: &LocalFile,
        settings: SpoolSettings,
        clock: Arc<dyn Clock>,
        before_commit: Option<BeforeCommit>,
    ) -> Result<(Self, OpenReport), SpoolOpenError> {
        storage::finish_salvage(&settings.path).map_err(|error| salvage::failed(&settings.path, &error))?;
        let mut salvaged = None;
        let opened = match open(file) {
            Err(OpenError::Failed { error: StorageError::Corrupt(reason), .. }) => {
                salvaged = Some(salvage::run(&settings.path, &reason)?);
                open(file)?
            }
            other => other?,
        };
        if storage::lives_in_memory(&settings.path) {
            tracing::warn!(
                path = %settings.path.display(),
                "the spool is on a file system in memory: the acknowledged messages in it are lost when the machine stops; \
                 set data_dir to a folder on a disk"
            );
        }
        let report = OpenReport { depth: opened.index.depth(), salvaged };
        let spool = start(settings, clock, opened, before_commit)?;
        Ok((spool, report))
    }
}

fn open(file: &LocalFile) -> Result<Opened, OpenError> {
    let failed = |error| OpenError::Failed { path: file.path.clone(), error };
    salvage::refuse_emptied(&file.path).map_err(failed)?;
    let connection = file.open()?;
    load(connection, file).map_err(|error| failed(StorageError::of(&error, &file.path)))
}

fn load(connection: Connection, file: &LocalFile) -> rusqlite::Result<Opened> {
    storage::checkpoint(&connection)?;
    let mut index = SpoolIndex::default();
    for (key, lane) in read_lanes(&connection)? {
        index.found(key, lane);
    }
    probe(&connection)?;
    let running_ms = connection.query_row("SELECT running_ms FROM spool_clock", [], |row| row.get(0))?;
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if index.depth() == Depth::default() && pages > SHRINK_PAGES {
        // Not worth a refusal: it works as well with a large file.
        if let Err(error) = connection.execute_batch("VACUUM") {
            tracing::warn!(path = %file.path.display(), %error, "the empty spool could not give its space back");
        }
    }
    Ok(Opened { connection, index, running_ms })
}

/// Looks at both ends of each lane, which finds a broken tree without a scan.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    let mut lanes = connection.prepare("SELECT lane FROM lanes WHERE messages > 0")?;
    let lanes = lanes.query_map([], |row| row.get::<_, i64>(0))?;
    for lane in lanes {
        let lane = lane?;
        for order in ["ASC", "DESC"] {
            connection
                .prepare_cached(&format!(
                    "SELECT crc FROM messages WHERE position BETWEEN ?1 AND ?2 ORDER BY position {order} LIMIT 1"
                ))?
                .query_row([position(lane, 0), position(lane, u64::MAX >> 1)], |_| Ok(()))
                .optional()?;
        }
    }
    Ok(())
}

fn start(
    settings: SpoolSettings,
    clock: Arc<dyn Clock>,
    opened: Opened,
    before_commit: Option<BeforeCommit>,
) -> Result<SqliteSpool, SpoolOpenError> {
    let shared = Arc::new(Shared::new(opened.index));
    let (requests, to_write) = mpsc::channel();
    let (reads, to_read) = mpsc::channel();
    let reader = Reader {
        connection: schema::file(&settings).open_read_only()?,
        path: settings.path.clone(),
        shared: shared.clone(),
        clock: SpoolClock::resume(clock.clone(), opened.running_ms),
        max_age: settings.max_age,
        writer: requests.clone(),
        next_slot: 0,
    };
    let writer = Writer {
        connection: opened.connection,
        path: settings.path.clone(),
        shared: shared.clone(),
        limits: Limits::new(settings),
        clock: SpoolClock::resume(clock, opened.running_ms),
        before_commit,
        pending: Vec::new(),
        clock_written_ms: opened.running_ms,
        file_is_full: false,
    };
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        let thread = thread::Builder::new().name(name.to_owned());
        let shared = shared.clone();
        thread.spawn(move || shared.live(run)).map_err(|error| SpoolOpenError::Thread(error.to_string()))
    };
    let threads = vec![
        spawn("spool-reader", Box::new(move || reader.run(&to_read)))?,
        spawn("spool-writer", Box::new(move || writer.run(&to_write)))?,
    ];
    Ok(SqliteSpool {
        requests,
        reads,
        queue: Arc::new(Semaphore::new(QUEUE_KIB as usize)),
        read_queue: Arc::new(Semaphore::new(QUEUED_READS)),
        shared,
        threads,
    })
}
