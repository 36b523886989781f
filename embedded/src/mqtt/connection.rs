//! One TCP connection and what it may do. The broker's hooks get a client id only, so each connection has hooks of its own;
//! that is how rights and events belong to a connection.
//!
//! Promises: a client id that could mean more than one client is refused. The access control is asked before a session is
//! touched, and hears once when an admitted connection has ended.
//! Must never decide by a client id.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::future::BoxFuture;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::events::{
    BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent, ClientSubscribeEvent,
    ClientUnsubscribeEvent, SubAckReasonCode,
};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use mqtt5::{strip_shared_subscription_prefix, validate_topic_name};

use super::broker::Broker;
use super::stage::{ConnectionStage, Stage};
use super::turns::Turn;
use crate::access::{Admission, ClientEvent, ClientEventKind, ConnectRequest};

const MQTT_3_1_1: u8 = 4;
const GRANTED: [SubAckReasonCode; 3] =
    [SubAckReasonCode::GrantedQoS0, SubAckReasonCode::GrantedQoS1, SubAckReasonCode::GrantedQoS2];

pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) remote: SocketAddr,
    pub(super) stage: Arc<ConnectionStage>,
    pub(super) broker: Arc<Broker>,
    channel_id: String,
    admitted: OnceLock<Admitted>,
    /// Held from the admission to the CONNACK.
    turn: Mutex<Option<Turn>>,
    announced: AtomicBool,
}

struct Admitted {
    client_id: String,
    protocol_version: u8,
    will_topic: Option<String>,
}

impl Connection {
    pub(super) fn new(broker: Arc<Broker>, remote: SocketAddr) -> Self {
        let (number, channel_id) = broker.next_connection();
        Self {
            number,
            remote,
            stage: Arc::new(ConnectionStage::new()),
            broker,
            channel_id,
            admitted: OnceLock::new(),
            turn: Mutex::default(),
            announced: AtomicBool::new(false),
        }
    }

    /// `None` until it is admitted.
    pub(super) fn client_id(&self) -> Option<&str> {
        self.admitted.get().map(|admitted| admitted.client_id.as_str())
    }

    /// Admits the client, and gives the user id that receivers see: `LABEL#CONNECTION`.
    async fn admit(&self, connect: &ConnectPacket) -> Result<Option<String>, ReasonCode> {
        if !is_legal_client_id(&connect.client_id) {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        let will_topic = connect.will.as_ref().map(|will| will.topic.as_str());
        // The crate does not check this. A will on `room/#` would reach subscribers as a malformed message.
        if will_topic.is_some_and(|topic| validate_topic_name(topic).is_err()) {
            return Err(ReasonCode::TopicNameInvalid);
        }
        let user_id = self.ask_access_control(connect, will_topic)?;
        self.admitted.get_or_init(|| Admitted {
            client_id: connect.client_id.clone(),
            protocol_version: connect.protocol_version,
            will_topic: will_topic.map(str::to_owned),
        });
        self.broker.connections.admitted(self.number);
        let turn = self.broker.turns.next(&connect.client_id).await;
        self.hold(Some(turn));
        if !connect.clean_start {
            self.broker.let_resume(&connect.client_id, user_id.as_deref()).await;
        }
        Ok(user_id)
    }

    /// Lets the next connection with this client id go on.
    pub(super) fn end_turn(&self) {
        self.hold(None);
    }

    fn hold(&self, turn: Option<Turn>) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }

    fn ask_access_control(
        &self,
        connect: &ConnectPacket,
        will_topic: Option<&str>,
    ) -> Result<Option<String>, ReasonCode> {
        let Some(access) = &self.broker.client_policy.access else {
            return Ok(None);
        };
        let request = ConnectRequest {
            client_id: &connect.client_id,
            username: connect.username.as_deref(),
            password: connect.password.as_deref(),
            remote: self.remote,
            will_topic,
        };
        let label = match access.connect(self.number, &request) {
            Admission::Admitted { label } => label,
            Admission::Refused => return Err(ReasonCode::NotAuthorized),
        };
        if will_topic.is_some_and(|topic| !access.may_publish(self.number, topic)) {
            access.disconnected(self.number);
            return Err(ReasonCode::NotAuthorized);
        }
        Ok(Some(format!("{label}#{}", self.number)))
    }

    fn may_publish(&self, topic: &str) -> bool {
        let Some(admitted) = self.admitted.get() else {
            return false;
        };
        let Some(access) = &self.broker.client_policy.access else {
            return true;
        };
        if self.stage.stage() == Stage::Cut {
            // Only a will can come now, and it was checked at CONNECT.
            return admitted.will_topic.as_deref() == Some(topic);
        }
        let may = access.may_publish(self.number, topic);
        if !may && admitted.protocol_version == MQTT_3_1_1 {
            // An acknowledgement of 3.1.1 cannot refuse, and the crate would send one that 3.1.1 does not have.
            self.stage.cut();
        } else if !may {
            self.stage.refuse();
        }
        may
    }

