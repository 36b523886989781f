//! A page of the newest lines of a room, as the pages of the class read it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::shared::{Answer, Read, Shared};
use crate::archive::{
    Before, HistoryError, HistoryQuery, KeptByRocketMq, Latest, LatestQuery, Record, Whole, latest,
};
use crate::binding::{RoomQuery, RuleSet};
use crate::classroom::ClassTopic;
use crate::index::Index;
use crate::model::{Clock, FailureKind, QueueName, RoomId};
use crate::piece_store::PieceStore;
use crate::pipeline::ports::{ReadError, Reader};

/// How long a history may be searched; then the messages found so far are the answer.
const TIME: Duration = Duration::from_secs(5);

/// Where the past lies.
pub(crate) struct PastParts {
    /// RocketMQ; nothing else is shown.
    pub rocketmq: Arc<dyn Reader>,
    /// The archive, of whose index is asked where something lies, and the folder of the index; `None` = there is none.
    pub archive: Option<(PieceStore, PathBuf)>,
    /// Say where a room's messages are stored.
    pub rules: Arc<RuleSet>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// First level of the topics that clients read.
    pub parent: String,
}

/// What a page asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::http) struct PageAsked {
    pub room: RoomId,
    /// Whether the notices to all rooms are shown, too.
    pub notices: bool,
    pub limit: usize,
    /// Nothing that was said earlier is shown, milliseconds since 1970-01-01 UTC.
    pub since_ms: Option<u64>,
}

/// Reads the newest lines, once for all who ask for the same.
pub(crate) struct Past {
    parts: PastParts,
    shared: Shared<PageAsked, Vec<QueueStands>, HistoryError>,
}

/// A queue, its first offset, and the one after its last.
type QueueStands = (String, QueueName, (u64, u64));

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistoryLine {
    id: String,
    sender: Option<String>,
    time: u64,
    body: String,
    kind: &'static str,
}

#[derive(Serialize)]
struct HistoryAnswer {
    messages: Vec<HistoryLine>,
    /// Whether there are, or may be, older messages.
    truncated: bool,
    /// Whether nothing is missing: `false` if the time was over, if a broker with a part of the messages is away, or if RocketMQ has a
    /// part of them and does not hand it out.
    complete: bool,
    /// RocketMQ brokers that hold a part of the messages and are away; ask again later.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    away: BTreeSet<String>,
    /// Where the next page begins; absent if there is nothing older.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

impl Past {
    /// Reads nothing yet.
    pub(crate) fn new(parts: PastParts) -> Self {
        Self { parts, shared: Shared::default() }
    }

    /// The page as JSON.
    pub(in crate::http) async fn page(
        &self,
        asked: &PageAsked,
        before: Option<Before>,
    ) -> Answer<HistoryError> {
        let places = self.places(asked);
        match before {
            // Who looks further back does so alone.
            Some(_) => self.read(asked, places, before).await.answer,
            None => {
                let look = self.look(places.clone());
                self.shared.ask(asked, look, self.read(asked, places, None)).await
            }
        }
    }

    /// Where lines of the two topics lie: where the bindings store them, and where other programs may write.
    fn places(&self, asked: &PageAsked) -> Vec<RoomQuery> {
        let (rules, room) = (&self.parts.rules, asked.room.as_str());
        let mut places: Vec<RoomQuery> = asked
            .topics(&self.parts.parent)
            .into_iter()
            .filter_map(|topic| rules.topic_query(room, &topic))
            .collect();
        let all = rules.room_queries(room).unwrap_or_default();
        places.extend(all.into_iter().filter(|place| place.shared));
        places
    }

    /// How far each queue reaches; `None`: that cannot be known now.
    async fn look(&self, places: Vec<RoomQuery>) -> Option<Vec<QueueStands>> {
        let topics: BTreeSet<String> = places.into_iter().map(|place| place.topic).collect();
        let asked = futures::future::try_join_all(topics.iter().map(|topic| self.look_at(topic)));
        let stands = tokio::time::timeout(TIME, asked).await.ok()?.ok()?;
        Some(stands.concat())
    }

