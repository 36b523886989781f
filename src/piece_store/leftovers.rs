//! What a process that was killed while it stored a piece leaves in a local folder.
//!
//! `object_store` writes a piece under its name, `#` and a number, and then gives it its name. It never lists such files and never
//! removes them.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{PieceStore, StoreError};

/// No upload takes so long.
const IS_LEFT_AFTER: Duration = Duration::from_secs(24 * 3600);

impl PieceStore {
    /// Removes such files when they are a day old, and says how many there were.
    pub(crate) async fn remove_leftovers(&self) -> Result<u64, StoreError> {
        let Some(folder) = self.folder.clone() else {
            return Ok(0);
        };
        let removing = tokio::task::spawn_blocking(move || remove_in(&folder, SystemTime::now())).await;
        let removed = removing.map_err(Error::other).flatten();
        removed.map_err(|error| self.problem("remove what a killed process left", &error.to_string()))
    }
}

pub(super) fn remove_in(folder: &Path, now: SystemTime) -> Result<u64, Error> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if kind.is_dir() {
            removed += remove_in(&entry.path(), now)?;
        } else if kind.is_file() && name.to_str().is_some_and(is_unfinished) {
            let is_old =
                |modified: SystemTime| now.duration_since(modified).is_ok_and(|age| age >= IS_LEFT_AFTER);
            match entry.metadata().and_then(|metadata| metadata.modified()) {
                Ok(modified) if is_old(modified) => {
                    fs::remove_file(entry.path())?;
                    removed += 1;
                }
                Ok(_) => {}
                // It was finished just now.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

/// `NAME.jsonl.zst#7`, `NUMBER.json#7`
fn is_unfinished(name: &str) -> bool {
    let parts = name.rsplit_once('#');
    let is_ours = |name: &str| name.ends_with(".jsonl.zst") || name.ends_with(".json");
    parts.is_some_and(|(name, number)| is_ours(name) && number.parse::<u64>().is_ok())
}