    fn may_subscribe(&self, filter: &str) -> bool {
        let Some(client_id) = self.client_id() else {
            return false;
        };
        let Some(access) = &self.broker.client_policy.access else {
            return true;
        };
        let may = self.broker.is_own_topic(client_id, filter)
            || access.may_subscribe(self.number, strip_shared_subscription_prefix(filter));
        if !may {
            // Has no effect while a session is restored, because the stage is open only after that.
            self.stage.refuse();
        }
        may
    }

    /// Subscribes the client's own topics before the CONNACK, so that nobody knows of the client before it can be reached.
    pub(super) async fn keep_own_topics(&self) {
        if let Some(admitted) = self.admitted.get() {
            self.broker.keep_own_topics(&admitted.client_id, admitted.protocol_version).await;
        }
    }

    /// Repairs the client's own topics if it has subscribed to one of them with QoS 0, or unsubscribed from one.
    async fn after_change_of(&self, filters: &[String]) {
        if let Some(client_id) = self.client_id()
            && filters.iter().any(|filter| self.broker.is_own_topic(client_id, filter))
        {
            self.keep_own_topics().await;
        }
    }

    /// Called after the broker has closed the stream.
    pub(super) async fn ended(&self) {
        self.stage.cut();
        self.end_turn();
        if let (Some(access), Some(_)) = (&self.broker.client_policy.access, self.admitted.get()) {
            access.disconnected(self.number);
        }
        if self.announced.load(Ordering::Relaxed) {
            self.send_event(ClientEventKind::Gone).await;
        }
    }

    /// Sends an event. While the channel is full, this waits, and only this client is not served.
    async fn send_event(&self, what: ClientEventKind) {
        let client_policy = &self.broker.client_policy;
        let (Some(events), Some(client_id)) = (&client_policy.events, self.client_id()) else {
            return;
        };
        let event = ClientEvent {
            client_id: client_id.to_owned(),
            channel_id: self.channel_id.clone(),
            remote: self.remote,
            at_ms: (client_policy.now_ms)(),
            what,
        };
        if events.send(event).await.is_err() {
            tracing::debug!("nobody listens to the MQTT broker's events any more");
        }
    }
}

/// Whether the id can be a level of the client's own p2p topic and a folder of the store. The crate has replaced an empty id
/// before.
fn is_legal_client_id(id: &str) -> bool {
    let is_forbidden = |letter: char| letter.is_control() || "/+#\\".contains(letter);
    !id.contains(is_forbidden) && !id.chars().all(|letter| letter == '.')
}

impl AuthProvider for Connection {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _remote: SocketAddr,
    ) -> BoxFuture<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            Ok(match self.admit(connect).await {
                Ok(Some(user_id)) => AuthResult::success_with_user(user_id),
                Ok(None) => AuthResult::success(),
                Err(reason) => AuthResult::fail(reason),
            })
        })
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        _user_id: Option<&'a str>,
        topic: &'a str,
    ) -> BoxFuture<'a, bool> {
        Box::pin(ready(self.may_publish(topic)))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        _user_id: Option<&'a str>,
        filter: &'a str,
    ) -> BoxFuture<'a, bool> {
        Box::pin(ready(self.may_subscribe(filter)))
    }
}

impl BrokerEventHandler for Connection {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.announced.store(true, Ordering::Relaxed);
            self.send_event(ClientEventKind::Connected).await;
            let restored = self.broker.restored_filters(&event.client_id).await;
            if !restored.is_empty() {
                self.send_event(ClientEventKind::Subscribed(restored)).await;
            }
        })
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let granted: Vec<_> = event
                .subscriptions
                .iter()
                .filter(|subscription| GRANTED.contains(&subscription.result))
                .map(|subscription| subscription.topic_filter.to_string())
                .collect();
            self.after_change_of(&granted).await;
            if !granted.is_empty() {
                self.send_event(ClientEventKind::Subscribed(granted)).await;
            }
        })
    }

    fn on_client_unsubscribe<'a>(&'a self, event: ClientUnsubscribeEvent) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let filters: Vec<_> = event.topic_filters.iter().map(|filter| filter.to_string()).collect();
            self.after_change_of(&filters).await;
            self.send_event(ClientEventKind::Unsubscribed(filters)).await;
        })
    }

    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // A DISCONNECT that asks for the will is a DISCONNECT all the same.
            if !event.unexpected || event.reason == ReasonCode::DisconnectWithWillMessage {
                self.send_event(ClientEventKind::Disconnected).await;
            }
        })
    }
}
