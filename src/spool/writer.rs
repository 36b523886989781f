//! The thread that writes. It gathers what is queued into one transaction, so that one fsync serves many requests.
//!
//! Promises: an answer comes after the commit. When one request hits a limit, the others of its group do not fail. Removals
//! for which there was no room are tried again with every group and every second.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;

use super::clock::SpoolClock;
use super::index::DiskRemoval;
use super::limits::Limits;
use super::requests::{Append, WriteRequest};
use super::shared::Shared;
use super::stage::Stage;
use super::{Appended, Row, SpoolError};
use crate::model::WhenFull;
use crate::storage::{self, StorageError};

/// A group is committed when it is this large, even if more is queued.
const GROUP_BYTES: u64 = 4 * 1024 * 1024;
const GROUP_REQUESTS: usize = 1024;
/// Removals in one transaction; a mass expiry is done in several.
const GROUP_REMOVALS: usize = 256;
const RETRY_REMOVALS: Duration = Duration::from_secs(1);
/// The file's clock is written with a commit, but not with every one.
const CLOCK_STEP_MS: i64 = 1000;

/// Called before each commit, so that a test can let it fail.
pub(super) type BeforeCommit = Box<dyn FnMut() -> Result<(), StorageError> + Send>;

pub(super) struct Writer {
    pub connection: Connection,
    pub path: PathBuf,
    pub shared: Arc<Shared>,
    pub limits: Limits,
    pub clock: SpoolClock,
    pub before_commit: Option<BeforeCommit>,
    /// Removals that are not in the file yet.
    pub pending: Vec<DiskRemoval>,
    pub clock_written_ms: i64,
    /// The last commit found no room in the file, or was kept waiting by another process.
    pub file_is_full: bool,
}

type Answers = Vec<Result<Appended, SpoolError>>;

impl Writer {
    /// Ends when every handle is gone.
    pub(super) fn run(mut self, requests: &Receiver<WriteRequest>) {
        loop {
            let first = match self.wait(requests) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.serve(first, requests);
        }
        self.end();
    }

