//! The session's side of its subscriptions: which requests are sent, what the disk must have before, and what people are told.

use super::Session;
use crate::data_dir::SessionState;
use crate::mqtt::subscriptions::{SubscriptionAction, SubscriptionRequest};
use crate::mqtt::wire::{Suback, ToBroker, Unsuback};

impl Session {
    /// The requests that are due on this connection, and whether they have changed the state, which must be on the disk before
    /// they leave.
    pub(super) fn due_requests(&mut self) -> (Vec<ToBroker<'static>>, bool) {
        let last_packet_id = &mut self.last_packet_id;
        let requests = self.subscriptions.due(|| {
            *last_packet_id = last_packet_id.checked_add(1).unwrap_or(1);
            *last_packet_id
        });
        let kept = self.subscriptions.take_changed();
        let changed = kept.is_some();
        if let Some(kept) = kept {
            let state = &mut self.parts.state;
            let subscribed = kept.iter().filter(|kept| kept.asked.is_some());
            state.filters = subscribed.map(|kept| kept.filter.clone()).collect();
            state.subscriptions = kept;
        }
        (requests.into_iter().map(packet).collect(), changed)
    }

    /// Sends the requests that are due, and tells people which subscriptions are refused. Returns the state if the disk must have
    /// it first; then [`Self::state_written`] sends them. Messages do not wait for it.
    #[must_use]
    pub fn send_due_requests(&mut self) -> Option<&SessionState> {
        let (requests, changed) = self.due_requests();
        let must_wait = changed || !self.unsent_requests.is_empty();
        self.unsent_requests.extend(requests);
        if !must_wait {
            self.state_written();
        }
        self.report_subscriptions();
        changed.then_some(&self.parts.state)
    }

    /// The disk has the state with all requests so far.
    pub fn state_written(&mut self) {
        self.outgoing.append(&mut self.unsent_requests);
        self.report_subscriptions();
    }

    /// The broker answered a SUBSCRIBE. As with [`Self::send_due_requests`], the disk may have to have the state.
    #[must_use]
    pub fn subscribed(&mut self, suback: Suback) -> Option<&SessionState> {
        self.subscriptions.subscribed(suback);
        self.send_due_requests()
    }

    /// The broker answered an UNSUBSCRIBE. As with [`Self::send_due_requests`], the disk may have to have the state.
    #[must_use]
    pub fn unsubscribed(&mut self, unsuback: Unsuback) -> Option<&SessionState> {
        self.subscriptions.unsubscribed(unsuback);
        self.send_due_requests()
    }

    /// Ends the pauses before refused requests: they are due at once.
    pub(crate) fn retry_refused_now(&mut self) {
        self.subscriptions.retry_now();
    }

    /// The filters whose SUBSCRIBE has no answer, quoted.
    pub(crate) fn unanswered_filters(&self) -> Vec<String> {
        self.subscriptions.unanswered()
    }

    pub(super) fn report_subscriptions(&self) {
        let readiness = &self.parts.readiness;
        readiness.set_mqtt_subscribed(self.subscriptions.are_complete());
        readiness.set_filters_missing(self.subscriptions.missing());
        for news in readiness.set_subscription_problems(self.subscriptions.complaints()) {
            tracing::warn!("{news}");
        }
    }
}

fn packet(request: SubscriptionRequest) -> ToBroker<'static> {
    let SubscriptionRequest { packet_id, filter, action } = request;
    match action {
        SubscriptionAction::Subscribe(identifier) => {
            tracing::info!(filter, "subscribing");
            ToBroker::Subscribe { packet_id, filter, identifier }
        }
        SubscriptionAction::Unsubscribe => {
            tracing::info!(filter, "unsubscribing: nothing needs the filter any more");
            ToBroker::Unsubscribe { packet_id, filter }
        }
    }
}
