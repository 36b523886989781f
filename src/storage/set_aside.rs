//! Replaces a damaged file by a new one with everything that was readable, and keeps the damaged one under another name.
//!
//! Promises: a crash at any moment leaves either the damaged file in its place, or the complete new one.
//!
//! The order of the renames guarantees it: the new file is complete before the damaged one is renamed. So if the place is
//! empty and a new file exists, only the last rename is missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{beside, remove, sync_folder};

/// Where the new file is written while the damaged one is in its place.
pub(crate) fn salvage_path(path: &Path) -> PathBuf {
    beside(path, ".salvage")
}

/// After a crash: does the missing last step of a salvage, or removes an unfinished one.
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

/// Puts the file at [`salvage_path`] in place; it must be complete, closed and on the disk. Returns where the damaged one is
/// kept, with its log.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let kept = (1..).map(|n| aside(path, n)).find(|kept| !kept.exists());
    let kept = kept.unwrap_or_else(|| aside(path, 0));
    sync_folder(path)?;
    fs::rename(path, &kept)?;
    move_into_place(path, &kept)?;
    Ok(kept)
}

/// The second half, after the damaged file was renamed: renames its log, too, and puts the new file in place.
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
