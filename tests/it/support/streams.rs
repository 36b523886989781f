//! Standard output and standard error that do not take what is written.

use std::fs::File;
use std::io::{PipeReader, Write};
use std::process::Stdio;

/// A pipe whose reader has gone.
pub fn without_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    writer.into()
}

/// A pipe that is full already, and the reader that does not read.
pub fn unread() -> (Stdio, PipeReader) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
    // What fits is what Linux gives a pipe.
    writer.write_all(&[b'\n'; 64 << 10]).expect("a pipe takes 64 KiB");
    (writer.into(), reader)
}

/// A file on a disk that is full.
pub fn on_a_full_disk() -> Stdio {
    let full = File::options().write(true).open("/dev/full");
    full.expect("this system has /dev/full").into()
}
