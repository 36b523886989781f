//! The spool as the pipeline sees it: it sends requests to two threads and gets the answers as futures.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::reader::{ReadRequest, TakeLimits};
use super::requests::{Append, WriteRequest};
use super::row::row_bytes;
use super::shared::Shared;
use super::{Appended, Depth, LaneKey, Overflow, RowKey, SpoolError, SpoolMessage, Taken};

/// When the disk has not answered for so long, the spool is out of use.
const DEADLINE: Duration = Duration::from_secs(30);
/// When so much is in the queue of writes, the next append waits.
pub(super) const QUEUE_KIB: u32 = 32 * 1024;
pub(super) const QUEUED_READS: usize = 256;

/// The spool in a SQLite file. A future does nothing before it is polled; requests are served in the order of their first
/// poll. The futures need tokio's time, and must not run in a test that pauses it, because the threads do not pause.
pub(crate) struct SqliteSpool {
    pub(super) requests: Sender<WriteRequest>,
    pub(super) reads: Sender<ReadRequest>,
    pub(super) queue: Arc<Semaphore>,
    pub(super) read_queue: Arc<Semaphore>,
    pub(super) shared: Arc<Shared>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl SqliteSpool {
    /// Waits until all requests are served and the file is closed. Without this call, that happens soon after the drop.
    pub(crate) fn close(self) {
        let Self { requests, reads, threads, .. } = self;
        drop(requests);
        drop(reads);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// A place in a queue, by size. No queue is ever closed.
async fn place(queue: Arc<Semaphore>, size: u32) -> Result<OwnedSemaphorePermit, SpoolError> {
    let permit = queue.acquire_many_owned(size).await;
    permit.map_err(|_| SpoolError::Poisoned("its queue is closed".to_owned()))
}

/// The answer to a request that `send` puts into its queue, or the end of the spool.
async fn ask<T: Send>(
    shared: Arc<Shared>,
    request: impl Future<Output = Result<oneshot::Receiver<Result<T, SpoolError>>, SpoolError>> + Send,
) -> Result<T, SpoolError> {
    let answer = async {
        let answer = request.await?;
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(ended(&shared)),
        }
    };
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(shared.poison(&format!("the disk has not answered for {} s", DEADLINE.as_secs()))),
    }
}

fn ended(shared: &Shared) -> SpoolError {
    shared.poison("its thread has ended")
}

impl Overflow for SqliteSpool {
    fn append(
        &self,
        topic: Arc<str>,
        messages: Vec<SpoolMessage>,
        lent: usize,
        share_of_topic: bool,
    ) -> BoxFuture<'static, Result<Appended, SpoolError>> {
        let (queue, requests, shared) = (self.queue.clone(), self.requests.clone(), self.shared.clone());
        let request_shared = shared.clone();
        let request = async move {
            if messages.is_empty() {
                let (reply, answer) = oneshot::channel();
                let _ = reply.send(Ok(Appended::default()));
                return Ok(answer);
            }
            let bytes: u64 = messages.iter().map(|message| row_bytes(&message.message)).sum();
            let size = u32::try_from(bytes / 1024 + 1).map_or(QUEUE_KIB, |size| size.min(QUEUE_KIB));
            let place = place(queue, size).await?;
            if let Some(reason) = request_shared.poisoned() {
                return Err(SpoolError::Poisoned(reason.to_owned()));
            }
            let (reply, answer) = oneshot::channel();
            let append = Append { topic, messages, bytes, lent, share_of_topic, reply, _place: place };
            let sent = requests.send(WriteRequest::Append(append));
            sent.map_err(|_| ended(&request_shared))?;
            Ok(answer)
        };
        ask(shared, request).boxed()
    }

    fn take(
        &self,
        topic: Arc<str>,
        slots: Vec<u8>,
        max_messages: usize,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Taken, SpoolError>> {
        let (queue, reads, shared) = (self.read_queue.clone(), self.reads.clone(), self.shared.clone());
        let request_shared = shared.clone();
        let request = async move {
            let place = place(queue, 1).await?;
            let (reply, answer) = oneshot::channel();
            let read = ReadRequest::Take {
                topic,
                slots,
                limits: TakeLimits { messages: max_messages, bytes: max_bytes },
                reply,
                _place: place,
            };
            reads.send(read).map_err(|_| ended(&request_shared))?;
            Ok(answer)
        };
        async move { Ok(ask(shared, request).await?.arrive()) }.boxed()
    }

    fn remove(&self, topic: Arc<str>, rows: Vec<RowKey>) -> BoxFuture<'static, Result<(), SpoolError>> {
        let (queue, requests, shared) = (self.queue.clone(), self.requests.clone(), self.shared.clone());
        let request_shared = shared.clone();
        let request = async move {
            let size = u32::try_from(rows.len() / 64 + 1).map_or(QUEUE_KIB, |size| size.min(QUEUE_KIB));
            let place = place(queue, size).await?;
            let (reply, answer) = oneshot::channel();
            let remove = WriteRequest::Remove { topic, rows, reply, _place: place };
            requests.send(remove).map_err(|_| ended(&request_shared))?;
            Ok(answer)
        };
        ask(shared, request).boxed()
    }

    fn lanes(&self) -> BoxFuture<'static, Result<Vec<(LaneKey, Depth)>, SpoolError>> {
        let index = self.shared.index();
        let filled = index.lanes().filter(|(_, lane)| lane.depth.messages > 0);
        let lanes = filled.map(|(key, lane)| (key.clone(), lane.depth)).collect();
        futures::future::ready(Ok(lanes)).boxed()
    }

    fn newest(
        &self,
        lane: LaneKey,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<(RowKey, SpoolMessage)>, SpoolError>> {
        let (queue, reads, shared) = (self.read_queue.clone(), self.reads.clone(), self.shared.clone());
        let request_shared = shared.clone();
        let request = async move {
            let place = place(queue, 1).await?;
            let (reply, answer) = oneshot::channel();
            let read = ReadRequest::Newest { lane, before, limit, reply, _place: place };
            reads.send(read).map_err(|_| ended(&request_shared))?;
            Ok(answer)
        };
        ask(shared, request).boxed()
    }

    fn depth(&self) -> Depth {
        self.shared.index().depth()
    }

    fn room(&self) -> BoxFuture<'static, Result<(), SpoolError>> {
        let (queue, requests, shared) = (self.queue.clone(), self.requests.clone(), self.shared.clone());
        let request_shared = shared.clone();
        let request = async move {
            let _place = place(queue, 1).await?;
            let (reply, answer) = oneshot::channel();
            let room = WriteRequest::Room { reply, _place };
            requests.send(room).map_err(|_| ended(&request_shared))?;
            Ok(answer)
        };
        ask(shared, request).boxed()
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.poisoned().map(str::to_owned)
    }

    fn has_died(&self) -> bool {
        self.shared.has_died()
    }
}
