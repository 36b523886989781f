//! One reading for all who ask for the same, so that a whole class that comes at once costs as much as one page.
//!
//! The rule: an answer counts for a question only if its reading began after the question came, or if nothing was stored since it began.
//! So nobody gets less than could be heard live before asking. Who comes while something is read waits for the next reading, together
//! with all others who came meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// All kept answers together have so many bytes at most; then those that were not asked for longest are forgotten.
const MAX_BYTES: usize = 32 << 20;
/// Beside its answer, each costs about so much.
const ENTRY_BYTES: usize = 512;
/// A message can be erased, or forgotten by RocketMQ, without anything new.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// What was read, or why nothing was.
pub(super) type Answer<E> = Result<Bytes, Arc<E>>;

/// Answers by question.
pub(super) struct Shared<K, S, E> {
    entries: Mutex<HashMap<K, Arc<Entry<S, E>>>>,
}

struct Entry<S, E> {
    /// How many have asked.
    asked: AtomicU64,
    /// Locked while somebody reads.
    kept: tokio::sync::Mutex<Option<Kept<S, E>>>,
    /// Bytes of what is kept, and when it was asked for last.
    cost: Mutex<(usize, Instant)>,
}

struct Kept<S, E> {
    /// The reading began after so many had asked.
    covers: u64,
    at: Instant,
    /// What was stored when the reading began; `None`: nobody knows, or the answer does not count again.
    stored: Option<S>,
    answer: Answer<E>,
}

/// What somebody read.
pub(super) struct Read<E> {
    pub answer: Answer<E>,
    /// Whether it is what another reading would find, too, as long as nothing is stored.
    pub counts_again: bool,
}

