//! Opens a SQLite file, sets its pragmas, schema and mode, and moves its write-ahead log into it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{OpenError, StorageError};

/// How long a statement waits for another program that holds the file, for example an operator's `sqlite3`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A checkpoint is due when the write-ahead log has so many pages.
const CHECKPOINT_PAGES: i64 = 1000;
/// The write-ahead log is cut to this length when it begins anew.
const LOG_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// A file, and how to open it.
#[derive(Debug, Clone)]
pub(crate) struct LocalFile {
    /// Where the file is.
    pub path: PathBuf,
    /// SQL for the step from each schema version to the next, beginning with the empty file. `user_version` keeps the version.
    pub schema: &'static [&'static str],
    /// Size of a page; counts for a new file only.
    pub page_bytes: u32,
    /// Memory of each connection for pages.
    pub cache_kib: u32,
    /// The file never grows beyond so many pages; `None` = no bound.
    pub max_pages: Option<u32>,
    /// What a commit promises.
    pub durability: Durability,
}

/// When what was committed is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When the commit has answered (synchronous=FULL).
    Commit,
    /// With the next checkpoint or [`sync_log`] (synchronous=NORMAL). A power cut takes the newest commits away, and leaves the file
    /// whole.
    Checkpoint,
}

impl LocalFile {
    /// Opens the file for writing; creates it with mode 0600 if it is missing. Refuses a file of a newer version and leaves it
    /// unchanged.
    pub(crate) fn open(&self) -> Result<Connection, OpenError> {
        self.refuse_newer()?;
        self.make().map_err(|error| OpenError::Failed {
            path: self.path.clone(),
            error: StorageError::Io(error.to_string()),
        })?;
        let failed = |error: rusqlite::Error| self.failed(&error);
        let mut connection =
            Connection::open_with_flags(&self.path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
                .map_err(failed)?;
        self.configure(&connection).map_err(failed)?;
        let found = pragma(&connection, "user_version").map_err(failed)?;
        self.migrate(&mut connection, found).map_err(failed)?;
        Ok(connection)
    }

    /// Opens an existing file for reading only, even while another process writes to it.
    pub(crate) fn open_read_only(&self) -> Result<Connection, OpenError> {
        let open = || {
            let connection =
                Connection::open_with_flags(&self.path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "query_only", true)?;
            connection.pragma_update(None, "cache_size", -i64::from(self.cache_kib))?;
            keep_plans(&connection)?;
            let version = pragma(&connection, "user_version")?;
            Ok((connection, version))
        };
        let (connection, found) = open().map_err(|error| self.failed(&error))?;
        self.check_version(found)?;
        Ok(connection)
    }

    /// Checks the version before the file is opened for writing, because the pragmas of that can change the file.
    pub(crate) fn refuse_newer(&self) -> Result<(), OpenError> {
        if !self.path.exists() {
            return Ok(());
        }
        match self.open_read_only() {
            Err(newer @ OpenError::Newer { .. }) => Err(newer),
            // If the file cannot be read, opening it for writing gives the error.
            Ok(_) | Err(OpenError::Failed { .. }) => Ok(()),
        }
    }

    fn check_version(&self, found: i64) -> Result<(), OpenError> {
        let known = self.schema.len() as i64;
        if found > known {
            let path = self.path.clone();
            return Err(OpenError::Newer { path, found, known });
        }
        Ok(())
    }

    fn make(&self) -> io::Result<()> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
        // SQLite gives the log the mode of the file.
        file.set_permissions(Permissions::from_mode(0o600))
    }

    fn configure(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "page_size", self.page_bytes)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let synchronous = match self.durability {
            Durability::Commit => "FULL",
            Durability::Checkpoint => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // An automatic checkpoint would hide its errors, and would delay the answer of a commit.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES as i64)?;
        connection.pragma_update(None, "cache_size", -i64::from(self.cache_kib))?;
        keep_plans(connection)?;
        if let Some(pages) = self.max_pages {
            connection.pragma_update(None, "max_page_count", pages)?;
        }
        Ok(())
    }

    fn migrate(&self, connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
        let steps = self.schema.iter().enumerate().skip(found.max(0) as usize);
        for (version, step) in steps {
            let transaction = connection.transaction()?;
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", version as i64 + 1)?;
            transaction.commit()?;
        }
        Ok(())
    }

    fn failed(&self, error: &rusqlite::Error) -> OpenError {
        OpenError::Failed { path: self.path.clone(), error: StorageError::of(error, &self.path) }
    }
}

/// Without the second line SQLite 3.54 prepares a statement anew whenever the number behind its LIMIT changes.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

/// Opens a damaged file to read what is left, without changing its bytes.
pub(crate) fn open_to_salvage(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Without it SQLite refuses a file that is shorter than its header says.
    connection.pragma_update(None, "writable_schema", true)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Moves the whole write-ahead log into the file.
pub(crate) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Moves the write-ahead log into the file if it is long; does not wait for readers.
pub(crate) fn checkpoint_if_due(connection: &Connection) -> rusqlite::Result<()> {
    let counts = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
    let waiting = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], counts)?;
    if waiting < CHECKPOINT_PAGES {
        return Ok(());
    }
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// Returns when all commits of a file with [`Durability::Checkpoint`] are on the disk, without moving them.
pub(crate) fn sync_log(path: &Path) -> io::Result<()> {
    match File::open(beside(path, "-wal")) {
        Ok(log) => log.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    sync_folder(path)
}

/// The path with a suffix: one of SQLite's, `-wal` or `-shm`, or one of ours.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a file with its log; they may be missing.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes a rename in the folder of this file survive a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

fn flags(access: OpenFlags) -> OpenFlags {
    // Each connection stays on one thread at a time, so SQLite's own locks are not needed.
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    use rusqlite::StatementStatus;

    #[test]
    fn a_plan_is_kept_when_its_bounds_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = LocalFile {
            path: folder.path().join("rows.sqlite3"),
            schema: &["CREATE TABLE rows(position INTEGER PRIMARY KEY)"],
            page_bytes: 4096,
            cache_kib: 1024,
            max_pages: None,
            durability: Durability::Commit,
        };
        for connection in [file.open().unwrap(), file.open_read_only().unwrap()] {
            let mut statement = connection
                .prepare_cached("SELECT position FROM rows WHERE position >= ?1 AND position < ?2 LIMIT ?3")
                .unwrap();
            for row in 0..10 {
                let mut found = statement.query([row, row + 5, row + 3]).unwrap();
                assert!(found.next().unwrap().is_none());
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
