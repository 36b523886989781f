//! The loop that serves one session: it connects, reads, tells the session what happened, sends what the session wants to send,
//! and connects anew after a failure.
//!
//! All PUBACKs leave from this task. Reading stops while a broker that ignores the receive maximum is ahead of us; settlements
//! and PUBACKs go on meanwhile. A new connection is used when the disk has its number. Settlements are taken also while a disk
//! stands still, and on a connection that is in use nothing waits for the disk. A watchdog ends connections on which nothing
//! moves.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, LinkError};
use super::outage::{Outage, suspicion, taken_over, with_unanswered};
use super::session::{MustReconnect, Session, SessionParts};
use super::target::Target;
use super::tls::TlsError;
use super::watchdog::{Health, Watchdog};
use super::wire::{Connack, FromBroker, Goodbye};
use crate::config::MqttConfig;
use crate::data_dir::{DataDir, DataDirError, Saving, answered};
use crate::pipeline::{Intake, LinkState, ReceiptNumber, Retry};
use crate::telemetry::Readiness;

/// The time a DISCONNECT may take at the end.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);
/// While more bytes than that wait to be written, nothing is read. Reached only when the broker does not read what we write.
const OUTBOX_BYTES: usize = 64 * 1024;
/// After so many packets the other tasks of the thread have their turn, also if there is more to read: batches leave, and answers
/// and deadlines are looked at. At 3.4 us for a message of 200 bytes (docs/BENCHMARKS.md), 256 take
/// less than a millisecond.
const TURN_PACKETS: usize = 256;

/// Everything that a subscriber is made of.
pub struct SubscriberParts {
    pub session: SessionParts,
    /// Where the session's state is written.
    pub data_dir: Arc<DataDir>,
    /// Tells the pipeline how the connection does.
    pub link: watch::Sender<LinkState>,
    pub intake: Intake,
    pub settled: mpsc::Receiver<Vec<ReceiptNumber>>,
    /// SIGHUP: connect again after a takeover, and ask again for what is refused.
    pub come_back: Arc<Notify>,
}

/// Serves one [`Session`] over all its connections.
pub struct Subscriber {
    target: Arc<Target>,
    connection: Option<Connection>,
    session: Session,
    data_dir: Arc<DataDir>,
    /// The write that the session waits for while its connection is in use.
    saving: Option<Saving>,
    readiness: Arc<Readiness>,
    link: watch::Sender<LinkState>,
    /// Closed, by being taken, when the bridge drains.
    intake: Option<Intake>,
    settled: mpsc::Receiver<Vec<ReceiptNumber>>,
    come_back: Arc<Notify>,
    /// The next SIGHUP, while there is a connection.
    hang_up: Pin<Box<OwnedNotified>>,
    retry: Retry,
    outage: Outage,
    ticks: Interval,
    watchdog: Watchdog,
    /// Packets that were handled since the other tasks had their turn.
    packets_in_turn: usize,
}

/// What happened.
enum Event {
    /// There is a connection, and the disk has its number.
    Connected(Box<(Connection, Connack)>),
    Packet(FromBroker),
    /// Requests for subscriptions may be due.
    RequestsDue,
    Failed(LinkError),
    /// The session's state could not be written.
    NotWritten(DataDirError),
    /// A stop was asked for while there was no connection.
    Stopping,
    /// All receipts that were given out have ended: the pipeline is gone.
    PipelineEnded,
}

impl Subscriber {
    pub fn new(config: &MqttConfig, parts: SubscriberParts) -> Result<Self, TlsError> {
        let SubscriberParts { session, data_dir, link, intake, settled, come_back } = parts;
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let target = Target::new(config, &session.state.client_id)?;
        Ok(Self {
            connection: None,
            readiness: session.readiness.clone(),
            session: Session::new(session, target.session_expiry_s(), || fastrand::u32(..)),
            data_dir,
            target: Arc::new(target),
            saving: None,
            link,
            intake: Some(intake),
            settled,
            hang_up: Box::pin(come_back.clone().notified_owned()),
            come_back,
            retry: Retry::reconnect(),
            outage: Outage::default(),
            ticks,
            watchdog: Watchdog::new(config.keep_alive),
            packets_in_turn: 0,
        })
    }

