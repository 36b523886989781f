//! The spool of one process over the disk in memory: slow, full or broken, and with lies for the tests of the oracle.
//! A killed process may have written without having heard of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use roombridge::testing::model::DeadLetter;
use roombridge::testing::spool::memory::MemorySpool;
use roombridge::testing::spool::{
    Appended, DeadLetterStore, Depth, LaneKey, Overflow, Row, RowKey, SpoolError, SpoolMessage, Taken,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::gate::{Gate, Point};
use crate::lies::Lie;
use crate::oracle;
use crate::rocketmq::number_of;
use crate::world::World;

/// Rows that the disk does not have before that moment.
pub type Unsynced = Arc<Mutex<Vec<(Instant, Arc<str>, RowKey)>>>;

/// See the module's words.
#[derive(Clone)]
pub struct Spool {
    /// The bridge whose spool this is.
    pub owner: &'static str,
    pub world: Arc<World>,
    pub gate: Gate,
    pub disk: Arc<MemorySpool>,
    pub lie: Option<Lie>,
    /// Rows that this lie answered for before the disk had them.
    pub unsynced: Unsynced,
}

impl Spool {
    pub fn new(
        owner: &'static str,
        world: Arc<World>,
        gate: Gate,
        disk: Arc<MemorySpool>,
        lie: Option<Lie>,
    ) -> Self {
        Self { owner, world, gate, disk, lie, unsynced: Arc::default() }
    }

    /// The process dies: what this lie had not written yet is gone.
    pub async fn lose_what_was_not_synced(&self) {
        let unsynced = std::mem::take(&mut *self.unsynced.lock().unwrap());
        for (at, topic, row) in unsynced {
            if at.elapsed() < Duration::from_secs(5) {
                let _ = self.disk.remove(topic, vec![row]).await;
            }
        }
    }

    /// In a task of its own, so that it is done some time before the process hears of it.
    fn run<T: Send + 'static>(
        &self,
        point: Point,
        what: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let gate = self.gate.clone();
        Box::pin(async move {
            gate.pass().await;
            let (answer, answered) = oneshot::channel();
            let disk = gate.clone();
            tokio::spawn(async move {
                let done = tokio::select! {
                    biased;
                    () = disk.killed.cancelled() => return,
                    done = what => done,
                };
                disk.touch(point);
                tokio::time::sleep(Duration::from_millis(2)).await;
                let _ = answer.send(done);
            });
            let Ok(answer) = answered.await else {
                return std::future::pending().await;
            };
            gate.pass().await;
            answer
        })
    }

    fn drop_newest(&self, messages: &[SpoolMessage], lent: usize) -> Appended {
        let numbers: BTreeSet<_> =
            messages.iter().filter_map(|message| number_of(&self.world, &message.message)).collect();
        self.world.log(format!("spool: full, drops {numbers:?} ({lent} of them in flight)"));
        self.world.facts.lock().unwrap().dropped.extend(numbers);
        Appended { rows: vec![Row::Dropped; messages.len()], dropped_oldest: 0 }
    }

    /// Writes all but the first `lent`, and says that it wrote them.
    async fn append_without_lent(
        &self,
        topic: Arc<str>,
        mut messages: Vec<SpoolMessage>,
        lent: usize,
    ) -> Result<Appended, SpoolError> {
        let rest = messages.split_off(lent);
        let mut appended = self.disk.append(topic, rest, 0, false).await?;
        let pretended = messages.iter().map(|message| Row::Written(RowKey { slot: message.slot, number: 0 }));
        appended.rows.splice(0..0, pretended);
        Ok(appended)
    }
}

