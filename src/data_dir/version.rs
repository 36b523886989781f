//! The version of the folder's JSON files, so that an older program refuses what a newer one wrote.
//!
//! Each file is an object with a field `version`; files of 0.1 have none and count as version 1.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::DataDirError;

/// Must grow when a program of the version before would misread or lose what is written now.
const VERSION: u64 = 1;

/// Refuses a file of a newer program.
pub(super) fn check(path: &Path, value: &Value) -> Result<(), DataDirError> {
    match value.get("version").and_then(Value::as_u64) {
        Some(found) if found > VERSION => {
            Err(DataDirError::Newer { path: path.to_owned(), found, known: VERSION })
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks all files before any is written. A file that is not JSON is left to the code that reads it.
pub(super) fn check_all(folder: &Path) -> Result<(), DataDirError> {
    let failed = |cause| DataDirError::Io { path: folder.to_owned(), cause };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = fs::read(&path).map_err(|cause| DataDirError::Io { path: path.clone(), cause })?;
        if let Ok(value) = serde_json::from_slice(&bytes) {
            check(&path, &value)?;
        }
    }
    Ok(())
}

/// The value with its version, as it is written. An array (the origin key) cannot hold a version.
pub(super) fn stamped<T: Serialize>(value: &T) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(value)?;
    if let Value::Object(fields) = &mut value {
        fields.entry("version").or_insert_with(|| VERSION.into());
    }
    Ok(value)
}
