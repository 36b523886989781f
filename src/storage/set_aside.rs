//! A damaged file leaves its place to a new one that holds what was readable of it, and is kept.
//!
//! Promises: at each moment a crash leaves either the damaged file in its place, or the finished new one.
//!
//! The order of the renames is the proof: the new file is whole before the damaged one leaves its place, so a place that
//! is empty beside a new file says that only the last step is missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{beside, remove, sync_folder};

/// Where the new file is written while the damaged one is still in its place.
pub(crate) fn salvage_path(path: &Path) -> PathBuf {
    beside(path, ".salvage")
}

/// Does the last step of a salvage that was cut off, or throws an unfinished one away.
pub(crate) fn finish_salvage(path: &Path) -> io::Result<()> {
    let new = salvage_path(path);
    if !new.exists() {
        return Ok(());
    }
    if path.exists() {
        return remove(&new);
    }
    let kept = (1..).map(|n| aside(path, n)).take_while(|kept| kept.exists()).last();
    move_into_place(path, kept.as_deref().unwrap_or(&aside(path, 1)))
}

/// The file at [`salvage_path`] is whole, closed and on the disk: it takes the place. Returns where the damaged one is
/// kept, its log beside it.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let kept = (1..).map(|n| aside(path, n)).find(|kept| !kept.exists());
    let kept = kept.unwrap_or_else(|| aside(path, 0));
    sync_folder(path)?;
    fs::rename(path, &kept)?;
    move_into_place(path, &kept)?;
    Ok(kept)
}

/// The damaged file has left its place: its log follows it, and the new file comes.
fn move_into_place(path: &Path, kept: &Path) -> io::Result<()> {
    let log = beside(path, "-wal");
    if log.exists() {
        fs::rename(&log, beside(kept, "-wal"))?;
    }
    remove(path)?;
    fs::rename(salvage_path(path), path)?;
    sync_folder(path)
}

fn aside(path: &Path, n: u32) -> PathBuf {
    beside(path, &format!(".corrupt-{n}"))
}
