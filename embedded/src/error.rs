//! Why an embedded broker cannot start. Every text says what happened, to what, and what to do.

use std::error::Error;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "port {port} on 127.0.0.1 is already in use, so the {what} cannot listen there: stop the other program, or choose another port with {flag} (0 takes a free one)"
    )]
    AddressInUse { what: &'static str, port: u16, flag: &'static str },
    #[error(
        "the {what} cannot listen on port {port} of 127.0.0.1 ({source}): choose another port with {flag} (0 takes a free one)"
    )]
    Bind { what: &'static str, port: u16, flag: &'static str, source: io::Error },
    #[error(
        "port {port} does not suit the RocketMQ broker, which also listens on the port two below and one above: choose a port from 3 to 65534 with --broker-port (0 takes a free one)"
    )]
    UnusableBrokerPort { port: u16 },
    #[error(
        "no free group of ports for the RocketMQ broker after {attempts} tries: choose one with --broker-port, with the port two below and one above free too"
    )]
    NoFreePorts { attempts: u32 },
    #[error("the data folder {} cannot be used ({source}): make it writable or choose another with --data", path.display())]
    DataFolder { path: PathBuf, source: io::Error },
    #[error(
        "the data folder {} is in use by another running process: stop that one or choose another folder with --data",
        path.display()
    )]
    DataFolderInUse { path: PathBuf },
    #[error(
        "the embedded MQTT broker did not start ({reason}): if its files are damaged, move the folder {} away",
        folder.display()
    )]
    MqttStart { folder: PathBuf, reason: String },
    #[error(
        "the embedded RocketMQ did not start ({reason}): it does not on a disk that is 90 % full; if its files are damaged, \
         move the folder {} away",
        folder.display()
    )]
    RocketMqStart { folder: PathBuf, reason: String },
    #[error(
        "the embedded {what} was not ready after {seconds} s: look at its warnings with RUST_LOG=warn and start again"
    )]
    NotReady { what: &'static str, seconds: u64 },
}

/// The error with its causes, because RocketMQ's own text is only a general one.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
