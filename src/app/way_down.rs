//! Starts the downlink, from RocketMQ to MQTT: a follower, a task that binds, and an MQTT connection of its own.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::BridgeParts;
use crate::consumer::{Follower, FollowerParts, Item, OPEN_MESSAGES, QueuePosition, Topic, Wakes};
use crate::downlink::{Downlink, DownlinkParts};
use crate::lifecycle::Lifecycle;
use crate::mqtt::DownlinkPublisher;
use crate::pipeline::DeadLetters;
use crate::rocketmq::RocketMqReader;

/// Bound of the items that wait: as many as may be open, and a page more.
const ITEMS: usize = OPEN_MESSAGES + 64;

/// A follower at its position, with the channels to the task that takes its items.
pub(super) struct Followed {
    pub follower: Follower,
    pub items: mpsc::Receiver<Item>,
    pub ended: mpsc::UnboundedSender<QueuePosition>,
}

impl BridgeParts {
    /// Makes a follower of these topics. Its positions are kept under `name`.
    pub(super) async fn follow(
        &self,
        name: &'static str,
        topics: Vec<Topic>,
        reader: &Arc<RocketMqReader>,
        wakes: Wakes,
    ) -> anyhow::Result<Followed> {
        let (items, taken) = mpsc::channel(ITEMS);
        let (ended, endings) = mpsc::unbounded_channel();
        let mut follower = Follower::new(FollowerParts {
            name,
            topics,
            reader: reader.clone(),
            data_dir: self.data_dir.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            items,
            ended: endings,
            wakes,
        })?;
        follower.begin().await;
        Ok(Followed { follower, items: taken, ended })
    }

    pub(super) async fn start_downlink(
        &self,
        lifecycle: &Lifecycle,
        reader: &Arc<RocketMqReader>,
        dead_letters: &Arc<DeadLetters>,
        wakes: Wakes,
    ) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let downlinks = &self.config.downlinks;
        if downlinks.is_empty() {
            return Ok(Vec::new());
        }
        let (publisher, publishings) = mpsc::channel(ITEMS);
        let (publish_ends, published) = mpsc::unbounded_channel();
        let topics = downlinks
            .iter()
            .map(|downlink| Topic { name: downlink.topic.as_str().into(), start: downlink.start });
        let Followed { follower, items, ended } =
            self.follow("downlink", topics.collect(), reader, wakes).await?;
        let parents: HashMap<_, _> =
            downlinks.iter().map(|downlink| (downlink.topic.clone(), downlink.mqtt_topic.clone())).collect();
        let downlink = Downlink::new(DownlinkParts {
            rules: self.rules.clone(),
            parents,
            items,
            ended,
            publisher,
            published,
            dead_letters: dead_letters.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        });
        let connection =
            DownlinkPublisher::new(&self.config.mqtt, publishings, publish_ends, self.metrics.clone())?;
        let stop_now = || lifecycle.stop_now.clone();
        Ok(vec![
            lifecycle.spawn("the downlink's follower", follower.run(lifecycle.drain.clone(), stop_now())),
            lifecycle.spawn("the downlink", downlink.run(stop_now())),
            lifecycle.spawn("the downlink's connection", connection.run(stop_now())),
        ])
    }
}
