//! One TCP connection to a name server or a broker: many requests in flight, each with a deadline.
//!
//! The connection's task owns the socket: it writes what callers have put into `unsent` since it ran last, reads answers, and looks
//! after the deadlines with one timer. So a request costs no task and no timer of its own, and requests that are made together leave
//! together: a system call for each would cost more than all the rest of a small batch.
//!
//! Promises: each call ends with its answer, at its deadline, or with the connection; a connection that failed takes no more
//! calls; the answer to a call that gave up is thrown away.
//! Must never: connect again, or send anything twice.
//!
//! Queue: requests in flight; their callers wait, so there are as many as there are callers, one for each lane, and one for each
//! queue that somebody reads. When the socket takes no more, their bytes wait in `unsent` until their deadline.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::frame::{Answer, Incoming, Request, head_of, take_frame};
use super::signature::Keys;
use crate::happy_eyeballs;
use crate::model::FailureKind;

/// What one read asks the kernel for.
const READ_BYTES: usize = 64 << 10;
/// A buffer that held a large answer is given back when it is empty.
const KEEP_BUFFER_BYTES: usize = 1 << 20;
/// Heads and bodies that leave in one system call; Linux takes 1,024.
const WRITE_AT_ONCE: usize = 64;

/// A request that got no answer.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    #[error("could not connect to {address}: {cause}")]
    Connect { address: Arc<str>, cause: Arc<str> },
    #[error("the connection to {address} ended: {cause}")]
    Ended { address: Arc<str>, cause: Arc<str> },
    #[error("{address} closed the connection without any answer: {cause}")]
    Unheard { address: Arc<str>, cause: Arc<str> },
    #[error("{address} did not answer within {} ms", waited.as_millis())]
    Timeout { address: Arc<str>, waited: Duration },
    #[error("a request cannot be written: {0}")]
    Unwritable(Arc<str>),
}

impl CallError {
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Connect { .. } | Self::Ended { .. } | Self::Unheard { .. } => FailureKind::Transport,
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::Unwritable(_) => FailureKind::MessageIllegal,
        }
    }

    /// Says something about the connection, and not about the request.
    pub(super) fn is_of_the_transport(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Ended { .. } | Self::Unheard { .. } | Self::Timeout { .. } => true,
            Self::Unwritable(_) => false,
        }
    }
}

/// Ends when it is dropped.
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    address: Arc<str>,
    keys: Option<Arc<Keys>>,
    state: Mutex<State>,
    /// Wakes the connection's task: bytes wait, or nobody needs the connection any more.
    wake: Notify,
    is_dropped: AtomicBool,
}

#[derive(Default)]
struct State {
    opaque: i32,
    pending: HashMap<i32, Pending>,
    /// What the connection's task has not written yet, in order.
    unsent: VecDeque<Bytes>,
    /// When the task's timer fires. It may fire for nothing; it is never later than the first deadline.
    timer: Option<Instant>,
    /// Whether any answer came.
    is_heard: bool,
    ended: Option<CallError>,
}

struct Pending {
    answer: oneshot::Sender<Result<Answer, CallError>>,
    deadline: Instant,
    waited: Duration,
}

impl Connection {
    /// Connects, and starts the task that reads. `address`: `host:port`.
    pub(super) async fn open(
        address: Arc<str>,
        keys: Option<Arc<Keys>>,
        limit: Duration,
    ) -> Result<Self, CallError> {
        let failed = |cause: &dyn ToString| CallError::Connect {
            address: address.clone(),
            cause: cause.to_string().into(),
        };
        let stream = happy_eyeballs::connect(&address, limit).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let shared = Arc::new(Shared {
            address,
            keys,
            state: Mutex::default(),
            wake: Notify::new(),
            is_dropped: AtomicBool::new(false),
        });
        tokio::spawn(shared.clone().run(stream));
        Ok(Self { shared })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.shared.lock().ended.is_some()
    }