    fn wait(&self, requests: &Receiver<WriteRequest>) -> Result<WriteRequest, RecvTimeoutError> {
        if self.pending.is_empty() {
            return requests.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        requests.recv_timeout(RETRY_REMOVALS)
    }

    fn serve(&mut self, first: Option<WriteRequest>, requests: &Receiver<WriteRequest>) {
        let mut appends = Vec::new();
        let mut removed = Vec::new();
        let mut asked = Vec::new();
        let mut bytes = 0;
        let mut next = first;
        while let Some(request) = next {
            match request {
                WriteRequest::Append(append) => {
                    bytes += append.bytes;
                    appends.push(append);
                }
                WriteRequest::Remove { topic, rows, reply, .. } => {
                    self.pending.extend(self.shared.index().remove(&topic, rows));
                    removed.push(reply);
                }
                WriteRequest::Room { reply, .. } => asked.push(reply),
                WriteRequest::Discard(removal) => self.pending.push(removal),
            }
            let full = bytes >= GROUP_BYTES
                || appends.len() + removed.len() + asked.len() >= GROUP_REQUESTS
                || self.pending.len() >= GROUP_REMOVALS;
            next = if full { None } else { requests.try_recv().ok() };
        }
        self.commit_group(appends);
        for reply in removed {
            // Also when it found no room, or the spool is poisoned: the rows are needed no more.
            let _ = reply.send(Ok(()));
        }
        for reply in asked {
            let _ = reply.send(self.room());
        }
        self.checkpoint();
    }

    fn room(&mut self) -> Result<(), SpoolError> {
        if self.shared.poisoned().is_some() {
            return Err(self.refusal());
        }
        if self.file_is_full {
            self.commit(&[], 0).map_err(|error| match error {
                StorageError::Full(reason) | StorageError::Busy(reason) => SpoolError::Full(reason),
                StorageError::Io(_) | StorageError::Corrupt(_) => self.poison(&error),
            })?;
        }
        let reason = self.limits.why_no_room(self.shared.index().depth());
        reason.map_or(Ok(()), |reason| Err(SpoolError::Full(reason)))
    }

    fn commit_group(&mut self, appends: Vec<Append>) {
        if self.shared.poisoned().is_some() {
            self.pending.clear();
            return answer_all(appends, &self.refusal());
        }
        match self.commit(&appends, 0) {
            Ok(answers) => answer(appends, answers),
            Err(StorageError::Full(_)) => self.commit_one_by_one(appends),
            // It was waited for long enough; the others of the group would wait as long, one after the other.
            Err(StorageError::Busy(reason)) => answer_all(appends, &SpoolError::Full(reason)),
            Err(error @ (StorageError::Io(_) | StorageError::Corrupt(_))) => {
                self.poison(&error);
                answer_all(appends, &self.refusal());
            }
        }
    }

    fn refusal(&self) -> SpoolError {
        SpoolError::Poisoned(self.shared.poisoned().unwrap_or("not known").to_owned())
    }

    /// Commits the removals first, because they make room, and then each append by itself, so that only those fail that do not
    /// fit.
    fn commit_one_by_one(&mut self, appends: Vec<Append>) {
        if !self.pending.is_empty() {
            // An error comes again with the appends below, and is handled there.
            let _ = self.commit(&[], 0);
        }
        for append in appends {
            let one = std::slice::from_ref(&append);
            let mut result = self.commit_without_removals(one, 0);
            if matches!(result, Err(StorageError::Full(_))) && self.limits.when_full() == WhenFull::DropOldest
            {
                result = self.commit_without_removals(one, append.bytes.saturating_mul(2));
            }
            let answer = match result {
                Ok(mut answers) => answers.pop().unwrap_or_else(|| Ok(Appended::default())),
                Err(StorageError::Full(_)) if self.limits.when_full() == WhenFull::DropNewest => {
                    Ok(Appended { rows: vec![Row::Dropped; append.messages.len()], dropped_oldest: 0 })
                }
                Err(StorageError::Full(reason) | StorageError::Busy(reason)) => Err(SpoolError::Full(reason)),
                Err(error @ (StorageError::Io(_) | StorageError::Corrupt(_))) => Err(self.poison(&error)),
            };
            let _ = append.reply.send(answer);
        }
    }

    fn commit_without_removals(
        &mut self,
        appends: &[Append],
        free_bytes: u64,
    ) -> Result<Answers, StorageError> {
        if let Some(reason) = self.shared.poisoned() {
            return Err(StorageError::Io(reason.to_owned()));
        }
        let waiting = std::mem::take(&mut self.pending);
        let result = self.commit(appends, free_bytes);
        self.pending = waiting;
        result
    }

    /// Commits one transaction. `free_bytes`: so many bytes of the oldest rows are dropped first, because the file itself has no
    /// room.
    fn commit(&mut self, appends: &[Append], free_bytes: u64) -> Result<Answers, StorageError> {
        let result = self.commit_now(appends, free_bytes);
        self.file_is_full = matches!(result, Err(StorageError::Full(_) | StorageError::Busy(_)));
        result
    }

    fn commit_now(&mut self, appends: &[Append], free_bytes: u64) -> Result<Answers, StorageError> {
        let running_ms = self.clock.running_ms();
        let path = &self.path;
        let failed = |error: rusqlite::Error| StorageError::of(&error, path);
        let mut stage =
            Stage::begin(&mut self.connection, &self.shared, &self.limits, &self.clock).map_err(failed)?;
        stage.remove(&self.pending).map_err(failed)?;
        if free_bytes > 0 {
            stage.drop_oldest(0, free_bytes).map_err(failed)?;
        }
        let mut answers = Vec::with_capacity(appends.len());
        for append in appends {
            answers.push(stage.append(append).map_err(failed)?);
        }
        if stage.is_unchanged() && !self.file_is_full {
            return Ok(answers);
        }
        // Without anything else to write, this tells whether the file has room again.
        let write_clock = self.file_is_full || running_ms - self.clock_written_ms >= CLOCK_STEP_MS;
        if write_clock {
            stage.write_clock(running_ms).map_err(failed)?;
        }
        if let Some(before_commit) = &mut self.before_commit {
            before_commit()?;
        }
        let Some(dropped) = stage.commit().map_err(failed)? else {
            return Err(StorageError::Io("the disk answered too late".to_owned()));
        };
        if write_clock {
            self.clock_written_ms = running_ms;
        }
        self.pending.clear();
        report_dropped(&mut answers, dropped, free_bytes > 0);
        Ok(answers)
    }

    /// Runs after the answers are sent, so that no acknowledgement waits for it.
    fn checkpoint(&mut self) {
        if self.shared.poisoned().is_some() {
            return;
        }
        if let Err(error) = storage::checkpoint_if_due(&self.connection) {
            match StorageError::of(&error, &self.path) {
                // The write-ahead log keeps the rows, and the next checkpoint tries again.
                StorageError::Full(_) | StorageError::Busy(_) => {}
                error @ (StorageError::Io(_) | StorageError::Corrupt(_)) => {
                    self.poison(&error);
                }
            }
        }
    }

    fn poison(&mut self, error: &StorageError) -> SpoolError {
        self.pending.clear();
        self.shared.poison(&error.to_string())
    }

    fn end(mut self) {
        if self.shared.poisoned().is_some() {
            return;
        }
        // If this fails, the rows only seem a moment younger.
        let _ = self.commit(&[], 0);
        let running_ms = self.clock.running_ms();
        let _ = self.connection.execute("UPDATE spool_clock SET running_ms = ?1", [running_ms]);
    }
}

/// Rows that were dropped because the file had no room are reported by the append that they made room for.
fn report_dropped(answers: &mut Answers, dropped: u64, for_the_file: bool) {
    if let (true, Some(Ok(appended))) = (for_the_file, answers.last_mut()) {
        appended.dropped_oldest = dropped;
    }
}

fn answer(appends: Vec<Append>, answers: Answers) {
    for (append, answer) in appends.into_iter().zip(answers) {
        let _ = append.reply.send(answer);
    }
}

fn answer_all(appends: Vec<Append>, error: &SpoolError) {
    for append in appends {
        let _ = append.reply.send(Err(error.clone()));
    }
}
