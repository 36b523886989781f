//! How much one caller, and all callers together, may ask of the archive at once.
//!
//! Promises: what is too much is refused at once, with the time after which to try again; nothing waits here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ApiError;
use super::rights::CallerKey;

/// A request is seldom answered sooner.
const AGAIN_AFTER_S: u64 = 1;

/// Counts what runs. Only its callers are remembered, so there are never more than `of_all`.
#[derive(Debug)]
pub(super) struct Limits {
    of_caller: usize,
    of_all: usize,
    what: &'static str,
    running: Mutex<HashMap<CallerKey, usize>>,
}

/// Leave to be answered; until it is dropped it counts.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    key: CallerKey,
}

impl Limits {
    /// So many of one caller at once, and so many of all. `what`: for the answer to one too many.
    pub(super) fn new(of_caller: usize, of_all: usize, what: &'static str) -> Self {
        Self { of_caller, of_all, what, running: Mutex::default() }
    }

    /// Lets one in.
    pub(super) fn enter(self: &Arc<Self>, key: CallerKey) -> Result<Permit, ApiError> {
        let busy = |whose| {
            let what = format!("too many {} {whose} run at once", self.what);
            Err(ApiError::Busy { what, after_s: AGAIN_AFTER_S })
        };
        let mut running = self.lock();
        if running.values().sum::<usize>() >= self.of_all {
            return busy("of all callers");
        }
        let of_caller = running.entry(key).or_default();
        if *of_caller >= self.of_caller {
            return busy("with this token");
        }
        *of_caller += 1;
        Ok(Permit { limits: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CallerKey, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.limits.lock();
        if let Some(of_caller) = running.get_mut(&self.key) {
            *of_caller -= 1;
            if *of_caller == 0 {
                running.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(refused: &ApiError) -> String {
        refused.to_string()
    }

    #[test]
    fn a_caller_is_held_to_its_share_and_all_together_to_theirs() {
        let limits = Arc::new(Limits::new(4, 32, "requests"));
        let enter = |name: &str| limits.enter(CallerKey::of(name));
        let mut greedy: Vec<_> = (0..4).map(|_| enter("greedy").unwrap()).collect();
        assert!(status(&enter("greedy").unwrap_err()).contains("with this token"));
        // Others are not in its way
        let others: Vec<_> = (4..32).map(|number| enter(&number.to_string()).unwrap()).collect();
        assert!(status(&enter("late").unwrap_err()).contains("try again in 1 s"));
        // What has ended makes room, and nobody is remembered
        greedy.pop();
        drop(enter("late").unwrap());
        drop((greedy, others));
        assert!(limits.lock().is_empty());
    }
}
