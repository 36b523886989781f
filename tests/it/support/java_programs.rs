//! One Java process that runs the small programs of tests/apache, one connection a call.
//!
//! Each program alone would take 2 seconds, most of them to start Java and to load Apache's client.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;

use super::java::{home, java};
use super::process::Process;

/// The largest topic of a fault row takes half a minute.
const DEADLINE: Duration = Duration::from_secs(120);
const MARK_OK: &str = "=ok\n";

/// What the program printed; panics with its stack trace when it failed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port())).expect("the Java programs listen");
    connection.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
    let call = json!({ "program": program, "arguments": arguments });
    writeln!(connection, "{call}").expect("the Java programs read");
    connection.shutdown(Shutdown::Write).expect("the call is whole");
    let mut output = String::new();
    let read = connection.read_to_string(&mut output);
    assert!(read.is_ok(), "{program} {arguments:?}: no end within {DEADLINE:?}: {read:?}");
    match output.strip_suffix(MARK_OK) {
        Some(output) => output.to_owned(),
        None => panic!("{program} {arguments:?}: {output}"),
    }
}

fn port() -> u16 {
    static PROCESS: OnceLock<(Process, u16)> = OnceLock::new();
    PROCESS
        .get_or_init(|| {
            let options = ["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
            let mut command = java(&options, home().path());
            command.arg("Programs");
            let mut process = Process::spawn("Programs", command, &home().join("programs.log"));
            process.wait_ready(DEADLINE, |process| port_in(&process.log_text()).is_some());
            let port = port_in(&process.log_text()).expect("it was there just now");
            (process, port)
        })
        .1
}

/// Nothing while the line is not whole.
fn port_in(log: &str) -> Option<u16> {
    log.split_inclusive('\n').find_map(|line| line.strip_prefix("port ")?.strip_suffix('\n')?.parse().ok())
}
