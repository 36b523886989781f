//! Opens local SQLite files, and says what their errors mean.
//!
//! Promises: when a commit has answered, its data is on the disk (WAL, synchronous=FULL), unless the file asks for less; only the owner can read the file; an
//! error is one of four: no room, damaged, held by another program, or an I/O error after which the file is not trusted.
//! Must never: know what is stored.

mod disk;
mod error;
mod file;
mod set_aside;

pub(crate) use disk::{free_bytes, lives_in_memory};
pub(crate) use error::{OpenError, StorageError};
pub(crate) use file::{
    Durability, LocalFile, beside, checkpoint, checkpoint_if_due, open_to_salvage, remove, sync_log,
};
pub(crate) use set_aside::{finish_salvage, salvage_path, set_aside};
