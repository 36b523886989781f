//! Writes the log to standard error in a thread of its own.
//!
//! Promises: logging neither waits nor fails. A line is left out and counted if there is no room for it, because nobody
//! reads, or if it cannot be written, because the disk is full or the reader has gone.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// So many lines wait for a reader that stops for a moment; about half a MiB.
const MAX_LINES: usize = 4096;

/// Lines that were left out since the last call of [`take_lost`].
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines were left out since the last call.
pub(super) fn take_lost() -> u64 {
    LOST.swap(0, Ordering::Relaxed)
}

/// Takes lines for the thread that writes them; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LogWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// Whether the thread is writing a line, which is no longer in `lines`.
    writing: bool,
}

impl LogWriter {
    /// Starts the thread, which ends with the process.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self(Arc::default());
        let shared = writer.0.clone();
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || shared.write_all_to(out))?;
        Ok(writer)
    }

    /// Adds one or more whole lines, or counts them as left out.
    pub(crate) fn push(&self, lines: &[u8]) {
        let mut waiting = self.0.waiting();
        if waiting.lines.len() >= MAX_LINES {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.lines.push_back(lines.to_vec());
        drop(waiting);
        self.0.changed.notify_all();
    }

    /// Returns when all lines are written, or after `patience` if nobody reads them.
    pub(crate) fn flush(&self, patience: Duration) {
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let waiting = self.0.waiting();
        let _ = self.0.changed.wait_timeout_while(waiting, patience, busy);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut out: impl Write) {
        loop {
            let line = self.next();
            if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting();
        waiting.writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.writing = true;
                return line;
            }
            self.changed.notify_all();
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A reader that takes a line only when the test lets it.
    struct Pipe {
        may_write: Receiver<io::Result<()>>,
        written: Sender<String>,
    }

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.may_write.recv().unwrap_or(Ok(()))?;
            let _ = self.written.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (LogWriter, Sender<io::Result<()>>, Receiver<String>) {
        let (let_write, may_write) = channel();
        let (written, lines) = channel();
        let writer = LogWriter::start(Pipe { may_write, written }).unwrap();
        (writer, let_write, lines)
    }

    /// One test, because the count is the process's.
    #[test]
    fn who_logs_never_waits_and_what_is_left_out_is_counted() {
        // given a reader that does not read
        let (writer, let_write, lines) = pipe();
        take_lost();

        // when far more is logged than there is room for, then nobody waits (else this test would not end), and the rest
        // is counted; the thread itself may hold one
        for number in 0..MAX_LINES + 101 {
            writer.push(format!("line {number}\n").as_bytes());
        }
        writer.flush(Duration::from_millis(1));
        assert!((100..=101).contains(&take_lost()));

        // and when somebody reads again, what had room comes, in order
        for _ in 0..=MAX_LINES {
            let_write.send(Ok(())).unwrap();
        }
        for number in 0..MAX_LINES {
            assert_eq!(lines.recv_timeout(SOON).unwrap(), format!("line {number}\n"));
        }
        writer.flush(SOON);

        // and a line that is not taken is counted, and the next one is written
        let (writer, let_write, lines) = pipe();
        take_lost();
        let_write.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        let_write.send(Ok(())).unwrap();
        writer.push(b"no room\n");
        writer.push(b"room\n");
        writer.flush(SOON);
        assert_eq!((lines.try_recv().unwrap().as_str(), take_lost()), ("room\n", 1));
    }
}