impl Overflow for Spool {
    fn append(
        &self,
        topic: Arc<str>,
        messages: Vec<SpoolMessage>,
        lent: usize,
        share_of_topic: bool,
    ) -> BoxFuture<'static, Result<Appended, SpoolError>> {
        let spool = self.clone();
        self.run(Point::SpoolWrote, async move {
            let kept = messages.clone();
            let (_, handovers) = spool.world.mqtt.lock().unwrap().holder();
            if share_of_topic
                && spool.world.setup.topic_share.is_some_and(|share| spool.disk.rows().len() >= share)
            {
                spool.world.log(format!("spool: the share of {topic} is used up"));
                return Err(SpoolError::TopicShare);
            }
            let answer = if spool.lie == Some(Lie::SpoolDropsLent) {
                spool.append_without_lent(topic.clone(), messages, lent).await
            } else {
                spool.disk.append(topic.clone(), messages, lent, share_of_topic).await
            };
            let answer = match answer {
                Err(SpoolError::Full(_)) if spool.world.setup.drops_newest => {
                    Ok(spool.drop_newest(&kept, lent))
                }
                other => other,
            };
            if let Ok(appended) = &answer
                && spool.lie == Some(Lie::SpoolAnswersFirst)
            {
                let rows = appended.rows.iter().filter_map(|row| match row {
                    Row::Written(key) => Some((Instant::now(), topic.clone(), *key)),
                    Row::Dropped => None,
                });
                spool.unsynced.lock().unwrap().extend(rows);
            }
            let numbers: Vec<_> =
                kept.iter().filter_map(|message| number_of(&spool.world, &message.message)).collect();
            if spool.world.mqtt.lock().unwrap().holder() != (Some(spool.owner), handovers) {
                oracle::order_is_not_promised(&spool.world, numbers.iter().copied());
            }
            let said = match &answer {
                Ok(_) => "written".to_owned(),
                Err(error) => error.to_string(),
            };
            spool.world.log(format!("spool: {topic} {numbers:?} ({lent} lent): {said}"));
            answer
        })
    }

    fn take(
        &self,
        topic: Arc<str>,
        slots: Vec<u8>,
        max_messages: usize,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Taken, SpoolError>> {
        let spool = self.clone();
        self.run(Point::RowsTaken, async move {
            let mut taken = spool.disk.take(topic.clone(), slots, max_messages, max_bytes).await?;
            if spool.lie == Some(Lie::SpoolReorders) {
                taken.rows.reverse();
            }
            if spool.lie == Some(Lie::DrainForgets) {
                let rows = taken.rows.iter().map(|(row, _)| *row).collect();
                let _ = spool.disk.remove(topic.clone(), rows).await;
            }
            let numbers: Vec<_> =
                taken.rows.iter().filter_map(|(_, row)| number_of(&spool.world, &row.message)).collect();
            if !numbers.is_empty() {
                spool.world.log(format!("spool: takes {numbers:?} of {topic}"));
            }
            Ok(taken)
        })
    }

    fn remove(&self, topic: Arc<str>, rows: Vec<RowKey>) -> BoxFuture<'static, Result<(), SpoolError>> {
        self.run(Point::RowsRemoved, self.disk.remove(topic, rows))
    }

    fn lanes(&self) -> BoxFuture<'static, Result<Vec<(LaneKey, Depth)>, SpoolError>> {
        self.disk.lanes()
    }

    fn newest(
        &self,
        lane: LaneKey,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<(RowKey, SpoolMessage)>, SpoolError>> {
        self.disk.newest(lane, before, limit)
    }

    fn room(&self) -> BoxFuture<'static, Result<(), SpoolError>> {
        let disk = self.disk.clone();
        self.run(Point::SpoolWrote, async move { disk.room().await })
    }

    fn depth(&self) -> Depth {
        self.disk.depth()
    }

    fn poisoned(&self) -> Option<String> {
        self.disk.poisoned()
    }
}

impl DeadLetterStore for Spool {
    fn store(&self, letters: Vec<DeadLetter>) -> BoxFuture<'static, Result<(), SpoolError>> {
        let spool = self.clone();
        self.run(Point::SpoolWrote, async move {
            let answer = spool.disk.store(letters.clone()).await;
            let ids: Vec<_> = letters.iter().map(|letter| spool.world.number_of_id(&letter.id)).collect();
            spool.world.log(format!("dead letters on the disk: {ids:?}: {answer:?}"));
            answer
        })
    }
}
