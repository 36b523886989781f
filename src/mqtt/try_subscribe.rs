//! The subscriptions of a bridge, tried by `roombridge check --connect` and taken back.
//!
//! The code of a running bridge decides what is asked for, and in which order: no filter that a wider one covers, and none with a
//! subscription identifier where the broker refuses those.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::limits::Limits;
use super::subscriptions::{SubscriptionAction, SubscriptionRequest, Subscriptions};
use super::target::Target;
use super::wire::{FromBroker, PublishVerdict, Suback, SubscribeVerdict, ToBroker};
use crate::config::MqttConfig;
use crate::model::{MqttMessage, Qos, TopicFilter};

/// For each answer, and for the message to come.
const ANSWER: Duration = Duration::from_secs(10);
/// A check that dies leaves a session with subscriptions, which must not gather messages.
const SESSION_S: u32 = 5;
const GOODBYE: Duration = Duration::from_secs(1);
const CANARY_PACKET: u16 = u16::MAX;

/// What a broker says to the bridge's subscriptions.
#[derive(Debug)]
pub(crate) struct Tried {
    /// Each filter that a bridge asks for, and what was granted, or what is wrong.
    pub filters: Vec<(String, Result<Qos, String>)>,
    /// What a running bridge would warn of, beside what is wrong.
    pub warnings: Vec<String>,
    /// Whether the message came that was published; `None`: none was. One that no subscription would bring is not published.
    pub canary: Option<Result<(), String>>,
}

/// Subscribes under a client id of its own, with the CONNECT of a bridge, and publishes `canary` if there is one.
pub(crate) async fn try_subscribe(
    config: &MqttConfig,
    filters: &[TopicFilter],
    canary: Option<&MqttMessage>,
) -> anyhow::Result<Tried> {
    let client_id = format!("{}-check-{}", config.client_id, std::process::id());
    let mut target = Target::with_new_session(config, &client_id)?;
    target.connect.session_expiry_s = Some(SESSION_S);
    let (connection, connack) = Connection::open(&target).await.context("could not connect again")?;
    let limits = connack.limits;
    let mut identifier = 0;
    let mut subscriptions = Subscriptions::new(filters, Vec::new(), &[], || {
        identifier += 1;
        identifier
    });
    subscriptions.connected(false, limits.identifiers_available, |filter| limits.forbids(filter));
    let mut trial = Trial {
        connection,
        limits,
        subscriptions,
        last_packet_id: 0,
        asked: Vec::new(),
        canary,
        has_come: false,
    };
    trial.subscribe().await?;
    let canary = match canary {
        Some(message) if trial.brings(&message.topic) => Some(trial.publish(message).await?),
        Some(_) | None => None,
    };
    let (filters, warnings) = (trial.answers(), trial.warnings());
    trial.end().await;
    Ok(Tried { filters, warnings, canary })
}

struct Trial<'a> {
    connection: Connection,
    limits: Limits,
    subscriptions: Subscriptions,
    last_packet_id: u16,
    /// Each SUBSCRIBE, and what the broker answered.
    asked: Vec<(SubscriptionRequest, Option<SubscribeVerdict>)>,
    canary: Option<&'a MqttMessage>,
    /// The canary, back from the broker.
    has_come: bool,
}

