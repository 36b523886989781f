//! Looks at a topic: which queues it has, which of them RocketMQ still has, and what of them is archived.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};

use super::topic::{Queue, Topic};
use super::trouble::Trouble;
use super::{Known, Whole};
use crate::archiver::{is_back, is_the_same};
use crate::model::{FailureKind, QueueName};
use crate::piece::Place;
use crate::piece_store::Listed;
use crate::pipeline::ports::ReadError;

/// So often the store is listed again for one question.
const LISTINGS: u32 = 3;
/// The ends of so many queues are looked up at once.
const QUEUES_AT_ONCE: usize = 8;

impl Whole {
    pub(super) async fn topic(&self, topic: &str) -> Result<Arc<Topic>, ReadError> {
        if let Some(known) = self.lock_topics().get(topic) {
            return Ok(known.clone());
        }
        let found = Arc::new(self.look_at(topic).await?);
        // Whoever looked first counts for all.
        Ok(self.lock_topics().entry(topic.to_owned()).or_insert(found).clone())
    }

    /// Held for no wait: a page that was asked for ahead may not be polled for minutes, and everybody else would wait for it.
    pub(super) fn lock_topics(&self) -> MutexGuard<'_, HashMap<String, Arc<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_at(&self, topic: &str) -> Result<Topic, ReadError> {
        let (away, live, archived) =
            tokio::join!(self.rocketmq.away(topic), self.rocketmq.queues(topic), self.archived(topic));
        let away = away?;
        let mut live = match live {
            Ok(queues) => queues,
            Err(error) if error.kind == FailureKind::TopicMissing => Vec::new(),
            Err(error) => return Err(error),
        };
        let archived = archived?;
        let mut asked = Vec::with_capacity(archived.len());
        for queue in archived.values() {
            let next = Place { generation: queue.place.generation + 1, ..queue.place.clone() };
            let is_newest = !archived.contains_key(&next);
            asked.push(self.may_be_live(queue, is_newest, live.contains(&queue.place.queue)));
        }
        let compared: Vec<bool> = stream::iter(asked).buffered(QUEUES_AT_ONCE).try_collect().await?;
        // The highest generation of those that may be.
        let may_be = archived.keys().zip(&compared).filter(|(_, may_be)| **may_be);
        let live_ones: HashMap<QueueName, u32> =
            may_be.map(|(place, _)| (place.queue.clone(), place.generation)).collect();
        let mut found = Topic { away, ..Topic::default() };
        let mut generations = HashMap::new();
        for (place, queue) in archived {
            let Place { queue: name, generation, .. } = place;
            generations.insert(name.clone(), generation + 1);
            if live_ones.get(&name) == Some(&generation) {
                live.retain(|other| *other != name);
                found.queues.insert(name, Arc::new(Queue { is_live: true, ..queue }));
            } else {
                // A blank sorts before all letters, so that the order of the queues stays.
                let broker = format!("{} (generation {generation})", name.broker);
                found.queues.insert(QueueName { broker: broker.into(), id: name.id }, Arc::new(queue));
            }
        }
        for name in live {
            let generation = generations.get(&name).copied().unwrap_or(0);
            let place = Place { topic: topic.to_owned(), queue: name.clone(), generation };
            found.queues.insert(name, Arc::new(Queue::live(place)));
        }
        Ok(found)
    }

    /// Whether RocketMQ's queue is the one that was archived last under this name, or an earlier one that a broker's crash brought back.
    async fn may_be_live(&self, queue: &Queue, is_newest: bool, is_there: bool) -> Result<bool, ReadError> {
        let (Place { topic, queue: name, .. }, last) = (&queue.place, queue.last.as_deref());
        match (is_there, is_newest) {
            (false, _) => Ok(false),
            (true, true) => is_the_same(&*self.rocketmq, topic, name, queue.seam, last).await,
            (true, false) => is_back(&*self.rocketmq, topic, name, queue.seam, last).await,
        }
    }

    /// What the store has of a topic; listed again while a merge replaces pieces.
    async fn archived(&self, topic: &str) -> Result<BTreeMap<Place, Queue>, ReadError> {
        let mut listings = 0;
        loop {
            match self.archived_now(topic).await {
                Ok(archived) => return Ok(archived),
                Err(Trouble::Changed(_)) if listings < LISTINGS => listings += 1,
                Err(Trouble::Changed(error) | Trouble::Failed(error)) => return Err(error),
            }
        }
    }

    async fn archived_now(&self, topic: &str) -> Result<BTreeMap<Place, Queue>, Trouble> {
        let listed = self.pieces.list(topic).await.map_err(|error| Trouble::of_store(topic, &error))?;
        let mut places: BTreeMap<Place, Vec<Listed>> = BTreeMap::new();
        for piece in listed {
            places.entry(piece.key.place.clone()).or_default().push(piece);
        }
        let mut asked = Vec::with_capacity(places.len());
        for (place, pieces) in places {
            asked.push(Queue::archived(place, pieces, &self.pieces));
        }
        let queues: Vec<Queue> = stream::iter(asked).buffered(QUEUES_AT_ONCE).try_collect().await?;
        Ok(queues.into_iter().map(|queue| (queue.place.clone(), queue)).collect())
    }

    /// Lists the store again after what changed there, at most [`LISTINGS`] times for one question. Each queue stays the one that it
    /// was; a topic that was made anew since then is seen by the next reader.
    pub(super) async fn list_again(
        &self,
        known: &Known,
        trouble: Trouble,
        listings: &mut u32,
    ) -> Result<(), ReadError> {
        let error = match trouble {
            Trouble::Changed(error) => error,
            Trouble::Failed(error) => return Err(error),
        };
        *listings += 1;
        if *listings > LISTINGS {
            return Err(error);
        }
        let topic = &known.queue.place.topic;
        let is_done = |topics: &HashMap<String, Arc<Topic>>| {
            topics.get(topic).is_some_and(|now| !Arc::ptr_eq(now, &known.topic))
        };
        if is_done(&self.lock_topics()) {
            return Ok(());
        }
        let mut archived = self.archived(topic).await?;
        let queues = known.topic.queues.iter().map(|(name, queue)| {
            let queue = match archived.remove(&queue.place) {
                Some(listed) => Arc::new(Queue { is_live: queue.is_live, ..listed }),
                None => queue.clone(),
            };
            (name.clone(), queue)
        });
        let again = Topic { queues: queues.collect(), away: known.topic.away.clone() };
        let mut topics = self.lock_topics();
        if !is_done(&topics) {
            topics.insert(topic.clone(), Arc::new(again));
        }
        Ok(())
    }
}
