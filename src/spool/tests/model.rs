//! The spool against a model of it: a queue for each lane.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Slot, number of messages, how many of them are lent from the start.
    Append(u8, u32, usize),
    Take(Vec<u8>, usize),
    /// Removes what was lent, from this folder on, so many.
    Remove(usize, usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slots = || prop::collection::btree_set(0_u8..4, 1..4).prop_map(|slots| slots.into_iter().collect());
    let step = prop_oneof![
        4 => (0_u8..4, 1_u32..6, 0_usize..3).prop_map(|(slot, count, lent)| Step::Append(slot, count, lent)),
        3 => (slots(), 1_usize..12).prop_map(|(slots, limit)| Step::Take(slots, limit)),
        3 => (0_usize..20, 1_usize..10).prop_map(|(from, count)| Step::Remove(from, count)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Model {
    /// Number and text of what is neither lent nor removed.
    waiting: BTreeMap<u8, VecDeque<(u64, String)>>,
    next: BTreeMap<u8, u64>,
    lent: Vec<(RowKey, String)>,
    written: u32,
}

impl Model {
    fn depth(&self) -> u64 {
        self.waiting.values().map(|lane| lane.len() as u64).sum::<u64>() + self.lent.len() as u64
    }

    async fn append(&mut self, spool: &SqliteSpool, slot: u8, count: u32, lent: usize) {
        let batch = messages(slot, self.written..self.written + count);
        let appended = spool.append(topic(), batch, lent, false).await.unwrap();
        for (position, row) in appended.rows.into_iter().enumerate() {
            let next = self.next.entry(slot).or_default();
            assert_eq!(row, Row::Written(RowKey { slot, number: *next }), "no gap");
            let text = self.written.to_string();
            if position < lent {
                self.lent.push((RowKey { slot, number: *next }, text));
            } else {
                self.waiting.entry(slot).or_default().push_back((*next, text));
            }
            *next += 1;
            self.written += 1;
        }
    }

    async fn take(&mut self, spool: &SqliteSpool, slots: Vec<u8>, limit: usize) {
        let there: usize = slots.iter().map(|slot| self.waiting.get(slot).map_or(0, VecDeque::len)).sum();
        let taken = spool.take(topic(), slots, limit, usize::MAX).await.unwrap();
        assert_eq!(taken.rows.len(), there.min(limit));
        assert_eq!(taken.more, there > limit);
        assert_eq!((taken.damaged, taken.expired), (0, 0));
        for ((key, _), text) in taken.rows.iter().zip(texts(&taken.rows)) {
            let first = self.waiting.get_mut(&key.slot).and_then(VecDeque::pop_front);
            assert_eq!(first, Some((key.number, text.clone())), "in order");
            self.lent.push((*key, text));
        }
    }

    async fn remove(&mut self, spool: &SqliteSpool, from: usize, count: usize) {
        let from = from.min(self.lent.len());
        let to = (from + count).min(self.lent.len());
        let rows = self.lent.drain(from..to).map(|(key, _)| key).collect();
        spool.remove(topic(), rows).await.unwrap();
    }

    /// A restart lends anew what was lent.
    fn reopen(&mut self) {
        for (key, text) in self.lent.drain(..) {
            self.waiting.entry(key.slot).or_default().push_back((key.number, text));
        }
        for lane in self.waiting.values_mut() {
            lane.make_contiguous().sort();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_spool_is_a_queue_for_each_slot(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut folder = SpoolFolder::new();
            let mut spool = folder.open();
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Append(slot, count, lent) => model.append(&spool, slot, count, lent).await,
                    Step::Take(slots, limit) => model.take(&spool, slots, limit).await,
                    Step::Remove(from, count) => model.remove(&spool, from, count).await,
                    Step::Reopen => {
                        spool.close();
                        spool = folder.open();
                        model.reopen();
                    }
                }
                assert_eq!(spool.depth().messages, model.depth());
            }
            spool.close();
        });
    }
}
