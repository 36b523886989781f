//! A child process with a log file, the signals that tests send, and the promise that it ends with the test process.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with stdout and stderr in the file `log`.
    pub fn spawn(name: &str, command: Command, log: &Path) -> Process {
        let file = File::create(log).expect("a log file can be made");
        let copy = file.try_clone().expect("a log file can be shared");
        Process::spawn_speaking_to(name, command, log, file.into(), copy.into())
    }

    /// The same with other streams; `log` is what a test reads of them, if anything is.
    pub fn spawn_speaking_to(name: &str, command: Command, log: &Path, out: Stdio, error: Stdio) -> Process {
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL", "--"]);
        copy_call(&command, &mut tied);
        tied.stdin(Stdio::null()).stdout(out).stderr(error);
        let child = spawn_from_lasting_thread(tied)
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}; run scripts/setup test"));
        Process { name: name.to_owned(), child, log: log.to_owned(), exit: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit(Duration::from_secs(10));
    }

    /// SIGTERM; returns at once.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: the process keeps its connections and answers nothing.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill_process(Pid::from_child(&self.child), signal).expect("our own child takes signals");
        }
    }

    pub fn is_running(&mut self) -> bool {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("our own child can be waited for");
        }
        self.exit.is_none()
    }

    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        while self.is_running() {
            assert!(
                start.elapsed() < deadline,
                "{} did not end within {deadline:?}\n{}",
                self.name,
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.exit.expect("a process that no longer runs has an exit status")
    }

    /// Waits until `is_ready`; panics with the log when the process ends before, or the deadline is over.
    #[track_caller]
    pub fn wait_ready(&mut self, deadline: Duration, mut is_ready: impl FnMut(&Process) -> bool) {
        let start = Instant::now();
        while !is_ready(self) {
            let running = self.is_running();
            assert!(
                running,
                "{} ended ({:?}) before it was ready\n{}",
                self.name,
                self.exit,
                self.log_tail()
            );
            assert!(
                start.elapsed() < deadline,
                "{} not ready after {deadline:?}\n{}",
                self.name,
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(60)..];
        format!("the end of {}:\n{}", self.log.display(), tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not kill(), which may panic: a panic in a drop during a panic would hide the first one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end; panics when it takes longer than `deadline`.
#[track_caller]
pub fn run_to_end(command: Command, deadline: Duration) -> Output {
    run_to_end_speaking_to(command, deadline, Stdio::piped(), Stdio::piped())
}

/// The same with other streams, of which nothing is in the output then.
#[track_caller]
pub fn run_to_end_speaking_to(command: Command, deadline: Duration, out: Stdio, error: Stdio) -> Output {
    let mut limited = Command::new("timeout");
    limited.arg("--kill-after=5").arg(deadline.as_secs().max(1).to_string());
    copy_call(&command, &mut limited);
    let output =
        limited.stdin(Stdio::null()).stdout(out).stderr(error).output().expect("timeout(1) can be started");
    assert_ne!(output.status.code(), Some(124), "{command:?} did not end within {deadline:?}");
    output
}

/// Appends the program, arguments, environment and folder of `from` to a command that wraps it.
fn copy_call(from: &Command, wrapper: &mut Command) {
    wrapper.arg(from.get_program()).args(from.get_args());
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    if let Some(folder) = from.get_current_dir() {
        wrapper.current_dir(folder);
    }
}

type Request = (Command, Sender<io::Result<Child>>);

/// The kernel kills a child when the *thread* that started it ends (setpriv --pdeathsig), so that even a killed test
/// process leaves no broker behind. A test's own thread ends too early for the brokers that tests share.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        requests
    });
    let (reply, answer) = channel();
    spawner.send((command, reply)).expect("the spawner thread lives as long as the process");
    answer.recv().expect("the spawner thread answers each request")
}
