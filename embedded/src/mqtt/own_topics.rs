//! Subscribes each client to its own topics, `{parent}/p2p/{client id}`, so that their messages reach it without a
//! subscription of its own, as on the vendor's service.
//!
//! Promises: QoS 1, for each session; for an absent client as long as its session is kept, even after a restart. If the
//! client itself subscribes to the topic, its subscription replaces ours, so nothing comes twice.
//! Must never subscribe anybody but the client whose id is the last level of the topic.

use mqtt5::QoS;
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::storage::{ClientSession, StorageBackend, StoredSubscription};

use super::broker::Broker;

const NOT_KEPT: Option<u32> = Some(0);

impl Broker {
    fn own_topics(&self, client_id: &str) -> impl Iterator<Item = String> {
        self.client_policy.p2p_parents.iter().map(move |parent| format!("{parent}/p2p/{client_id}"))
    }

    pub(super) fn is_own_topic(&self, client_id: &str, filter: &str) -> bool {
        self.own_topics(client_id).any(|topic| topic == filter)
    }

    /// Subscribes the client's own topics that are missing or have QoS 0.
    pub(super) async fn keep_own_topics(&self, client_id: &str, protocol_version: u8) {
        if self.client_policy.p2p_parents.is_empty() {
            return;
        }
        // Locked, so that nobody takes the session over or ends it in between.
        let _slot = self.router.lock_session(client_id).await;
        if !self.router.is_connected(client_id).await {
            return;
        }
        let session = self.session(client_id).await;
        let is_kept = |topic: &String| {
            let stored = session.as_ref().and_then(|session| session.subscriptions.get(topic));
            stored.is_some_and(|stored| stored.qos != QoS::AtMostOnce)
        };
        let missing: Vec<_> = self.own_topics(client_id).filter(|topic| !is_kept(topic)).collect();
        let mut subscription = StoredSubscription::new(QoS::AtLeastOnce);
        subscription.protocol_version = protocol_version;
        for topic in &missing {
            let request = MessageRouter::stored_subscription_request(client_id, topic, &subscription);
            if let Err(error) = self.router.subscribe(request).await {
                tracing::error!(%error, topic, "a client's own topic could not be subscribed");
            }
        }
        if let Some(session) = session
            && session.expiry_interval != NOT_KEPT
            && !missing.is_empty()
        {
            self.store(&session, missing, &subscription).await;
        }
    }

    async fn store(&self, session: &ClientSession, topics: Vec<String>, subscription: &StoredSubscription) {
        let stored = self
            .storage
            .update_session(&session.client_id, session.connection_token, |session| {
                for topic in topics {
                    session.add_subscription(topic, subscription.clone());
                }
            })
            .await;
        if let Err(error) = stored {
            tracing::error!(%error, client_id = session.client_id, "a client's own topics are lost at a restart");
        }
    }

    /// Makes this user the owner of the stored session. The crate resumes a session only for its owner, but our user ids name
    /// the connection, so they differ each time. Whether the client may have the session was decided at its admission.
    pub(super) async fn let_resume(&self, client_id: &str, user_id: Option<&str>) {
        let _slot = self.router.lock_session(client_id).await;
        let Some(session) = self.session(client_id).await else {
            return;
        };
        if session.user_id.as_deref() == user_id {
            return;
        }
        let stored = self
            .storage
            .update_session(client_id, session.connection_token, |session| {
                session.user_id = user_id.map(str::to_owned);
            })
            .await;
        if let Err(error) = stored {
            tracing::error!(%error, client_id, "a session cannot be resumed");
        }
    }

    /// The filters of a session that is resumed, without the client's own topics.
    pub(super) async fn restored_filters(&self, client_id: &str) -> Vec<String> {
        let Some(session) = self.session(client_id).await else {
            return Vec::new();
        };
        let mut filters: Vec<_> = session
            .subscriptions
            .into_keys()
            .filter(|filter| !self.is_own_topic(client_id, filter))
            .collect();
        filters.sort_unstable();
        filters
    }

    async fn session(&self, client_id: &str) -> Option<ClientSession> {
        match self.storage.get_session(client_id).await {
            Ok(session) => session,
            Err(error) => {
                tracing::error!(%error, client_id, "a session cannot be read");
                None
            }
        }
    }
}
