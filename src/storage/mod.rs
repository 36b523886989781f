//! The one way to open a local SQLite file, and what an error of it means.
//!
//! Promises: what a commit answered is on the disk (WAL, synchronous=FULL); the file is readable by its owner only; an
//! error is one of four: no room, not readable, held by another, or an I/O error after which nothing may be trusted.
//! Must never: know what is stored.

mod disk;
mod error;
mod file;
mod set_aside;

pub(crate) use disk::{free_bytes, lives_in_memory};
pub(crate) use error::{OpenError, StorageError};
pub(crate) use file::{LocalFile, beside, checkpoint, checkpoint_if_due, open_to_salvage, remove};
pub(crate) use set_aside::{finish_salvage, salvage_path, set_aside};
