//! Rate limits for clients and rooms: token buckets, bounded in number.
//!
//! Promises: only the times that are passed in count, so a backlog is judged by when it arrived and not by when it is read;
//! a clock that is set back neither gives tokens nor takes them for long. A bucket that is full again is dropped, because
//! a new one would be the same.
//!
//! When full: newcomers share one bucket until others are idle. So nobody gets a fresh bucket by pushing others out.

use std::collections::HashMap;
use std::hash::Hash;

/// Times may be out of order by so much, because lanes are read side by side; a larger step means that the clock was set back.
const CLOCK_STEP_MS: u64 = 10_000;
const SWEEP_MS: u64 = 10_000;
const SWEEP_WHEN_FULL_MS: u64 = 1_000;
const TOKEN: u64 = 1_000;

/// A rate, and how much may come at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// At least 1.
    pub per_s: u32,
    /// At least 1.
    pub burst: u32,
}

impl Rate {
    fn capacity(self) -> u64 {
        u64::from(self.burst.max(1)) * TOKEN
    }
}

/// One token bucket, in thousandths of a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    thousandths: u64,
    at_ms: u64,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now_ms: u64) -> Self {
        Self { thousandths: rate.capacity(), at_ms: now_ms }
    }

    pub(crate) fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        self.refill(rate, now_ms);
        let enough = self.thousandths >= TOKEN;
        if enough {
            self.thousandths -= TOKEN;
        }
        enough
    }

    fn is_full(&mut self, rate: Rate, now_ms: u64) -> bool {
        self.refill(rate, now_ms);
        self.thousandths >= rate.capacity()
    }

    fn refill(&mut self, rate: Rate, now_ms: u64) {
        if now_ms >= self.at_ms {
            // Milliseconds times tokens a second are thousandths of a token.
            let gained = (now_ms - self.at_ms).saturating_mul(u64::from(rate.per_s.max(1)));
            self.thousandths = self.thousandths.saturating_add(gained).min(rate.capacity());
            self.at_ms = now_ms;
        } else if self.at_ms - now_ms > CLOCK_STEP_MS {
            self.at_ms = now_ms;
        }
    }
}

/// A bucket for each key.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    rate: Rate,
    most: usize,
    buckets: HashMap<K, Bucket>,
    shared: Bucket,
    swept_ms: u64,
}

impl<K: Eq + Hash + Clone> Limiter<K> {
    pub(crate) fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, buckets: HashMap::new(), shared: Bucket::full(rate, 0), swept_ms: 0 }
    }

    /// Takes a token from the bucket of this key; `false` if it is empty.
    pub(crate) fn allow(&mut self, key: &K, now_ms: u64) -> bool {
        self.sweep(now_ms);
        if let Some(bucket) = self.buckets.get_mut(key) {
            return bucket.take(self.rate, now_ms);
        }
        if self.buckets.len() >= self.most {
            return self.shared.take(self.rate, now_ms);
        }
        let mut bucket = Bucket::full(self.rate, now_ms);
        let allowed = bucket.take(self.rate, now_ms);
        self.buckets.insert(key.clone(), bucket);
        allowed
    }

    fn sweep(&mut self, now_ms: u64) {
        let pause_ms = if self.buckets.len() >= self.most { SWEEP_WHEN_FULL_MS } else { SWEEP_MS };
        if now_ms.abs_diff(self.swept_ms) < pause_ms {
            return;
        }
        self.swept_ms = now_ms;
        let rate = self.rate;
        self.buckets.retain(|_, bucket| !bucket.is_full(rate, now_ms));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 5, burst: 10 };
    const START_MS: u64 = 1_700_000_000_000;

    fn allowed(limiter: &mut Limiter<u32>, key: u32, tries: usize, now_ms: u64) -> usize {
        (0..tries).filter(|_| limiter.allow(&key, now_ms)).count()
    }

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let mut limiter = Limiter::new(RATE, 100);
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS), 10);
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS + 199), 0);
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS + 200), 1);
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS + 1_200), 5);
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS + 3_600_000), 10, "never more than the burst");
        assert_eq!(allowed(&mut limiter, 2, 50, START_MS + 3_600_000), 10, "another has its own");
    }

    #[test]
    fn times_out_of_order_give_nothing_and_a_clock_set_back_locks_nobody_out() {
        let mut limiter = Limiter::new(RATE, 100);
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS), 10);
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS - 5_000), 0);
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS + 200), 1, "not the 5 s twice");

        assert_eq!(allowed(&mut limiter, 1, 50, START_MS - 3_600_000), 0, "the clock is set back an hour");
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS - 3_600_000 + 1_000), 5);
    }

    #[test]
    fn idle_buckets_are_dropped() {
        let mut limiter = Limiter::new(RATE, 100);
        for key in 0..50 {
            limiter.allow(&key, START_MS);
        }
        assert_eq!(limiter.len(), 50);
        limiter.allow(&0, START_MS + 10_000);
        assert_eq!(limiter.len(), 1);
    }

    #[test]
    fn when_full_newcomers_share_one_bucket_and_push_nobody_out() {
        // Given: two who have spent all, and no place for more.
        let mut limiter = Limiter::new(RATE, 2);
        allowed(&mut limiter, 1, 50, START_MS);
        allowed(&mut limiter, 2, 50, START_MS);

        // When: a thousand others come at once.
        let others: usize = (3..1_003).map(|key| allowed(&mut limiter, key, 1, START_MS)).sum();

        // Then: they have one burst among them, the memory is bounded, and the first two gained nothing.
        assert_eq!((others, limiter.len()), (10, 2));
        assert_eq!(allowed(&mut limiter, 1, 50, START_MS), 0);

        // And: once the two are idle, a newcomer has a bucket of its own.
        assert_eq!(allowed(&mut limiter, 7, 50, START_MS + 5_000), 10);
    }
}
