//! Which topics have something to do: at once, because something happened to them, or at a known time. So a wake of the uplink
//! costs what there is to do, and not as much as there are topics.
//!
//! Must never: forget a topic that was marked before it was taken.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

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
