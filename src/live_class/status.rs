//! Status: takes the MQTT broker's notices about clients, from the documented RocketMQ topics or directly, and tells the rooms.

use bytes::Bytes;
use serde::Serialize;

use super::LiveClass;
use crate::binding::own_record;
use crate::classroom::{Delivery, PresenceChange, PresenceEvent, derived_id, status_event};
use crate::consumer::QueuePosition;
use crate::model::{ClientId, StoredMessage};

/// The documented RocketMQ topics with status notices are called `{group}_MQTT`.
const STATUS_SUFFIX: &str = "_MQTT";

/// What the embedded broker reports of a client, in order for each client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientNews {
    /// Whom it is about.
    pub client_id: String,
    /// Names one TCP connection.
    pub channel_id: String,
    /// The client's address and port.
    pub remote: String,
    /// When it happened, milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// What happened.
    pub what: NewsKind,
}

/// What happened to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewsKind {
    /// Its connection was accepted.
    Connected,
    /// It sent DISCONNECT.
    Disconnected,
    /// Its TCP connection is closed; this also follows a DISCONNECT.
    Gone,
    /// To these topic filters.
    Subscribed(Vec<String>),
    /// From these topic filters.
    Unsubscribed(Vec<String>),
}

/// The documented body of a status notice.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notice<'a> {
    client_id: &'a str,
    time: u64,
    event_type: &'static str,
    channel_id: &'a str,
    client_ip: &'a str,
}

impl LiveClass {
    /// The RocketMQ topics with status notices about the clients of these groups.
    pub(crate) fn status_topics(groups: &[String]) -> Vec<String> {
        groups.iter().map(|group| format!("{group}{STATUS_SUFFIX}")).collect()
    }

    /// Takes a report of the embedded broker. Connects and ends are stored in the documented topics and act when they come
    /// back from there; subscriptions, which have no documented form, act at once.
    pub(super) async fn take_news(&mut self, news: ClientNews) {
        let Some(client) = ClientId::parse(&news.client_id) else {
            return;
        };
        let event_type = match news.what {
            NewsKind::Connected => "connect",
            NewsKind::Disconnected => "disconnect",
            NewsKind::Gone => "tcpclean",
            NewsKind::Subscribed(filters) => {
                return self
                    .change_presence(
                        &client,
                        &news.channel_id,
                        news.at_ms,
                        PresenceChange::Subscribed(filters),
                    )
                    .await;
            }
            NewsKind::Unsubscribed(filters) => {
                return self
                    .change_presence(
                        &client,
                        &news.channel_id,
                        news.at_ms,
                        PresenceChange::Unsubscribed(filters),
                    )
                    .await;
            }
        };
        let notice = Notice {
            client_id: &news.client_id,
            time: news.at_ms,
            event_type,
            channel_id: &news.channel_id,
            client_ip: &news.remote,
        };
        let body = Bytes::from(serde_json::to_vec(&notice).unwrap_or_default());
        match client.group().filter(|group| self.is_followed(group)) {
            Some(group) => {
                let id = derived_id(&format!("{} {event_type}", news.channel_id), 0);
                let topic = format!("{group}{STATUS_SUFFIX}");
                let record = own_record(&topic, event_type, None, &news.client_id, id, body);
                self.send(None, vec![record]).await;
            }
            // The classroom does not know the client's group. The client is present all the same, but a name that anybody
            // can choose must not create a RocketMQ topic.
            None => self.notice(&body).await,
        }
    }

    fn is_followed(&self, group: &str) -> bool {
        let config = &self.parts.config;
        let mut groups = config.teacher_groups.iter().chain(&config.student_groups);
        groups.any(|known| known == group)
    }

    /// Takes a notice that came from RocketMQ.
    pub(super) async fn broker_notice(&mut self, place: QueuePosition, message: &StoredMessage) {
        self.notice(&message.body).await;
        self.end(Some(place));
    }

    async fn notice(&mut self, body: &Bytes) {
        match status_event(body) {
            Ok(event) => {
                let now_ms = self.parts.clock.wall_ms();
                let update = self.presence.apply(&event, now_ms);
                let status = self.coalescer.offer(Some(body.clone()), &update, &self.presence, now_ms);
                self.send_status(status).await;
            }
            Err(problem) => tracing::debug!(%problem, "a status notice cannot be read; it is left out"),
        }
    }

    async fn change_presence(&mut self, client: &ClientId, channel: &str, at_ms: u64, what: PresenceChange) {
        let event = PresenceEvent { client: client.clone(), channel: channel.into(), at_ms, change: what };
        let now_ms = self.parts.clock.wall_ms();
        let update = self.presence.apply(&event, now_ms);
        let status = self.coalescer.offer(None, &update, &self.presence, now_ms);
        self.send_status(status).await;
    }

    pub(super) async fn send_status(&mut self, status: impl IntoIterator<Item = Delivery>) {
        for delivery in status {
            let source = self.parts.ids.next_id().to_string();
            let now_ms = self.parts.clock.wall_ms();
            let message = self.delivery((&source, now_ms), None, &delivery);
            self.send(None, message.into_iter().collect()).await;
        }
    }
}
