//! Threads with a runtime each, beside the workers.
//!
//! The thread "messages": on it a message goes its whole way up, with the MQTT connection, the lanes and the connections to RocketMQ.
//! On a runtime with several workers each message wandered between them: at 1,000 messages a second the kernel switched threads 11
//! times for each, now twice. Here one task wakes the other without the kernel. It must never wait for a disk; whoever needs one has a
//! thread of its own.
//!
//! The thread "archive": archiver and indexer, with all threads that they start, get little of a processor while others want it. What
//! they do can wait for hours, and a message cannot. So nothing that others wait for may be held there.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// So much nicer than the process: it gets about a twentieth of what a thread of the usual priority gets beside it. With the lowest
/// priority a machine that is busy for days could let RocketMQ forget what is not archived.
const NICER: i32 = 13;

/// Ends, with all of its tasks, when it is dropped.
pub(super) struct OwnThread {
    handle: Handle,
    /// The thread waits until this is gone.
    _running: oneshot::Sender<()>,
}

impl OwnThread {
    pub(super) fn for_messages() -> io::Result<Self> {
        Self::start("messages", || ())
    }

    pub(super) fn for_the_archive() -> io::Result<Self> {
        Self::start("archive", give_way)
    }

    fn start(name: &str, begin: fn()) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, stopped) = oneshot::channel();
        let run = move || {
            begin();
            // No deadline: it runs as long as the bridge does.
            let _ = runtime.block_on(stopped);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { handle, _running: running })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.handle
    }

    /// Inside of `start`, tasks are spawned on this thread.
    pub(super) fn spawn_here<T>(&self, start: impl FnOnce() -> T) -> T {
        let _entered = self.handle.enter();
        start()
    }
}

/// For this thread, and those that it starts.
fn give_way() {
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::warn!(%error, "the archive could not be given a low priority; it works beside the messages as an equal");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lowest priority that there is.
    const LAST: i32 = 19;

    /// Of a thread, and of one that it starts.
    fn priorities_on(thread: &OwnThread) -> (i32, i32) {
        let here = || rustix::process::getpriority_process(None).unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        thread.runtime().spawn(async move {
            let started = tokio::task::spawn_blocking(here).await.unwrap();
            told.send((here(), started)).unwrap();
        });
        heard.recv().unwrap()
    }

    #[test]
    fn the_archive_gives_way_with_all_that_it_starts_and_messages_do_not() {
        let own = rustix::process::getpriority_process(None).unwrap();
        let given = (own + NICER).min(LAST);
        assert_eq!(priorities_on(&OwnThread::for_messages().unwrap()), (own, own));
        assert_eq!(priorities_on(&OwnThread::for_the_archive().unwrap()), (given, given));
    }
}
