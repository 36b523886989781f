//! The thread on which a message goes its whole way up: the MQTT connection, the lanes and the connections to RocketMQ.
//!
//! On a runtime with several workers each message wandered between them: at 1,000 messages a second the kernel switched threads 11
//! times for each, now twice. Here one task wakes the other without the kernel.
//!
//! Must never: wait for a disk. Whoever needs one has a thread of its own.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Ends, with all of its tasks, when it is dropped.
pub(super) struct MessageThread {
    handle: Handle,
    /// The thread waits until this is gone.
    _running: oneshot::Sender<()>,
}

impl MessageThread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, stopped) = oneshot::channel();
        let run = move || {
            // No deadline: it runs as long as the bridge does.
            let _ = runtime.block_on(stopped);
        };
        std::thread::Builder::new().name("messages".to_owned()).spawn(run)?;
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
