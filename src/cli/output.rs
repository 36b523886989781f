//! Writes the commands' results to standard output, and everything else to standard error. No command writes there directly.
//!
//! Promises: neither stream can make a command panic. If the reader of standard output has gone, the command ends with 0; if
//! its disk is full, the command ends with 1 and one sentence. Text for standard error is written if possible, and never
//! ends or delays a command. A stream that is closed at the start (`>&-`) counts as /dev/null, as in the standard library.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::FAILED;
use crate::telemetry;

/// Standard output. Its errors are marked, because a broken pipe to a broker must not be taken for one of standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stdout;

#[derive(Debug, thiserror::Error)]
#[error("could not write to standard output: {0}")]
struct StdoutError(io::Error);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(stdout_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(stdout_error)
    }
}

/// Marks an error as one of standard output.
pub(crate) fn stdout_error(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), StdoutError(error))
}

/// Writes one line to standard output.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    let mut out = Stdout;
    out.write_all(format!("{text}\n").as_bytes())?;
    out.flush()
}

/// Writes one line for people to standard error; through the log if there is one, so that the lines stay in order.
pub(crate) fn aside(text: impl Display) {
    let _ = Aside.write_all(format!("{text}\n").as_bytes());
}

/// Standard error; a failed write is ignored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aside;

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !telemetry::write_beside_the_log(bytes) {
            let _ = io::stderr().write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard output is a terminal.
pub(crate) fn is_shown() -> bool {
    io::stdout().is_terminal()
}

/// Whether somebody reads standard error while it is written: it is a terminal.
pub(crate) fn is_read_at_once() -> bool {
    io::stderr().is_terminal()
}

/// A progress bar on stderr. It hides itself if stderr is no terminal, and ignores errors of the terminal.
pub(crate) fn progress_bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// The output of a command that changes something or checks something. Such a command goes on even if nobody reads its
/// output, and its exit code says how it ended.
#[derive(Debug, Default)]
pub(crate) struct Report {
    failed: Option<io::Error>,
}

impl Report {
    /// Writes one line; nothing if an earlier line failed.
    pub(crate) fn line(&mut self, text: impl Display) {
        if self.failed.is_none() {
            self.failed = line(text).err();
        }
    }

    /// Gives `code`, unless the output could not be written.
    ///
    /// # Errors
    /// The error of standard output; but `code` if only the reader has gone and `code` is a failure.
    pub(crate) fn end(self, code: ExitCode) -> anyhow::Result<ExitCode> {
        match self.failed {
            Some(error) if code == ExitCode::SUCCESS || !is_gone(&error) => Err(error.into()),
            _ => Ok(code),
        }
    }
}

/// The exit code of a command whose error came from standard output; `None` if it did not.
pub(crate) fn end_of_writing(error: &anyhow::Error) -> Option<ExitCode> {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let error = causes.find(|error| error.get_ref().is_some_and(|inner| inner.is::<StdoutError>()))?;
    if is_gone(error) {
        return Some(ExitCode::SUCCESS);
    }
    aside(format_args!("error: {error}"));
    Some(ExitCode::from(FAILED))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_by(error: anyhow::Error) -> Option<ExitCode> {
        end_of_writing(&error)
    }

    #[test]
    fn only_a_broken_pipe_of_standard_output_is_no_failure() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(ended_by(stdout_error(broken()).into()), Some(ExitCode::SUCCESS));
        let within = anyhow::Error::from(stdout_error(broken())).context("while it was shown");
        assert_eq!(ended_by(within), Some(ExitCode::SUCCESS));
        assert_eq!(ended_by(broken().into()), None, "that of a broker");
        let full = stdout_error(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(ended_by(full.into()), Some(ExitCode::from(FAILED)));
    }

    #[test]
    fn a_report_that_nobody_reads_leaves_the_exit_code_of_the_work() {
        let of = |kind: io::ErrorKind| Report { failed: Some(stdout_error(kind.into())) };
        let bad = ExitCode::from(FAILED);
        assert_eq!(of(io::ErrorKind::BrokenPipe).end(bad).unwrap(), bad);
        assert!(of(io::ErrorKind::BrokenPipe).end(ExitCode::SUCCESS).is_err());
        assert!(of(io::ErrorKind::StorageFull).end(bad).is_err());
        assert_eq!(Report::default().end(bad).unwrap(), bad);
    }
}
