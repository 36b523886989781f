//! A library that is loaded into a process ahead of libc, so that the process stands still (SIGSTOP) at a named step of its work
//! with files, just there, until a test kills it or lets it go on. Its clock may be ahead, too.
//!
//! What is tried is the program as it is: it has no code for this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::process::{Process, run_to_end};
use super::scratch::Scratch;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int seen;

/* TEST_STEP: which of those that match, the call, when, and a pattern of the path: "2 linkat after *.zst". */
static int is_step(const char *call, const char *when, int fd, const char *path) {
    const char *step = getenv("TEST_STEP");
    char its_call[16], its_when[16], pattern[256], link[64], of_fd[4096];
    int number;
    if (step == NULL) return 0;
    if (sscanf(step, "%d %15s %15s %255s", &number, its_call, its_when, pattern) != 4) abort();
    if (strcmp(call, its_call) != 0 || strcmp(when, its_when) != 0) return 0;
    if (path == NULL) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, of_fd, sizeof of_fd - 1);
        if (length < 0) return 0;
        of_fd[length] = 0;
        path = of_fd;
    }
    return fnmatch(pattern, path, 0) == 0 && atomic_fetch_add(&seen, 1) + 1 == number;
}

/* To this very thread: it makes no other call before the process stands still. */
static void stop(void) { syscall(SYS_tgkill, getpid(), gettid(), SIGSTOP); }

static long with_stops(const char *call, int fd, const char *path, long number, long a, long b, long c, long d, long e) {
    if (is_step(call, "before", fd, path)) stop();
    long done = syscall(number, a, b, c, d, e);
    if (is_step(call, "after", fd, path)) stop();
    return done;
}

static int opened(int folder, const char *path, int flags, int mode) {
    if (!(flags & O_CREAT)) return syscall(SYS_openat, folder, path, flags, mode);
    return with_stops("create", -1, path, SYS_openat, folder, (long)path, flags, mode, 0);
}

static int mode_of(int flags, va_list rest) { return flags & O_CREAT ? va_arg(rest, int) : 0; }

#define OPEN(NAME)                                     \
    int NAME(const char *path, int flags, ...) {       \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        int mode = mode_of(flags, rest);               \
        va_end(rest);                                  \
        return opened(AT_FDCWD, path, flags, mode);    \
    }
OPEN(open)
OPEN(open64)

int linkat(int from_folder, const char *from, int folder, const char *path, int flags) {
    return with_stops("linkat", -1, path, SYS_linkat, from_folder, (long)from, folder, (long)path, flags);
}

int unlink(const char *path) { return with_stops("unlink", -1, path, SYS_unlinkat, AT_FDCWD, (long)path, 0, 0, 0); }

int fsync(int fd) { return with_stops("fsync", fd, NULL, SYS_fsync, fd, 0, 0, 0, 0); }

int fdatasync(int fd) { return with_stops("fsync", fd, NULL, SYS_fdatasync, fd, 0, 0, 0, 0); }

/* Half of it, which a caller has to understand. */
ssize_t write(int fd, const void *bytes, size_t length) {
    if (!is_step("write", "amid", fd, NULL)) return syscall(SYS_write, fd, bytes, length);
    ssize_t done = syscall(SYS_write, fd, bytes, length / 2);
    stop();
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    if (is_step("pwrite", "before", fd, NULL)) stop();
    if (!is_step("pwrite", "amid", fd, NULL)) return syscall(SYS_pwrite64, fd, bytes, length, at);
    ssize_t done = syscall(SYS_pwrite64, fd, bytes, length / 2, at);
    stop();
    return done;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    const char *ahead = getenv("TEST_CLOCK_AHEAD_S");
    if (!failed && clock == CLOCK_REALTIME && ahead != NULL) now->tv_sec += atol(ahead);
    return failed;
}
"#;

/// Once for all tests; the compiler is there, because SQLite is built with it.
fn library() -> &'static Path {
    static BUILT: OnceLock<(PathBuf, Scratch)> = OnceLock::new();
    let (library, _) = BUILT.get_or_init(|| {
        let scratch = Scratch::new("steps");
        let library = scratch.join("steps.so");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library);
        command.arg(scratch.write("steps.c", SOURCE));
        let output = run_to_end(command, Duration::from_secs(60));
        assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        (library, scratch)
    });
    library
}

/// A step of a process: its call, `before`, `after` or `amid` it, and a pattern of the path, as in `linkat after *.zst`.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What a reader sees.
    pub name: &'static str,
    pub at: &'static str,
}

/// For a process that is to stand still when it comes to the step for that time.
pub fn stop_at(step: Step, time: u32) -> Vec<(&'static str, String)> {
    vec![("LD_PRELOAD", library().display().to_string()), ("TEST_STEP", format!("{time} {}", step.at))]
}

/// For a process whose clock is ahead.
pub fn clock_ahead(by: Duration) -> Vec<(&'static str, String)> {
    vec![("LD_PRELOAD", library().display().to_string()), ("TEST_CLOCK_AHEAD_S", by.as_secs().to_string())]
}

/// For a process whose clock is behind.
pub fn clock_behind(by: Duration) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", library().display().to_string()),
        ("TEST_CLOCK_AHEAD_S", format!("-{}", by.as_secs())),
    ]
}

/// Whether all of the process stands still.
pub fn stands_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let states: Vec<String> =
        threads.map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default()).collect();
    let is_stopped = |stat: &String| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T "));
    !states.is_empty() && states.iter().all(is_stopped)
}

/// A step that is never reached tries nothing, so it fails the test.
#[track_caller]
pub fn wait_for_stop(process: &mut Process, step: Step, deadline: Duration) {
    let start = Instant::now();
    while !stands_still(process.pid()) {
        assert!(
            process.is_running() && start.elapsed() < deadline,
            "it never came to the step {}:\n{}",
            step.name,
            process.log_text()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}
