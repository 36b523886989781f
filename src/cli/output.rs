//! The one way from a command to standard output and standard error.
//!
//! Promises: nothing that becomes of either ends a command by a panic. What a command shows goes to standard output: a
//! reader that has gone ends it with 0, and a disk that is full with 1 and one sentence. What it says beside that goes to
//! standard error as far as it can, and never ends or delays anything.
//! A stream that is closed at the start (`>&-`) is /dev/null to the standard library, and so to us.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::FAILED;
use crate::telemetry;

/// Standard output. Its errors know that they are its own: a broken pipe to a broker is another matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stdout;

#[derive(Debug, thiserror::Error)]
#[error("could not write to standard output: {0}")]
struct StdoutError(io::Error);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(ours)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(ours)
    }
}

/// Marks an error as one of standard output.
pub(crate) fn ours(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), StdoutError(error))
}

/// One line for standard output.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    let mut out = Stdout;
    out.write_all(format!("{text}\n").as_bytes())?;
    out.flush()
}

/// One line beside the result, for people. Once there is a log it goes there, behind what was logged before it.
pub(crate) fn aside(text: impl Display) {
    let _ = Aside.write_all(format!("{text}\n").as_bytes());
}

/// Standard error, which takes what it can.
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

/// Hidden by itself where stderr is no terminal; what becomes of the terminal does not matter to it.
pub(crate) fn progress_bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// For a command that changes or finds out something: that goes on although nobody reads, and the exit code says how it
/// went.
#[derive(Debug, Default)]
pub(crate) struct Report {
    failed: Option<io::Error>,
}

impl Report {
    /// One line. After a failure nothing more is written.
    pub(crate) fn line(&mut self, text: impl Display) {
        if self.failed.is_none() {
            self.failed = line(text).err();
        }
    }

    /// `code`, unless the report could not be written.
    ///
    /// # Errors
    /// The one of standard output; none if its reader has gone and `code` says more than that.
    pub(crate) fn end(self, code: ExitCode) -> anyhow::Result<ExitCode> {
        match self.failed {
            Some(error) if code == ExitCode::SUCCESS || !is_gone(&error) => Err(error.into()),
            _ => Ok(code),
        }
    }
}

/// How a command ends that could not write to standard output; `None` if that was not its error.
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
        assert_eq!(ended_by(ours(broken()).into()), Some(ExitCode::SUCCESS));
        let within = anyhow::Error::from(ours(broken())).context("while it was shown");
        assert_eq!(ended_by(within), Some(ExitCode::SUCCESS));
        assert_eq!(ended_by(broken().into()), None, "that of a broker");
        let full = ours(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(ended_by(full.into()), Some(ExitCode::from(FAILED)));
    }

    #[test]
    fn a_report_that_nobody_reads_leaves_the_exit_code_of_the_work() {
        let of = |kind: io::ErrorKind| Report { failed: Some(ours(kind.into())) };
        let bad = ExitCode::from(FAILED);
        assert_eq!(of(io::ErrorKind::BrokenPipe).end(bad).unwrap(), bad);
        assert!(of(io::ErrorKind::BrokenPipe).end(ExitCode::SUCCESS).is_err());
        assert!(of(io::ErrorKind::StorageFull).end(bad).is_err());
        assert_eq!(Report::default().end(bad).unwrap(), bad);
    }
}
