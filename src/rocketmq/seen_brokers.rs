//! Remembers which brokers had queues of a topic, and finds out which of them are away.
//!
//! The name server forgets a broker that is away, together with its topics, so the rest of a route looks complete.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::remoting::Route;
use crate::model::KnownBrokers;

/// The brokers that earlier processes saw, and those of each route since.
#[derive(Default)]
pub(super) struct SeenBrokers(Mutex<KnownBrokers>);

impl SeenBrokers {
    pub(super) fn new(known: KnownBrokers) -> Self {
        Self(Mutex::new(known))
    }

    pub(super) fn note(&self, topic: &str, route: &Route) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(topic.to_owned()).or_default();
        for queues in &route.queue_datas {
            if !known.contains(&queues.broker_name) {
                known.insert(queues.broker_name.clone());
            }
        }
    }

    pub(super) fn of(&self, topic: &str) -> BTreeSet<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(topic).cloned().unwrap_or_default()
    }
}