    /// Sends the request and waits for its answer until the deadline.
    pub(super) async fn call(&self, request: Request<'_>, limit: Duration) -> Result<Answer, CallError> {
        let answer = self.shared.begin(request, limit)?;
        answer.await.unwrap_or_else(|_| Err(self.shared.ended_by("the connection's task ended")))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.is_dropped.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended_by(&self, cause: &str) -> CallError {
        CallError::Ended { address: self.address.clone(), cause: cause.into() }
    }

    /// Puts the request behind those that wait to be written.
    fn begin(
        &self,
        request: Request<'_>,
        limit: Duration,
    ) -> Result<oneshot::Receiver<Result<Answer, CallError>>, CallError> {
        let mut state = self.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let opaque = state.opaque;
        state.opaque = state.opaque.wrapping_add(1);
        let body = request.body.clone();
        let head = head_of(request, opaque, self.keys.as_deref())
            .map_err(|error| CallError::Unwritable(error.to_string().into()))?;
        let (sender, answer) = oneshot::channel();
        let deadline = Instant::now() + limit;
        state.pending.insert(opaque, Pending { answer: sender, deadline, waited: limit });
        state.timer = Some(state.timer.map_or(deadline, |timer| timer.min(deadline)));
        state.unsent.extend([Bytes::from(head), body]);
        self.wake.notify_one();
        Ok(answer)
    }

    /// The connection takes no more calls, and those in flight have failed.
    fn end(&self, state: &mut State, error: &CallError) {
        state.ended.get_or_insert_with(|| error.clone());
        state.unsent.clear();
        for (_, pending) in state.pending.drain() {
            let _ = pending.answer.send(Err(error.clone()));
        }
        self.wake.notify_one();
    }

    /// The connection's task. Ends with the connection; all its waits end when the connection is dropped.
    async fn run(self: Arc<Self>, stream: TcpStream) {
        let mut socket = Socket { stream, unsent: VecDeque::new(), received: BytesMut::new() };
        let mut timer = pin!(tokio::time::sleep_until(Instant::now()));
        let error = loop {
            let deadline = self.prepare(&mut socket.unsent);
            if self.is_dropped.load(Ordering::Acquire) || self.lock().ended.is_some() {
                break self.ended_by("it was closed");
            }
            if let Some(deadline) = deadline.filter(|deadline| *deadline != timer.deadline()) {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                error = poll_fn(|context| socket.poll_failure(context, &self)) => break self.failed(&error),
                () = &mut timer, if deadline.is_some() => {}
                () = self.wake.notified() => {}
            }
        };
        self.end(&mut self.lock(), &error);
    }

    /// What the failure of the socket means.
    fn failed(&self, error: &io::Error) -> CallError {
        let cause = error.to_string();
        if self.lock().is_heard {
            return self.ended_by(&cause);
        }
        CallError::Unheard { address: self.address.clone(), cause: cause.into() }
    }

    /// Ends the calls whose deadline is over, takes what waits to be written, and says when the next deadline is.
    fn prepare(&self, unsent: &mut VecDeque<Bytes>) -> Option<Instant> {
        let mut state = self.lock();
        let now = Instant::now();
        if state.timer.is_some_and(|timer| timer <= now) {
            for (_, late) in state.pending.extract_if(|_, pending| pending.deadline <= now) {
                let (address, waited) = (self.address.clone(), late.waited);
                let _ = late.answer.send(Err(CallError::Timeout { address, waited }));
            }
            // Until then it stays, also if its call has ended: to move it at each call would cost more than to fire for nothing.
            state.timer = state.pending.values().map(|pending| pending.deadline).min();
        }
        unsent.extend(state.unsent.drain(..).filter(|bytes| !bytes.is_empty()));
        state.timer
    }

    fn answered(&self, answers: Vec<(i32, Answer)>) {
        let mut state = self.lock();
        state.is_heard |= !answers.is_empty();
        for (opaque, answer) in answers {
            if let Some(pending) = state.pending.remove(&opaque) {
                let _ = pending.answer.send(Ok(answer));
            }
        }
    }
}

/// What the connection's task owns.
struct Socket {
    stream: TcpStream,
    /// Heads and bodies in order; none is empty.
    unsent: VecDeque<Bytes>,
    /// What was read and is no whole frame yet.
    received: BytesMut,
}

impl Socket {
    /// Writes what waits and reads what comes; ready only when the connection has failed. May be cancelled at any time.
    fn poll_failure(&mut self, context: &mut Context<'_>, shared: &Shared) -> Poll<io::Error> {
        if let Poll::Ready(Err(error)) = self.poll_write(context) {
            return Poll::Ready(error);
        }
        loop {
            self.received.reserve(READ_BYTES);
            let read = pin!(self.stream.read_buf(&mut self.received)).poll(context);
            let answers = match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(io::Error::other("the other side closed it")),
                Poll::Ready(Ok(_)) => take_answers(&mut self.received),
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return Poll::Pending,
            };
            match answers {
                Ok(answers) => shared.answered(answers),
                Err(error) => return Poll::Ready(error),
            }
            if self.received.is_empty() && self.received.capacity() > KEEP_BUFFER_BYTES {
                self.received = BytesMut::new();
            }
        }
    }

    /// Ready when all is written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_AT_ONCE];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(&self.unsent) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            match Pin::new(&mut self.stream).poll_write_vectored(context, slices) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => forget(&mut self.unsent, written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn take_answers(buffer: &mut BytesMut) -> io::Result<Vec<(i32, Answer)>> {
    let mut answers = Vec::new();
    while let Some(incoming) = take_frame(buffer).map_err(io::Error::other)? {
        if let Incoming::Answer(opaque, answer) = incoming {
            answers.push((opaque, answer));
        }
    }
    Ok(answers)
}

/// Takes so many bytes off the front.
fn forget(unsent: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = unsent.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        unsent.pop_front();
    }
}

#[cfg(test)]
mod tests;