impl<K, S, E> Default for Shared<K, S, E> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone, S: PartialEq, E> Shared<K, S, E> {
    /// `look`: what is stored now; two equal looks say that nothing was stored between them. `read`: begins after the look.
    pub(super) async fn ask(
        &self,
        key: &K,
        look: impl Future<Output = Option<S>>,
        read: impl Future<Output = Read<E>>,
    ) -> Answer<E> {
        let entry = self.entry(key);
        let number = entry.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // Whoever leaves while it reads lets the next one in, who reads anew.
        let mut kept = entry.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.covers >= number) {
            return kept.answer.clone();
        }
        let covers = entry.asked.load(Ordering::SeqCst);
        let stored = look.await;
        if let Some(kept) = kept.as_mut()
            && kept.at.elapsed() < KEPT_FOR
            && kept.stored.is_some()
            && kept.stored == stored
        {
            kept.covers = covers;
            return kept.answer.clone();
        }
        let at = Instant::now();
        let Read { answer, counts_again } = read.await;
        let stored = stored.filter(|_| counts_again && answer.is_ok());
        entry.costs(answer.as_ref().map_or(0, Bytes::len));
        *kept = Some(Kept { covers, at, stored, answer: answer.clone() });
        drop(kept);
        drop(entry);
        self.forget_what_is_too_much();
        answer
    }

    fn entry(&self, key: &K) -> Arc<Entry<S, E>> {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_insert_with(|| Arc::new(Entry::new())).clone();
        entry.lock().1 = Instant::now();
        entry
    }

    /// Entries for which somebody waits stay: those who wait are as many as the connections.
    fn forget_what_is_too_much(&self) {
        let mut entries = self.lock();
        let mut unused: Vec<(Instant, usize, K)> = Vec::new();
        let mut bytes = 0;
        for (key, entry) in entries.iter() {
            let (cost, asked) = *entry.lock();
            bytes += cost;
            if Arc::strong_count(entry) == 1 {
                unused.push((asked, cost, key.clone()));
            }
        }
        unused.sort_by_key(|(asked, ..)| *asked);
        for (asked, cost, key) in unused {
            if bytes <= MAX_BYTES && asked.elapsed() < KEPT_FOR {
                break;
            }
            entries.remove(&key);
            bytes -= cost;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Entry<S, E>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, E> Entry<S, E> {
    fn new() -> Self {
        Self {
            asked: AtomicU64::new(0),
            kept: tokio::sync::Mutex::new(None),
            cost: Mutex::new((ENTRY_BYTES, Instant::now())),
        }
    }

    fn costs(&self, bytes: usize) {
        self.lock().0 = bytes.saturating_add(ENTRY_BYTES);
    }

    fn lock(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.cost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    /// A room whose lines are counted; each reading waits for a permit.
    #[derive(Default)]
    struct Room {
        shared: Shared<&'static str, usize, String>,
        said: AtomicUsize,
        looks: AtomicUsize,
        readings: AtomicUsize,
        is_partial: bool,
    }

    impl Room {
        fn says(&self) {
            self.said.fetch_add(1, Ordering::SeqCst);
        }

        /// How many lines the answer has.
        async fn ask(&self, gate: Option<&Semaphore>) -> usize {
            let look = async {
                self.looks.fetch_add(1, Ordering::SeqCst);
                Some(self.said.load(Ordering::SeqCst))
            };
            let read = async {
                self.readings.fetch_add(1, Ordering::SeqCst);
                let said = self.said.load(Ordering::SeqCst);
                if let Some(gate) = gate {
                    gate.acquire().await.unwrap().forget();
                }
                Read { answer: Ok(Bytes::from(said.to_string())), counts_again: !self.is_partial }
            };
            let answer = self.shared.ask(&"7", look, read).await.unwrap();
            str::from_utf8(&answer).unwrap().parse().unwrap()
        }

        fn readings(&self) -> usize {
            self.readings.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_class_that_comes_at_once_is_one_reading() {
        let room = Room::default();
        room.says();
        let answers = join_all((0..1500).map(|_| room.ask(None))).await;
        assert!(answers.iter().all(|lines| *lines == 1) && answers.len() == 1500);
        assert_eq!(room.readings(), 1);
    }

    /// What was said before somebody asked is in the answer, whatever was being read then.
    #[tokio::test(start_paused = true)]
    async fn who_comes_during_a_reading_waits_for_the_next_one_with_all_others() {
        let (room, gate) = (Room::default(), Semaphore::new(0));
        let first = room.ask(Some(&gate));
        tokio::pin!(first);
        assert!(futures::poll!(&mut first).is_pending());
        room.says();
        let mut late: Vec<_> = (0..1500).map(|_| Box::pin(room.ask(Some(&gate)))).collect();
        for asked in &mut late {
            assert!(futures::poll!(asked).is_pending());
        }
        gate.add_permits(2);
        assert_eq!(first.await, 0, "nothing was said when the first one asked");
        assert!(join_all(late).await.iter().all(|lines| *lines == 1));
        assert_eq!(room.readings(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_again_until_something_is_stored_or_it_is_old() {
        let room = Room::default();
        for (lines, readings) in [(0, 1), (0, 1), (0, 1)] {
            assert_eq!((room.ask(None).await, room.readings()), (lines, readings));
        }
        room.says();
        assert_eq!((room.ask(None).await, room.readings()), (1, 2));
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!((room.ask(None).await, room.readings()), (1, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_whole_counts_for_those_who_waited_only() {
        let (room, gate) = (Room { is_partial: true, ..Room::default() }, Semaphore::new(0));
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(room.ask(Some(&gate)))).collect();
        for asked in &mut waiting {
            assert!(futures::poll!(asked).is_pending());
        }
        gate.add_permits(10);
        join_all(waiting).await;
        assert_eq!(room.readings(), 2, "the first one came alone");
        room.ask(None).await;
        assert_eq!(room.readings(), 3);
    }

    /// A page that was closed must not hold up the others.
    #[tokio::test(start_paused = true)]
    async fn when_who_reads_leaves_the_next_one_reads() {
        let (room, gate) = (Room::default(), Semaphore::new(0));
        let mut leaves = Box::pin(room.ask(Some(&gate)));
        assert!(futures::poll!(&mut leaves).is_pending());
        let mut stays = Box::pin(room.ask(Some(&gate)));
        assert!(futures::poll!(&mut stays).is_pending());
        drop(leaves);
        gate.add_permits(1);
        assert_eq!((stays.await, room.readings()), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_has_a_bound_and_what_nobody_asks_for_is_forgotten() {
        let shared: Shared<usize, (), String> = Shared::default();
        let ask = async |key: usize, bytes: usize| {
            let read = async { Read { answer: Ok(Bytes::from(vec![0; bytes])), counts_again: true } };
            shared.ask(&key, async { Some(()) }, read).await.unwrap()
        };
        for key in 0..9 {
            ask(key, 4 << 20).await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let mut kept: Vec<usize> = shared.lock().keys().copied().collect();
        kept.sort_unstable();
        assert_eq!(kept, (2..9).collect::<Vec<_>>(), "the oldest are forgotten");
        tokio::time::advance(KEPT_FOR).await;
        ask(100, 1).await;
        assert_eq!(shared.lock().keys().copied().collect::<Vec<_>>(), [100]);
    }
}
