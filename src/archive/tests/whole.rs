//! RocketMQ and archive as one, against everything that was said.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{History, HistoryQuery, Whole};
use crate::archiver::memory::{Memory, STORED_MS};
use crate::archiver::{Archiver, ArchiverParts, LeaveOut};
use crate::binding::RoomQuery;
use crate::model::ManualClock;
use crate::piece_store::PieceStore;

#[derive(Debug, Clone)]
enum Step {
    Say(u64),
    Archive,
    /// RocketMQ deletes so many of its oldest messages.
    Forget(u64),
    MakeAnew,
    Restart,
}

/// One text, and what became of it.
struct Said {
    text: String,
    is_archived: bool,
    is_in_rocketmq: bool,
}

struct World {
    rocketmq: Arc<Memory>,
    store: PieceStore,
    archiver: Archiver,
    said: Vec<Said>,
}

impl World {
    fn new() -> Self {
        let (rocketmq, store) = (Arc::new(Memory::default()), PieceStore::in_memory());
        let archiver = archiver(&rocketmq, &store);
        Self { rocketmq, store, archiver, said: Vec::new() }
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Say(count) => {
                let texts: Vec<_> =
                    (0..*count).map(|n| format!("line {}", self.said.len() as u64 + n)).collect();
                let said =
                    |text: &String| Said { text: text.clone(), is_archived: false, is_in_rocketmq: true };
                self.said.extend(texts.iter().map(said));
                self.rocketmq.say(texts);
            }
            Step::Archive => {
                assert!(self.archiver.round(true).await.1.is_none());
                for said in self.said.iter_mut().filter(|said| said.is_in_rocketmq) {
                    said.is_archived = true;
                }
            }
            Step::Forget(count) => {
                let held: Vec<_> = self.said.iter_mut().filter(|said| said.is_in_rocketmq).collect();
                let count = (*count).min(held.len() as u64);
                for said in held.into_iter().take(count as usize) {
                    said.is_in_rocketmq = false;
                }
                self.rocketmq.forget(count);
            }
            Step::MakeAnew => {
                self.rocketmq.make_anew();
                for said in &mut self.said {
                    said.is_in_rocketmq = false;
                }
            }
            Step::Restart => self.archiver = archiver(&self.rocketmq, &self.store),
        }
    }

    async fn history(&self) -> Vec<String> {
        let whole = Whole::new(self.rocketmq.clone(), self.store.clone());
        let place = RoomQuery {
            topic: "room".to_owned(),
            tag: None,
            shared: false,
            room: Some("1".to_owned()),
            kind: None,
        };
        let query = HistoryQuery { places: vec![place], ..HistoryQuery::default() };
        let mut history = History::open(&whole, query, &mut |_| ()).await.unwrap();
        let mut texts = Vec::new();
        while let Some(record) = history.next().await.unwrap() {
            texts.push(String::from_utf8(record.bytes.to_vec()).unwrap());
        }
        texts
    }

    fn kept(&self) -> Vec<String> {
        let kept = self.said.iter().filter(|said| said.is_archived || said.is_in_rocketmq);
        kept.map(|said| said.text.clone()).collect()
    }
}

pub(super) fn archiver(rocketmq: &Arc<Memory>, store: &PieceStore) -> Archiver {
    Archiver::new(ArchiverParts {
        reader: rocketmq.clone(),
        store: store.clone(),
        topics: vec!["room".to_owned()],
        leave_out: LeaveOut::default(),
        cut_every: Duration::from_secs(3600),
        rocketmq_keeps: Duration::from_secs(72 * 3600),
        clock: Arc::new(ManualClock::at(STORED_MS)),
    })
}

#[tokio::test(start_paused = true)]
async fn a_history_is_the_same_when_rocketmq_has_forgotten_and_when_its_topic_is_gone() {
    let mut world = World::new();
    for step in [Step::Say(700), Step::Archive, Step::Say(50), Step::Archive, Step::Say(5)] {
        world.take(&step).await;
    }
    let all = world.history().await;
    assert_eq!(all, world.kept());
    world.take(&Step::Forget(720)).await;
    assert_eq!(world.history().await, all);
    world.take(&Step::Archive).await;
    world.rocketmq.delete_topic();
    assert_eq!(world.history().await, all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    /// Whatever RocketMQ forgets and however often a topic is made anew: what is archived or still there is heard, once, in order.
    #[test]
    fn what_is_kept_anywhere_is_heard_once_and_in_order(steps in prop::collection::vec(
        prop_oneof![
            4 => (1..400_u64).prop_map(Step::Say),
            4 => Just(Step::Archive),
            2 => (1..600_u64).prop_map(Step::Forget),
            1 => Just(Step::MakeAnew),
            1 => Just(Step::Restart),
        ],
        1..14,
    )) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            world.take(&Step::Say(1)).await;
            for step in &steps {
                world.take(step).await;
                prop_assert_eq!(world.history().await, world.kept());
            }
            Ok(())
        })?;
    }
}
