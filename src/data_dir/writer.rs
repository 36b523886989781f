//! The thread that writes the files, in the order in which the writes were asked for; of each file, only the newest content.
//!
//! Promises: the answer comes after the fsync; an older content never replaces a newer one; whoever waits gets an answer, even
//! if the write fails or the thread ends. To ask for a write never waits for the disk.
//! Bounds: for each file one content waits; a caller that no longer waits is removed when the same file is written again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::DataDirError;

/// Waits for the answer of the disk. The write happens even if nobody waits for it. It is no `BoxFuture`, because that is not
/// `Sync`, as the follower must be that holds one and reads its queues.
pub(crate) type Saving = Pin<Box<dyn Future<Output = Result<(), DataDirError>> + Send + Sync>>;

/// Waits for the write and then sets it to `None`. If there is none, it is never ready, so that `select!` can wait for it.
pub(crate) async fn answered(saving: &mut Option<Saving>) -> Result<(), DataDirError> {
    let answer = match saving {
        Some(saving) => saving.await,
        None => std::future::pending().await,
    };
    *saving = None;
    answer
}

/// Called before each write with the name of the file, so that a test can stop the disk.
pub(super) type BeforeWrite = Box<dyn FnMut(&str) + Send>;

/// The writes that the disk has not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritten {
    /// Names of their files; first the one that is being written.
    pub files: Vec<String>,
    /// For how long the oldest of them has waited.
    pub waits: Duration,
}

#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<FileWrite>,
    /// The file that is being written, and when its write was asked for.
    busy: Option<(String, Instant)>,
    closing: bool,
    ended: bool,
}

#[derive(Debug)]
struct FileWrite {
    name: String,
    bytes: Vec<u8>,
    asked: Instant,
    answers: Vec<oneshot::Sender<Result<(), Arc<io::Error>>>>,
}

impl Writer {
    /// Starts the thread, which holds `lock` as long as it writes.
    pub(crate) fn start(folder: &Path, lock: File, before_write: Option<BeforeWrite>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (work, to) = (shared.clone(), folder.to_owned());
        let thread = thread::Builder::new().name("data-dir".to_owned());
        let thread = thread.spawn(move || {
            run(&work, &to, before_write);
            drop(lock);
        })?;
        Ok(Self { folder: folder.to_owned(), shared, thread: Some(thread) })
    }

    pub(crate) fn save(&self, name: &str, bytes: Vec<u8>) -> Saving {
        let path = self.folder.join(name);
        let Some(answer) = self.shared.ask(name, bytes) else {
            return Box::pin(async { Err(DataDirError::WriterEnded { path }) });
        };
        Box::pin(async move {
            match answer.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(cause)) => Err(DataDirError::NotWritten { path, cause }),
                Err(_) => Err(DataDirError::WriterEnded { path }),
            }
        })
    }

    pub(crate) fn unwritten(&self) -> Option<Unwritten> {
        let state = self.shared.state();
        let busy = state.busy.iter().map(|(name, asked)| (name, *asked));
        let waiting = state.queue.iter().map(|write| (&write.name, write.asked));
        let all = || busy.clone().chain(waiting.clone());
        Some(Unwritten {
            waits: all().map(|(_, asked)| asked).min()?.elapsed(),
            files: all().map(|(name, _)| name.clone()).collect(),
        })
    }

    /// Returns when every write is answered.
    pub(crate) async fn idle(&self) {
        self.until(|state| state.ended || state.is_idle()).await;
    }

    /// Returns when the thread has ended. While the writer exists, only a panic ends it.
    pub(crate) async fn ended(&self) {
        self.until(|state| state.ended).await;
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let answered = self.shared.answered.notified();
            if reached(&self.shared.state()) {
                return;
            }
            answered.await;
        }
    }
}

impl Drop for Writer {
    /// The thread still does all writes; this waits for it only if it is idle, because a disk may never answer.
    fn drop(&mut self) {
        let is_idle = {
            let mut state = self.shared.state();
            state.closing = true;
            state.is_idle()
        };
        self.shared.asked.notify_all();
        if let Some(thread) = self.thread.take().filter(|_| is_idle) {
            let _ = thread.join();
        }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.busy.is_none() && self.queue.is_empty()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a write; `None` if the thread has ended.
    fn ask(&self, name: &str, bytes: Vec<u8>) -> Option<oneshot::Receiver<Result<(), Arc<io::Error>>>> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.state();
        if state.ended {
            return None;
        }
        match state.queue.iter_mut().find(|write| write.name == name) {
            Some(write) => {
                write.bytes = bytes;
                write.answers.retain(|answer| !answer.is_closed());
                write.answers.push(answer);
            }
            None => state.queue.push_back(FileWrite {
                name: name.to_owned(),
                bytes,
                asked: Instant::now(),
                answers: vec![answer],
            }),
        }
        drop(state);
        self.asked.notify_all();
        Some(answered)
    }

    /// Waits for the next write; `None` when the writer is closing and nothing is left.
    fn next(&self) -> Option<FileWrite> {
        let mut state = self.state();
        loop {
            if let Some(write) = state.queue.pop_front() {
                state.busy = Some((write.name.clone(), write.asked));
                return Some(write);
            }
            if state.closing {
                return None;
            }
            state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn answer(&self, write: FileWrite, result: io::Result<()>) {
        self.state().busy = None;
        let result = result.map_err(Arc::new);
        for answer in write.answers {
            let _ = answer.send(result.clone());
        }
        self.answered.notify_waiters();
    }
}

fn run(shared: &Shared, folder: &Path, mut before_write: Option<BeforeWrite>) {
    let _ending = Ending(shared);
    while let Some(write) = shared.next() {
        if let Some(before_write) = &mut before_write {
            before_write(&write.name);
        }
        let result = replace(folder, &write.name, &write.bytes);
        shared.answer(write, result);
    }
}

/// When the thread ends, even by a panic, everybody who waits gets an error.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        state.busy = None;
        state.queue.clear();
        drop(state);
        self.0.answered.notify_waiters();
    }
}

/// Replaces a file. When this returns, the new content is on the disk under its name; a crash before leaves the old content.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(name)).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