    async fn look_at(&self, topic: &str) -> Result<Vec<QueueStands>, ReadError> {
        let rocketmq = &self.parts.rocketmq;
        let queues = match rocketmq.queues(topic).await {
            Err(error) if error.kind == FailureKind::TopicMissing => Vec::new(),
            queues => queues?,
        };
        let asked = queues.into_iter().map(async |queue| {
            let offsets = rocketmq.offsets(topic, &queue).await?;
            Ok((topic.to_owned(), queue, offsets))
        });
        futures::future::try_join_all(asked).await
    }

    async fn reader(&self) -> Option<KeptByRocketMq> {
        let (store, folder) = self.parts.archive.clone()?;
        let opened = tokio::task::spawn_blocking(move || Index::open(&folder).ok().flatten()).await;
        // Without it the same is read, only slower.
        let index = opened.ok().flatten()?;
        let rocketmq = &self.parts.rocketmq;
        let whole = Whole::new(rocketmq.clone(), store).with_index(Some(Arc::new(index)));
        Some(KeptByRocketMq::new(rocketmq.clone(), whole))
    }

    async fn read(
        &self,
        asked: &PageAsked,
        places: Vec<RoomQuery>,
        before: Option<Before>,
    ) -> Read<HistoryError> {
        let [message, notice] = asked.all_topics(&self.parts.parent);
        // Compares whole topics, because a message below the send topic was not judged yet and must not be shown.
        let kind_of = |record: &Record| match &record.mqtt_topic {
            topic if *topic == message => Some("message"),
            topic if *topic == notice => Some("notice"),
            _ => None,
        };
        let query = HistoryQuery {
            places,
            rules: Some(self.parts.rules.clone()),
            from_ms: asked.since_ms,
            partial: true,
            ..HistoryQuery::default()
        };
        let wanted = LatestQuery {
            query,
            wanted: &|record| kind_of(record).is_some_and(|kind| kind == "message" || asked.notices),
            limit: asked.limit,
            before,
            time: TIME,
            now_ms: self.parts.clock.wall_ms(),
        };
        let by_index = self.reader().await;
        let reader: &dyn Reader = match &by_index {
            Some(reader) => reader,
            None => &*self.parts.rocketmq,
        };
        match latest(reader, wanted).await {
            Ok(found) => shown(found, kind_of),
            // Nothing was stored there yet.
            Err(HistoryError::NoTopic { .. }) => shown(Latest::default(), kind_of),
            Err(error) => Read { answer: Err(Arc::new(error)), counts_again: false },
        }
    }
}

impl PageAsked {
    fn all_topics(&self, parent: &str) -> [String; 2] {
        [ClassTopic::Room(self.room.clone()), ClassTopic::System].map(|topic| topic.topic(parent))
    }

    fn topics(&self, parent: &str) -> Vec<String> {
        let [message, notice] = self.all_topics(parent);
        if self.notices { vec![message, notice] } else { vec![message] }
    }
}

fn shown(latest: Latest, kind_of: impl Fn(&Record) -> Option<&'static str>) -> Read<HistoryError> {
    let line = |record: Record| {
        let kind = kind_of(&record)?;
        let place = || format!("{}/{}/{}", record.broker, record.queue_id, record.queue_offset);
        Some(HistoryLine {
            id: record.id.map_or_else(place, |id| id.to_string()),
            sender: record.client_id,
            time: record.time_ms,
            body: String::from_utf8_lossy(&record.bytes).into_owned(),
            kind,
        })
    };
    // What is not handed out is so until the topic has other queues, which a look at them shows. If such an answer did not count again,
    // each pupil who joins would be a reading until somebody mends the topic.
    let counts_again = !latest.ran_out_of_time && latest.away.is_empty();
    let is_withheld = latest.missing.iter().any(|missing| missing.withheld() > 0);
    let answer = HistoryAnswer {
        messages: latest.records.into_iter().filter_map(line).collect(),
        truncated: latest.before.is_some(),
        complete: counts_again && !is_withheld,
        away: latest.away,
        before: latest.before.map(|before| before.to_string()),
    };
    // Text and numbers only, which always can be written.
    let json = serde_json::to_vec(&answer).unwrap_or_default();
    Read { answer: Ok(Bytes::from(json)), counts_again }
}
