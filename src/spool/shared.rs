//! What the handle, the writer and the reader have in common.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::SpoolError;
use super::index::SpoolIndex;

/// Locks are taken in this order: `lending`, then `index`; the index never for longer than a look.
#[derive(Debug, Default)]
pub(super) struct Shared {
    lending: Mutex<()>,
    index: Mutex<SpoolIndex>,
    poisoned: OnceLock<String>,
    died: AtomicBool,
}

impl Shared {
    pub(super) fn new(index: SpoolIndex) -> Self {
        Self { index: Mutex::new(index), ..Self::default() }
    }

    /// Held while rows are chosen to be lent, or to be dropped, so that no row is both.
    pub(super) fn lending(&self) -> MutexGuard<'_, ()> {
        self.lending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, SpoolIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poisoned(&self) -> Option<&str> {
        self.poisoned.get().map(String::as_str)
    }

    /// Serves as a thread; if it dies, the spool is out of use, and only another process can mend that.
    pub(super) fn live(&self, serve: impl FnOnce()) {
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(serve)) {
            self.died.store(true, Ordering::Relaxed);
            // Without its words: the panic was logged where it happened.
            drop(panic);
            self.poison("its thread has died");
        }
    }

    pub(super) fn has_died(&self) -> bool {
        self.died.load(Ordering::Relaxed)
    }

    /// From now on nothing is taken in. The first reason stays.
    pub(super) fn poison(&self, reason: &str) -> SpoolError {
        if self.poisoned.set(reason.to_owned()).is_ok() {
            tracing::error!(
                reason,
                "the spool is out of use: it takes nothing more in, and the bridge still sends what is readable; \
                 check the disk, then restart"
            );
        }
        SpoolError::Poisoned(self.poisoned().unwrap_or(reason).to_owned())
    }
}
