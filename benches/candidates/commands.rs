//! How each candidate is called.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::{Candidate, Program};
use crate::harness::process::run_to_end;
use crate::harness::scratch::Scratch;

/// The Makefile sets it to what it built of the commit that everything is compared with.
const BASELINE: &str = "BASELINE_ROOMBRIDGE";

impl Program {
    pub(super) fn command(&self) -> Command {
        match self.candidate {
            Candidate::Today | Candidate::Baseline => {
                let mut command = Command::new(roombridge(self.candidate));
                command.arg("run").arg("--config").arg(self.scratch.join("roombridge.toml"));
                command
            }
            Candidate::Lean => {
                let mut command = Command::new(std::env::current_exe().expect("a process knows its program"));
                command.args(["child", "lean", &self.mqtt_port.to_string(), &self.broker]);
                command.args([&self.topic, &self.queues.to_string()]);
                command
            }
            Candidate::Java => {
                let (home, class_path) = (self.scratch.path().display(), java_class_path());
                let mut command = Command::new("java");
                command.arg(format!("-Duser.home={home}")).arg(format!("-Djava.io.tmpdir={home}"));
                command.args(["-cp", class_path, "Bridge"]);
                command.arg(format!("tcp://127.0.0.1:{}", self.mqtt_port));
                command.args([&self.name_server, &self.topic]);
                command.env_remove("JAVA_TOOL_OPTIONS").env_remove("NAMESRV_ADDR");
                command
            }
        }
    }
}

/// The program of one of `BRIDGES`.
pub fn roombridge(candidate: Candidate) -> PathBuf {
    match candidate {
        Candidate::Baseline => baseline().expect("a candidate that is measured is here"),
        _ => PathBuf::from(env!("CARGO_BIN_EXE_roombridge")),
    }
}

pub fn baseline() -> Option<PathBuf> {
    let program = PathBuf::from(std::env::var_os(BASELINE).filter(|path| !path.is_empty())?);
    assert!(program.is_file(), "{BASELINE} is {}, where no program is", program.display());
    Some(program)
}

/// Compiles the Java bridge, once in a run.
fn java_class_path() -> &'static str {
    static COMPILED: OnceLock<(Scratch, String)> = OnceLock::new();
    let (_, class_path) = COMPILED.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (mqtt, rocketmq) = (root.join("target/java-bridge"), root.join("target/apache-rocketmq"));
        assert!(mqtt.join("complete").exists(), "{} is missing: run scripts/setup bench", mqtt.display());
        let classes = Scratch::new("java-bridge");
        let jars = format!("{}/lib/*:{}/lib/*", mqtt.display(), rocketmq.display());
        let mut command = Command::new("javac");
        command.args(["-nowarn", "-cp", &jars, "-d"]).arg(classes.path());
        command.arg(root.join("benches/java-bridge/Bridge.java"));
        let output = run_to_end(command, Duration::from_secs(120));
        assert!(output.status.success(), "javac: {}", String::from_utf8_lossy(&output.stderr));
        let class_path = format!("{}:{jars}", classes.path().display());
        (classes, class_path)
    });
    class_path
}
