//! Logs to standard error, as text or JSON. Panics are logged, too.
//!
//! Promises: logging never stops or delays the work. The client libraries write thousands of lines while a broker is away,
//! so they are silent unless `ROOMBRIDGE_LOG` or `log.level` names them.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::log_writer::LogWriter;
use crate::config::{LogConfig, LogFormat};

const FILTER_VARIABLE: &str = "ROOMBRIDGE_LOG";

/// Libraries that are silent by default: they wrote six lines for each failing send, 69,000 in 40 s of an outage. Our own code
/// reports failures.
const QUIET: &[&str] = &[
    "rocketmq_transport=off",
    "rocketmq_client_rust=off",
    "rocketmq_runtime=off",
    "rocketmq_store=off",
    "rocketmq_store_local=off",
    "rocketmq_broker=off",
    "rocketmq_namesrv=off",
    "rocketmq_observability=off",
    "mqtt5=warn",
    // The embedded broker says itself, once, why a WebSocket is refused.
    "mqtt5::broker::websocket_server=off",
];

/// Why logging cannot start.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    #[error(
        "{source_name} = {filter:?} is no log filter: {problem}; write for example info,roombridge::mqtt=debug"
    )]
    Filter { source_name: &'static str, filter: String, problem: String },
    #[error("cannot start logging: {0}; this process has a logger already, call init once")]
    AlreadyStarted(String),
    #[error(
        "cannot start the thread that writes the log: {0}; the machine may be short of memory or threads"
    )]
    Thread(#[source] std::io::Error),
}

static LOG: OnceLock<LogWriter> = OnceLock::new();

/// How long the end of the process waits for a log that nobody reads.
const FLUSH: Duration = Duration::from_secs(1);

/// Starts logging for the whole process. The user's filter goes before `extra_directives`, and these before [`QUIET`].
pub(crate) fn init(config: &LogConfig, extra_directives: &[&str]) -> Result<(), LoggingError> {
    let variable = std::env::var(FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty());
    let filter = filter(config, variable, extra_directives)?;
    let writer = LogWriter::start(std::io::stderr()).map_err(LoggingError::Thread)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Otherwise it would report a failed write with a macro that panics.
        .log_internal_errors(false)
        .with_writer(writer.clone());
    let started = match config.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| LoggingError::AlreadyStarted(error.to_string()))?;
    let _ = LOG.set(writer);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Writes lines that are no log events to the log, in order with it; `false` if there is no log.
pub(crate) fn write_beside_the_log(lines: &[u8]) -> bool {
    let log = LOG.get();
    log.inspect(|log| log.push(lines)).is_some()
}

/// To be called before the process ends. Returns when all lines are written, or after a second if nobody reads them.
pub(crate) fn flush() {
    if let Some(log) = LOG.get() {
        log.flush(FLUSH);
    }
}

/// Logs a panic. The standard library would write it to standard error past the log, and would wait for a reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    tracing::error!(
        thread = thread.name(),
        location = panic.location().map(tracing::field::display),
        backtrace = %std::backtrace::Backtrace::capture(),
        "panic: {}; please report this",
        panic.payload_as_str().unwrap_or("without words")
    );
}

fn filter(config: &LogConfig, variable: Option<String>, extra: &[&str]) -> Result<EnvFilter, LoggingError> {
    let (source_name, wanted) = match variable {
        Some(filter) => (FILTER_VARIABLE, filter),
        None => ("log.level", config.level.clone()),
    };
    // Of two directives for one target, the later one counts.
    let mut directives: Vec<&str> = QUIET.to_vec();
    directives.extend(extra);
    directives.push(&wanted);
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| LoggingError::Filter {
        source_name,
        filter: wanted.clone(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(level: &str) -> LogConfig {
        LogConfig { level: level.to_owned(), format: LogFormat::Text }
    }

    fn text(level: &str, variable: Option<&str>, extra: &[&str]) -> Vec<String> {
        let filter = filter(&config(level), variable.map(str::to_owned), extra).unwrap();
        filter.to_string().split(',').map(str::to_owned).collect()
    }

    #[test]
    fn the_client_libraries_are_quiet_unless_they_are_named() {
        let usual = text("info", None, &[]);
        assert!(usual.contains(&"rocketmq_transport=off".to_owned()) && usual.contains(&"info".to_owned()));

        let named = text("info,rocketmq_transport=debug", None, &[]);
        assert!(named.contains(&"rocketmq_transport=debug".to_owned()), "{named:?}");
        assert!(!named.contains(&"rocketmq_transport=off".to_owned()), "{named:?}");
    }

    #[test]
    fn the_variable_wins_over_the_configuration_and_both_over_extra_directives() {
        let directives = text("info", Some("debug,mqtt5=trace"), &["mqtt5=error", "hyper=warn"]);
        for wanted in ["debug", "mqtt5=trace", "hyper=warn"] {
            assert!(directives.contains(&wanted.to_owned()), "{wanted} is missing in {directives:?}");
        }
        assert!(!directives.contains(&"info".to_owned()));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named_with_its_source() {
        let error = filter(&config("info"), Some("=x=y".to_owned()), &[]).unwrap_err().to_string();
        assert!(error.contains("ROOMBRIDGE_LOG") && error.contains("=x=y"), "{error}");
    }
}
