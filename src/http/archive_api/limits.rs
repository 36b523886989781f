//! How much one caller, and all callers together, may ask of the archive at once.
//!
//! Promises: what is too much is refused at once, with the time after which to try again; nothing waits here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ApiError;
use super::rights::CallerKey;

/// Requests of one caller that are answered at once.
pub(super) const REQUESTS_OF_CALLER: usize = 4;
/// Requests of all callers that are answered at once.
pub(super) const REQUESTS: usize = 32;
/// A request is seldom answered sooner.
const AGAIN_AFTER_S: u64 = 1;

/// Counts the requests that are being answered. Only their callers are remembered, so there are never more than [`REQUESTS`].
#[derive(Debug, Default)]
pub(super) struct Limits(Mutex<HashMap<CallerKey, usize>>);

/// Leave to be answered; until it is dropped it counts.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    key: CallerKey,
}

impl Limits {
    /// Lets a request in.
    pub(super) fn enter(self: &Arc<Self>, key: CallerKey) -> Result<Permit, ApiError> {
        let busy = |what| Err(ApiError::Busy { what, after_s: AGAIN_AFTER_S });
        let mut running = self.lock();
        if running.values().sum::<usize>() >= REQUESTS {
            return busy("too many requests to the archive are being answered");
        }
        let of_caller = running.entry(key).or_default();
        if *of_caller >= REQUESTS_OF_CALLER {
            return busy("too many requests with this token are being answered");
        }
        *of_caller += 1;
        Ok(Permit { limits: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CallerKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let limits = Arc::new(Limits::default());
        let enter = |name: &str| limits.enter(CallerKey::of(name));
        let mut greedy: Vec<_> = (0..REQUESTS_OF_CALLER).map(|_| enter("greedy").unwrap()).collect();
        assert!(status(&enter("greedy").unwrap_err()).contains("with this token"));
        // Others are not in its way
        let others: Vec<_> =
            (REQUESTS_OF_CALLER..REQUESTS).map(|number| enter(&number.to_string()).unwrap()).collect();
        assert!(status(&enter("late").unwrap_err()).contains("try again in 1 s"));
        // What has ended makes room, and nobody is remembered
        greedy.pop();
        drop(enter("late").unwrap());
        drop((greedy, others));
        assert!(limits.lock().is_empty());
    }
}
