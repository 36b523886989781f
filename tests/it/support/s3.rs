//! An S3 of its own for a test: moto, which answers a conditional put as S3 does.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::ports::{free_port, wait_until};
use super::process::Process;
use super::scratch::Scratch;

/// A program of `scripts/setup test`.
pub fn archive_tool(name: &str) -> PathBuf {
    let tool = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/archive-tools/bin").join(name);
    assert!(tool.exists(), "{} is missing; run scripts/setup test", tool.display());
    tool
}

pub struct S3 {
    port: u16,
    process: Process,
    scratch: Scratch,
}

impl S3 {
    /// With one bucket, `lessons`.
    pub fn start() -> S3 {
        let (scratch, port) = (Scratch::new("s3"), free_port());
        let process = spawn(&scratch, port);
        let s3 = S3 { port, process, scratch };
        s3.make_bucket();
        s3
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// It forgets everything.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn start_again(&mut self) {
        self.process = spawn(&self.scratch, self.port);
        self.make_bucket();
    }

    fn make_bucket(&self) {
        let url = format!("{}/lessons", self.endpoint());
        wait_until("the bucket is made", Duration::from_secs(60), || ureq::put(&url).send_empty().is_ok());
    }
}

fn spawn(scratch: &Scratch, port: u16) -> Process {
    let mut command = Command::new(archive_tool("moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    Process::spawn("moto", command, &scratch.join("moto.log"))
}
