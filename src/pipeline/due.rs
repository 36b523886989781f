//! Which topics have something to do: at once, because something happened to them, or at a known time. So a wake of the uplink
//! costs what there is to do, and not as much as there are topics.
//!
//! Must never: forget a topic that was marked before it was taken.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Topics that have something to do, each at most once for now and once for later.
#[derive(Debug, Default)]
pub(super) struct DueTopics {
    now: BTreeSet<Arc<str>>,
    /// In order of their times, which are monotonic.
    later: BTreeSet<(Duration, Arc<str>)>,
    times: HashMap<Arc<str>, Duration>,
}

impl DueTopics {
    /// Something happened to that topic.
    pub(super) fn mark(&mut self, topic: &Arc<str>) {
        if !self.now.contains(topic) {
            self.now.insert(topic.clone());
        }
    }

    /// Nothing is to be done for that topic before this time, unless something happens to it.
    pub(super) fn wait(&mut self, topic: &Arc<str>, until: Option<Duration>) {
        if self.times.get(topic).copied() == until {
            return;
        }
        if let Some(before) = self.times.remove(topic) {
            self.later.remove(&(before, topic.clone()));
        }
        if let Some(until) = until {
            self.times.insert(topic.clone(), until);
            self.later.insert((until, topic.clone()));
        }
    }

    /// Takes the topics that have something to do now, in order of their names.
    pub(super) fn take(&mut self, now: Duration) -> BTreeSet<Arc<str>> {
        while self.next().is_some_and(|due| due <= now)
            && let Some((_, topic)) = self.later.pop_first()
        {
            self.times.remove(&topic);
            self.now.insert(topic);
        }
        std::mem::take(&mut self.now)
    }

    /// The first of the times.
    pub(super) fn next(&self) -> Option<Duration> {
        self.later.first().map(|(due, _)| *due)
    }
}

/// Rings at the time that was set last, or for nothing at an earlier one that was set before: to move the timer for each message
/// would cost more than to look once too often.
pub(super) struct Alarm {
    timer: Pin<Box<Sleep>>,
    /// Monotonic.
    rings_at: Option<Duration>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self { timer: Box::pin(sleep(Duration::ZERO)), rings_at: None }
    }

    pub(super) fn set(&mut self, now: Duration, due: Duration) {
        if self.rings_at.is_none_or(|at| due < at || due <= now) {
            self.timer.as_mut().reset(Instant::now() + due.saturating_sub(now));
            self.rings_at = Some(due);
        }
    }

    /// No deadline while it is not set: then nothing is due.
    pub(super) async fn rings(&mut self) {
        if self.rings_at.is_none() {
            return std::future::pending().await;
        }
        self.timer.as_mut().await;
        self.rings_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(due: &mut DueTopics, now: Duration) -> Vec<String> {
        due.take(now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_topic_is_taken_once_when_something_happened_or_its_time_has_come() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut due = DueTopics::default();
        due.wait(&a, Some(2 * SECOND));
        due.mark(&b);
        due.mark(&b);
        assert_eq!(taken(&mut due, SECOND), ["b"]);
        assert_eq!(due.next(), Some(2 * SECOND));
        due.mark(&b);
        assert_eq!(taken(&mut due, 2 * SECOND), ["a", "b"]);
        assert_eq!((due.next(), taken(&mut due, 9 * SECOND)), (None, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_never_rings_late() {
        let (started, mut alarm) = (Instant::now(), Alarm::new());
        alarm.set(Duration::ZERO, 5 * SECOND);
        alarm.set(SECOND / 2, 7 * SECOND);
        alarm.set(SECOND, 3 * SECOND);
        alarm.rings().await;
        assert_eq!(started.elapsed(), 2 * SECOND, "the clock stood at 1 s when 3 s was set");
        assert!(tokio::time::timeout(9 * SECOND, alarm.rings()).await.is_err(), "nothing is set");
        alarm.set(12 * SECOND, 12 * SECOND);
        assert!(tokio::time::timeout(SECOND / 100, alarm.rings()).await.is_ok());
    }

    #[test]
    fn the_last_word_about_a_time_counts() {
        let a: Arc<str> = "a".into();
        let mut due = DueTopics::default();
        due.wait(&a, Some(SECOND));
        due.wait(&a, Some(3 * SECOND));
        assert_eq!(taken(&mut due, 2 * SECOND), Vec::<String>::new());
        due.wait(&a, None);
        assert_eq!((due.next(), taken(&mut due, 9 * SECOND)), (None, vec![]));
    }
}