    /// Messages go down to the same broker too, of that many bytes at most: the broker's limits are judged by it.
    #[must_use]
    pub fn beside_a_downlink(mut self, largest_bytes: u64) -> Self {
        self.session.set_publishes_bytes(largest_bytes);
        self
    }

    /// Runs until `stop`, then takes nothing new in, acknowledges what still ends, and disconnects. Never connects again
    /// once it was asked to stop: the session may belong to the process that takes its place.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let event = if self.connection.is_some() {
                self.next(&stop).await
            } else if self.intake.is_some() {
                self.connect(&stop).await
            } else {
                self.serve_settlements_during(std::future::pending(), &stop).await;
                Event::PipelineEnded
            };
            match event {
                Event::Packet(packet) => {
                    self.handle(packet, &stop).await;
                    self.end_turn_if_it_is_long().await;
                }
                Event::Connected(opened) => self.connected(*opened),
                Event::NotWritten(error) => self.not_written(&error, &stop).await,
                Event::RequestsDue => self.send_due_requests(&stop).await,
                Event::Failed(error) => self.failed(error, &stop).await,
                Event::Stopping => {}
                Event::PipelineEnded => return self.say_goodbye().await,
            }
        }
    }

    /// Connects, and waits until the disk has the number of the connection.
    async fn connect(&mut self, stop: &CancellationToken) -> Event {
        match self.open(stop).await {
            Ok(opened) => Event::Connected(Box::new(opened)),
            Err(event) => event,
        }
    }

    async fn open(&mut self, stop: &CancellationToken) -> Result<(Connection, Connack), Event> {
        let target = self.target.clone();
        let opened = self.serve_until(Connection::open(&target), stop).await?;
        let (connection, connack) = opened.map_err(Event::Failed)?;
        let state = self.session.prepare(&connack, draw_stamp).map_err(Event::NotWritten)?;
        let saving = self.data_dir.save_session(state);
        self.serve_until(saving, stop).await?.map_err(Event::NotWritten)?;
        Ok((connection, connack))
    }

    /// Waits until `ready` is, and serves settlements and the clock meanwhile.
    async fn serve_until<T>(
        &mut self,
        ready: impl Future<Output = T>,
        stop: &CancellationToken,
    ) -> Result<T, Event> {
        tokio::pin!(ready);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.intake = None;
                    return Err(Event::Stopping);
                }
                _ = self.ticks.tick() => self.session.tick(0),
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.session.settled(&receipts),
                    None => return Err(Event::PipelineEnded),
                },
                ready = &mut ready => return Ok(ready),
            }
        }
    }

    /// Serves the connection until something happens. The clock comes first, because under load there is always something to
    /// read; settlements come before reading and writing, so that their PUBACKs leave together.
    async fn next(&mut self, stop: &CancellationToken) -> Event {
        while let Some(connection) = &mut self.connection {
            push_outgoing(&mut self.session, connection);
            let reading = self.session.may_read() && connection.waiting_bytes() < OUTBOX_BYTES;
            if reading {
                match connection.next_packet() {
                    Ok(Some(packet)) => return Event::Packet(packet),
                    Ok(None) => {}
                    Err(error) => return Event::Failed(error),
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.intake.is_some() => self.intake = None,
                _ = self.ticks.tick() => {
                    return match self.tick(reading) {
                        Health::Dead => Event::Failed(LinkError::Silent),
                        Health::Well | Health::PingDue => Event::RequestsDue,
                    };
                }
                () = &mut self.hang_up => {
                    self.hang_up.set(self.come_back.clone().notified_owned());
                    self.session.retry_refused_now();
                    return Event::RequestsDue;
                }
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.session.settled(&receipts),
                    None => return Event::PipelineEnded,
                },
                written = answered(&mut self.saving) => match written {
                    Ok(()) => self.session.state_written(),
                    Err(error) => return Event::NotWritten(error),
                },
                served = connection.serve(reading) => match served {
                    Ok(()) => self.watchdog.note_traffic(),
                    Err(error) => return Event::Failed(error),
                },
            }
        }
        Event::Failed(LinkError::Closed)
    }

    fn tick(&mut self, reading: bool) -> Health {
        let unwritten_pubacks = self.connection.as_ref().map_or(0, Connection::waiting_pubacks_at_most);
        self.session.tick(unwritten_pubacks);
        if let Some(over) = self.outage.over() {
            tracing::info!(failures = over.failures, "the connection to the MQTT broker lasts again");
            if over.was_suspicious {
                self.readiness.set_note(None);
            }
        }
        let writes_stand = self.connection.as_mut().is_some_and(Connection::take_writes_stand);
        let health = self.watchdog.second_passed(reading, writes_stand);
        if let Health::PingDue = health {
            self.session.ping();
        }
        health
    }

    fn connected(&mut self, (connection, connack): (Connection, Connack)) {
        if !self.outage.is_suspicious() {
            self.retry.reset();
        }
        if let Some(failures) = self.outage.connected() {
            tracing::info!(
                session_present = connack.session_present,
                address = %connection.address(),
                failures,
                "connected to the MQTT broker"
            );
        }
        self.connection = Some(connection);
        self.watchdog.connected(connack.limits.server_keep_alive_s);
        self.session.connected(&connack);
        self.link.send_replace(LinkState::Up);
    }

    async fn end_turn_if_it_is_long(&mut self) {
        self.packets_in_turn += 1;
        if self.packets_in_turn >= TURN_PACKETS {
            self.packets_in_turn = 0;
            tokio::task::yield_now().await;
        }
    }

    async fn handle(&mut self, packet: FromBroker, stop: &CancellationToken) {
        match packet {
            FromBroker::Publish(publish) => {
                let Some(intake) = &self.intake else {
                    return self.session.published_while_draining(publish);
                };
                let taken = self.session.published(publish, |message| intake.try_enter(message));
                if let Err(MustReconnect) = taken {
                    self.step_back(stop).await;
                }
            }
            FromBroker::Suback(suback) => {
                let state = self.session.subscribed(suback);
                let saving = state.map(|state| self.data_dir.save_session(state));
                self.subscriptions_changed(saving, stop).await;
            }
            FromBroker::Unsuback(unsuback) => {
                let state = self.session.unsubscribed(unsuback);
                let saving = state.map(|state| self.data_dir.save_session(state));
                self.subscriptions_changed(saving, stop).await;
            }
            FromBroker::Connack(_)
            | FromBroker::Refused(_)
            | FromBroker::Puback(_)
            | FromBroker::Goodbye(_)
            | FromBroker::Pong
            | FromBroker::Other => {}
        }
    }

    async fn send_due_requests(&mut self, stop: &CancellationToken) {
        let saving = self.session.send_due_requests().map(|state| self.data_dir.save_session(state));
        self.subscriptions_changed(saving, stop).await;
    }

    /// What is known of the subscriptions may have changed, and with it what becomes of messages that wait for that.
    async fn subscriptions_changed(&mut self, saving: Option<Saving>, stop: &CancellationToken) {
        // A later state holds all of an earlier one, so the earlier write need not be waited for.
        self.saving = saving.or(self.saving.take());
        let Some(intake) = &self.intake else {
            return self.session.decide_while_draining();
        };
        if let Err(MustReconnect) = self.session.decide(|message| intake.try_enter(message)) {
            self.step_back(stop).await;
        }
    }

    async fn not_written(&mut self, error: &DataDirError, stop: &CancellationToken) {
        tracing::error!(%error, "the session's state could not be written; nothing is acknowledged until it can be");
        self.drop_connection(LinkState::Down);
        if self.intake.is_some() {
            self.pause(stop).await;
        }
    }

    async fn failed(&mut self, error: LinkError, stop: &CancellationToken) {
        if let LinkError::Disconnected(goodbye) = &error
            && goodbye.session_taken_over
        {
            return self.wait_for_sighup(goodbye, stop).await;
        }
        let problem = self.explained(&error);
        self.drop_connection(LinkState::Down);
        let was_suspicious = self.outage.is_suspicious();
        let is_news = self.outage.failed(&problem);
        let failures = self.outage.failures();
        self.readiness.set_mqtt_problem(match failures {
            0..=1 => problem.clone(),
            _ => format!("{problem} ({failures} failures until now)"),
        });
        if self.intake.is_none() {
            return tracing::warn!(
                error = problem,
                "the MQTT connection is lost while stopping; what is not acknowledged is delivered again"
            );
        }
        if is_news {
            let broker = &self.target.place;
            tracing::warn!(
                broker,
                failures,
                error = problem,
                "no connection to the MQTT broker; trying again"
            );
        }
        if self.outage.is_suspicious() && !was_suspicious {
            let note = suspicion(&error);
            self.readiness.set_note(Some(note.clone()));
            tracing::error!("{note}");
        }
        self.pause(stop).await;
    }

    /// The error, and which subscriptions were not answered when it came: a broker may hang up for one of them.
    fn explained(&self, error: &LinkError) -> String {
        let unanswered = match self.connection {
            Some(_) => self.session.unanswered_filters(),
            None => Vec::new(),
        };
        with_unanswered(error, &unanswered)
    }

    /// A second bridge that reconnected at once would fight for the session for ever, so this one stays away.
    async fn wait_for_sighup(&mut self, goodbye: &Goodbye, stop: &CancellationToken) {
        self.drop_connection(LinkState::TakenOver);
        let note = taken_over(goodbye);
        self.readiness.set_note(Some(note.clone()));
        tracing::error!("{note}");
        let come_back = self.come_back.clone();
        self.serve_settlements_during(come_back.notified(), stop).await;
        if self.intake.is_some() {
            self.readiness.set_note(None);
        }
    }

    /// The intake is full: leave without acknowledging, and come back when half of it is free.
    async fn step_back(&mut self, stop: &CancellationToken) {
        tracing::warn!(
            "the intake is full: leaving the MQTT connection without acknowledging, until half of it is free"
        );
        self.drop_connection(LinkState::Down);
        if let Some(intake) = self.intake.clone() {
            // Without a link the pipeline starts no sends, but what waits in the intake must be able to leave it.
            self.link.send_replace(LinkState::Up);
            self.serve_settlements_during(async move { intake.relieved().await }, stop).await;
        }
    }

    fn drop_connection(&mut self, link: LinkState) {
        let connection = self.connection.take();
        // The next connection has the whole state written.
        self.saving = None;
        let unwritten_pubacks = connection.map_or(0, |connection| connection.waiting_pubacks_at_most());
        self.session.disconnected(link == LinkState::TakenOver, unwritten_pubacks);
        self.link.send_replace(link);
    }

    async fn pause(&mut self, stop: &CancellationToken) {
        let pause = self.retry.next_pause();
        self.serve_settlements_during(tokio::time::sleep(pause), stop).await;
    }

    /// The pipeline never waits for us, also while we wait for something else.
    async fn serve_settlements_during(
        &mut self,
        waited_for: impl Future<Output = ()>,
        stop: &CancellationToken,
    ) {
        tokio::pin!(waited_for);
        loop {
            tokio::select! {
                () = &mut waited_for => return,
                () = stop.cancelled(), if self.intake.is_some() => {
                    self.intake = None;
                    return;
                }
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.session.settled(&receipts),
                    None => return,
                },
                _ = self.ticks.tick() => self.session.tick(0),
            }
        }
    }

    async fn say_goodbye(mut self) {
        let Some(mut connection) = self.connection.take() else {
            return self.session.count_unsent_pubacks(0);
        };
        self.session.say_goodbye();
        push_outgoing(&mut self.session, &mut connection);
        let finished = tokio::time::timeout(GOODBYE_DEADLINE, connection.finish()).await;
        if !matches!(finished, Ok(Ok(()))) {
            tracing::warn!(
                "the MQTT broker did not close the connection within {} s of our DISCONNECT; it may not have read our last \
                 PUBACKs",
                GOODBYE_DEADLINE.as_secs()
            );
        }
        self.session.count_unsent_pubacks(connection.waiting_pubacks_at_most());
    }
}

/// Puts what the session wants to send into the outbox of the connection.
fn push_outgoing(session: &mut Session, connection: &mut Connection) {
    for packet in session.take_outgoing() {
        if let Err(error) = connection.push(&packet) {
            tracing::error!(%error, "a packet cannot be sent to the MQTT broker; check its limit for packets");
        }
    }
}

/// The random part of a new session's stamp.
fn draw_stamp() -> Result<u64, DataDirError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(DataDirError::Random)?;
    Ok(u64::from_be_bytes(random))
}
