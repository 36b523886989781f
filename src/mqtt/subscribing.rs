//! The session's side of its subscriptions: what is asked for, written down before, and told to people.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, Packet, Publish, RetainForwardRule, Subscribe, SubscribeProperties, Unsubscribe,
};

use super::incoming::SubAck;
use super::session::{MustReconnect, Session};
use super::subscriptions::{SubscriptionAction, SubscriptionAnswer, SubscriptionRequest};
use crate::data_dir::Saving;
use crate::pipeline::Intake;

impl Session {
    /// What is due on this connection, as packets, and whether the state has changed, which must be on the disk before they leave.
    pub(super) fn asks(&mut self) -> (Vec<Packet>, bool) {
        let outbox = &mut self.outbox;
        let asks = self.subscriptions.due(|| outbox.next_packet_id());
        let kept = self.subscriptions.take_changed();
        let changed = kept.is_some();
        if let Some(kept) = kept {
            let state = &mut self.parts.state;
            let subscribed = kept.iter().filter(|kept| kept.asked.is_some());
            state.filters = subscribed.map(|kept| kept.filter.clone()).collect();
            state.subscriptions = kept;
        }
        (asks.into_iter().map(packet).collect(), changed)
    }

    /// Sends what is due, and says what does not come. What is to be written first, if there is anything: then
    /// [`Self::written`] sends it. Messages do not wait for it.
    #[must_use]
    pub(crate) fn go_on_asking(&mut self) -> Option<Saving> {
        let (asks, changed) = self.asks();
        let waits = changed || !self.waiting.is_empty();
        self.waiting.extend(asks);
        if !waits {
            self.written();
        }
        self.report_subscriptions();
        changed.then(|| self.parts.data_dir.save_session(&self.parts.state))
    }

    /// The disk has everything that was asked for.
    pub(crate) fn written(&mut self) {
        for packet in std::mem::take(&mut self.waiting) {
            self.push(&packet);
        }
        self.report_subscriptions();
    }

    pub(crate) fn subscribed(&mut self, suback: &SubAck) -> Option<Saving> {
        self.subscriptions.subscribed(SubscriptionAnswer {
            packet_id: suback.packet_id,
            codes: &codes(suback),
            told: &told(suback),
        });
        self.go_on_asking()
    }

    pub(crate) fn unsubscribed(&mut self, unsuback: &SubAck) -> Option<Saving> {
        self.subscriptions.unsubscribed(SubscriptionAnswer {
            packet_id: unsuback.packet_id,
            codes: &codes(unsuback),
            told: &told(unsuback),
        });
        self.go_on_asking()
    }

    /// Asks again for what is refused, without waiting for the end of the pause.
    pub(crate) fn ask_now(&mut self) {
        self.subscriptions.ask_now();
    }

    /// One PUBLISH came. It waits while it is not known yet which subscriptions a kept session still has.
    pub(crate) fn published(&mut self, publish: Publish, intake: &Intake) -> Result<(), MustReconnect> {
        if !self.is_holding() {
            return self.take_in(publish, intake);
        }
        self.held.push_back(publish);
        if self.held.len() < usize::from(self.parts.receive_maximum) {
            return Ok(());
        }
        // A broker that goes on is judged as it is, and in doubt its messages are stored.
        self.waits_for_answers = false;
        self.release_held(Some(intake))
    }

    /// What has waited, if the wait is over. Without an intake nothing new is taken in.
    pub(crate) fn release_held(&mut self, intake: Option<&Intake>) -> Result<(), MustReconnect> {
        while !self.is_holding()
            && let Some(publish) = self.held.pop_front()
        {
            match intake {
                Some(intake) => self.take_in(publish, intake)?,
                None => self.redelivered(publish),
            }
        }
        Ok(())
    }

    fn is_holding(&self) -> bool {
        self.waits_for_answers && self.subscriptions.is_unsure()
    }

    pub(super) fn report_subscriptions(&self) {
        let readiness = &self.parts.readiness;
        readiness.set_mqtt_subscribed(self.subscriptions.are_complete());
        for news in readiness.set_subscription_problems(self.subscriptions.complaints()) {
            tracing::warn!("{news}");
        }
    }
}

/// Retain Handling 2 keeps stored copies of retained messages away, Retain As Published keeps the flag of live ones.
fn packet(ask: SubscriptionRequest) -> Packet {
    match ask.action {
        SubscriptionAction::Subscribe(identifier) => {
            tracing::info!(filter = ask.filter, "subscribing");
            let mut filter = Filter::new(ask.filter, QoS::AtLeastOnce);
            filter.preserve_retain = true;
            filter.retain_forward_rule = RetainForwardRule::Never;
            let properties = identifier.map(|identifier| SubscribeProperties {
                id: usize::try_from(identifier).ok(),
                user_properties: Vec::new(),
            });
            let mut subscribe = Subscribe::new(filter, properties);
            subscribe.pkid = ask.packet_id;
            Packet::Subscribe(subscribe)
        }
        SubscriptionAction::Unsubscribe => {
            tracing::info!(filter = ask.filter, "unsubscribing: nothing needs the filter any more");
            let mut unsubscribe = Unsubscribe::new(ask.filter, None);
            unsubscribe.pkid = ask.packet_id;
            Packet::Unsubscribe(unsubscribe)
        }
    }
}

fn codes(suback: &SubAck) -> Vec<u8> {
    suback.reasons.iter().map(|reason| reason.0).collect()
}

/// The reason and the broker's own words.
fn told(suback: &SubAck) -> String {
    let reason = suback.reasons.first().map(ToString::to_string).unwrap_or_default();
    match &suback.words {
        Some(words) => format!("{reason}: {words:?}"),
        None => reason,
    }
}
