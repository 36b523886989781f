//! A library that is loaded into the bridge ahead of libc, so that fsync of some of its files fails or hangs when a test
//! says so.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::process::run_to_end;
use super::scratch::Scratch;

/// How long a hung fsync hangs at most; longer than the bridge waits for the disk of its spool.
pub const HANG_S: u32 = 40;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* TEST_FSYNC_OF: a part of the path; TEST_FSYNC_NOT_OF: a part that excludes, or nothing. */
static int is_meant(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    const char *of = getenv("TEST_FSYNC_OF"), *not_of = getenv("TEST_FSYNC_NOT_OF");
    if (of == NULL || strstr(path, of) == NULL) return 0;
    return not_of == NULL || *not_of == 0 || strstr(path, not_of) == NULL;
}

static int wanted(const char *name) {
    const char *file = getenv(name);
    return file != NULL && access(file, F_OK) == 0;
}

static int fails(int fd) {
    if (!is_meant(fd)) return 0;
    for (int i = 0; i < HANG_S * 50 && wanted("TEST_FSYNC_HANGS"); i++) usleep(20000);
    if (wanted("TEST_FSYNC_FAILS")) { errno = EIO; return 1; }
    return 0;
}

int fsync(int fd) { return fails(fd) ? -1 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return fails(fd) ? -1 : syscall(SYS_fdatasync, fd); }
"#;

/// Whose fsync has the fault.
#[derive(Debug, Clone)]
pub enum Files {
    Spool,
    /// In this data_dir, but for the SQLite files.
    DataDir(PathBuf),
    /// In this data_dir.
    All(PathBuf),
}

pub struct FsyncFault {
    scratch: Scratch,
    files: Files,
}

impl FsyncFault {
    /// `None` where there is no C compiler.
    pub fn compile(files: Files) -> Option<FsyncFault> {
        if let Err(error) = Command::new("cc").arg("--version").output() {
            println!("no C compiler: {error}");
            return None;
        }
        let scratch = Scratch::new("preload");
        let mut command = Command::new("cc");
        command
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .arg(scratch.join("fsync_fault.so"))
            .arg(format!("-DHANG_S={HANG_S}"))
            .arg(scratch.write("fsync_fault.c", SOURCE));
        let output = run_to_end(command, std::time::Duration::from_secs(60));
        assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        Some(FsyncFault { scratch, files })
    }

    /// For the process that is to have the fault.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        let (of, not_of) = match &self.files {
            Files::Spool => ("spool.sqlite3".to_owned(), ""),
            Files::DataDir(folder) => (folder.display().to_string(), ".sqlite3"),
            Files::All(folder) => (folder.display().to_string(), ""),
        };
        let path = |name: &str| self.scratch.join(name).display().to_string();
        [
            ("LD_PRELOAD", path("fsync_fault.so")),
            ("TEST_FSYNC_FAILS", path("fails")),
            ("TEST_FSYNC_HANGS", path("hangs")),
            ("TEST_FSYNC_OF", of),
            ("TEST_FSYNC_NOT_OF", not_of.to_owned()),
        ]
    }

    pub fn fail(&self) {
        self.scratch.write("fails", "");
    }

    /// Each fsync, from the next one on.
    pub fn hang(&self) {
        self.scratch.write("hangs", "");
    }

    /// One that hangs goes on, too.
    pub fn heal(&self) {
        for name in ["fails", "hangs"] {
            let file: PathBuf = self.scratch.join(name);
            if file.exists() {
                fs::remove_file(file).expect("a trigger can be removed");
            }
        }
    }
}