impl Trial<'_> {
    /// Until each SUBSCRIBE that a bridge would send is answered, or the broker is silent.
    async fn subscribe(&mut self) -> anyhow::Result<()> {
        loop {
            self.ask_for_what_is_due()?;
            if self.asked.iter().all(|(_, verdict)| verdict.is_some()) {
                return Ok(());
            }
            let Ok(suback) = timeout_at(Instant::now() + ANSWER, self.next_answer()).await else {
                return Ok(());
            };
            let suback = suback?;
            let mut asked = self.asked.iter_mut();
            if let Some((_, verdict)) = asked.find(|(request, _)| request.packet_id == suback.packet_id) {
                *verdict = Some(suback.verdict.clone());
            }
            self.subscriptions.subscribed(suback);
        }
    }

    fn ask_for_what_is_due(&mut self) -> anyhow::Result<()> {
        let last_packet_id = &mut self.last_packet_id;
        let due = self.subscriptions.due(|| {
            *last_packet_id += 1;
            *last_packet_id
        });
        for request in due {
            // A new session has nothing to unsubscribe from.
            let SubscriptionAction::Subscribe(identifier) = request.action else { continue };
            let (packet_id, filter) = (request.packet_id, request.filter.clone());
            self.connection.push(&ToBroker::Subscribe { packet_id, filter, identifier })?;
            self.asked.push((request, None));
        }
        Ok(())
    }

    /// The next answer to a SUBSCRIBE that has none.
    async fn next_answer(&mut self) -> anyhow::Result<Suback> {
        loop {
            if let FromBroker::Suback(suback) = self.next().await?
                && self.is_waited_for(suback.packet_id)
            {
                return Ok(suback);
            }
        }
    }

    fn is_waited_for(&self, packet_id: u16) -> bool {
        self.asked.iter().any(|(request, verdict)| request.packet_id == packet_id && verdict.is_none())
    }

    fn granted(&self) -> impl Iterator<Item = &SubscriptionRequest> {
        let is_granted =
            |verdict: &Option<SubscribeVerdict>| matches!(verdict, Some(SubscribeVerdict::Granted(_)));
        self.asked.iter().filter(move |(_, verdict)| is_granted(verdict)).map(|(request, _)| request)
    }

    /// Whether a subscription was granted that brings messages of this topic.
    fn brings(&self, topic: &str) -> bool {
        let matches = |filter: &str| TopicFilter::parse(filter).is_ok_and(|filter| filter.matches(topic));
        self.granted().any(|request| matches(&request.filter))
    }

    /// The last answer to each filter that was asked for.
    fn answers(&self) -> Vec<(String, Result<Qos, String>)> {
        let mut answers: Vec<(String, Result<Qos, String>)> = Vec::new();
        for (request, verdict) in &self.asked {
            let answer = match verdict {
                Some(SubscribeVerdict::Granted(qos)) => Ok(*qos),
                Some(
                    SubscribeVerdict::IdentifiersNotSupported(reason)
                    | SubscribeVerdict::Refused(reason)
                    | SubscribeVerdict::Unclear(reason),
                ) => Err(format!(
                    "the broker refuses it: {reason}; check its access rules for mqtt.username, and its limits"
                )),
                None => Err(format!("the broker does not answer within {} s; see its log", ANSWER.as_secs())),
            };
            answers.retain(|(filter, _)| *filter != request.filter);
            answers.push((request.filter.clone(), answer));
        }
        answers
    }

    /// The sentences of a running bridge, but for those about what [`Self::answers`] calls wrong.
    fn warnings(&self) -> Vec<String> {
        let wrong = self.subscriptions.missing();
        let is_about_it = |sentence: &String| wrong.iter().any(|filter| sentence.contains(filter.as_str()));
        let complaints = self.subscriptions.complaints();
        complaints.into_iter().filter(|sentence| !is_about_it(sentence)).collect()
    }

    async fn publish(&mut self, message: &MqttMessage) -> anyhow::Result<Result<(), String>> {
        let packet_id = if self.limits.maximum_qos == Qos::AtMostOnce { 0 } else { CANARY_PACKET };
        self.connection.push(&ToBroker::Publish { message, packet_id, expiry_s: Some(SESSION_S) })?;
        let deadline = Instant::now() + ANSWER;
        while !self.has_come {
            let Ok(packet) = timeout_at(deadline, self.next()).await else {
                return Ok(Err(format!(
                    "the message was published and did not come back within {} s; give the user of mqtt.username the right to read \
                     this topic",
                    ANSWER.as_secs()
                )));
            };
            if let FromBroker::Puback(puback) = packet? {
                match puback.verdict {
                    PublishVerdict::Accepted => {}
                    PublishVerdict::NotPermitted(reason)
                    | PublishVerdict::Refused(reason)
                    | PublishVerdict::TooLarge(reason)
                    | PublishVerdict::NotNow(reason) => {
                        return Ok(Err(format!("the broker does not take the message: {reason}")));
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// The next packet; a message is noted and acknowledged.
    async fn next(&mut self) -> anyhow::Result<FromBroker> {
        loop {
            let Some(packet) = self.connection.next_packet()? else {
                self.connection.serve(true).await?;
                continue;
            };
            if let FromBroker::Refused(refusal) = packet {
                bail!(refusal);
            }
            if let FromBroker::Publish(publish) = &packet {
                let is_canary =
                    |canary: &MqttMessage| canary.topic == publish.topic && canary.payload == publish.payload;
                self.has_come |= self.canary.is_some_and(is_canary);
                if publish.qos == Qos::AtLeastOnce {
                    self.connection.push(&ToBroker::Ack { packet_id: publish.packet_id })?;
                }
            }
            return Ok(packet);
        }
    }

    /// Takes the subscriptions back, and ends the session.
    async fn end(mut self) {
        let granted: Vec<_> =
            self.granted().map(|request| (request.packet_id, request.filter.clone())).collect();
        for (packet_id, filter) in granted {
            let _ = self.connection.push(&ToBroker::Unsubscribe { packet_id, filter });
        }
        if self.connection.push(&ToBroker::Goodbye { ends_session: true }).is_ok() {
            let _ = tokio::time::timeout(GOODBYE, self.connection.finish()).await;
        }
    }
}
