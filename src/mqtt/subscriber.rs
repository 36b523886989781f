//! The loop that serves one session: connect, read, hand out packets, come back after a failure.
//!
//! All PUBACKs leave from this task. Reading stops while a broker that ignores the receive maximum is ahead of us;
//! settlements and PUBACKs go on meanwhile. A new connection is used when its number is on the disk; whatever the disk
//! does, settlements are taken, and on a connection in use nothing waits for it. A watchdog ends connections on which
//! nothing moves.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, LinkError};
use super::hang_ups::HangUps;
use super::incoming::{ConnAck, Incoming};
use super::reason::Reason;
use super::session::{MustReconnect, Session, SessionParts};
use super::target::{Target, TargetError};
use super::watchdog::{Sign, Watchdog};
use crate::config::MqttConfig;
use crate::data_dir::{DataDirError, Saving, answered};
use crate::pipeline::{Intake, LinkState, ReceiptNumber, Retry};

/// The time a DISCONNECT may take at the end.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// See the module's words.
pub struct Subscriber {
    target: Arc<Target>,
    connection: Option<Connection>,
    session: Session,
    /// What the session wants to have written while its connection is in use.
    saving: Option<Saving>,
    /// Closed, by being taken, when the bridge drains.
    intake: Option<Intake>,
    settled: mpsc::Receiver<Vec<ReceiptNumber>>,
    /// SIGHUP: come back after a takeover, ask again for what is refused.
    come_back: Arc<Notify>,
    /// The next SIGHUP, while there is a connection.
    hang_up: Pin<Box<OwnedNotified>>,
    retry: Retry,
    hang_ups: HangUps,
    ticks: Interval,
    watchdog: Watchdog,
}

/// Why the inner loop ended.
enum Woken {
    /// And the disk has its number.
    Connected(Box<(Connection, ConnAck)>),
    Packet(Incoming),
    /// Filters may have to be asked for again.
    AskingDue,
    Failed(LinkError),
    NotWritten(DataDirError),
    Silent,
    /// A stop was asked for while there was no connection.
    Stopping,
    /// All receipts that were given out have ended: the pipeline is gone.
    PipelineEnded,
}

impl Subscriber {
    pub fn new(
        config: &MqttConfig,
        parts: SessionParts,
        intake: Intake,
        settled: mpsc::Receiver<Vec<ReceiptNumber>>,
        come_back: Arc<Notify>,
    ) -> Result<Self, TargetError> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let target = Target::new(config, &parts.state.client_id)?;
        Ok(Self {
            connection: None,
            session: Session::new(parts, target.session_expiry_s()),
            target: Arc::new(target),
            saving: None,
            intake: Some(intake),
            settled,
            hang_up: Box::pin(come_back.clone().notified_owned()),
            come_back,
            retry: Retry::reconnect(),
            hang_ups: HangUps::default(),
            ticks,
            watchdog: Watchdog::new(config.keep_alive),
        })
    }

    /// Something goes down to the same broker too, of that many bytes at most: the broker's limits are judged by it.
    #[must_use]
    pub fn beside_a_downlink(mut self, largest_bytes: u64) -> Self {
        self.session.set_publishes_bytes(largest_bytes);
        self
    }

    /// Runs until `stop`, then takes nothing new in, acknowledges what still ends, and disconnects. Never connects again
    /// once it was asked to stop: the session may belong to the process that takes its place.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let woken = if self.connection.is_some() {
                self.next(&stop).await
            } else if self.intake.is_some() {
                self.connect(&stop).await
            } else {
                self.serve_settlements_during(std::future::pending(), &stop).await;
                Woken::PipelineEnded
            };
            match woken {
                Woken::Packet(packet) => self.handle(packet, &stop).await,
                Woken::Connected(opened) => self.connected(*opened),
                Woken::NotWritten(error) => self.not_written(&error, &stop).await,
                Woken::AskingDue => {
                    let saving = self.session.go_on_asking();
                    self.answered(saving, &stop).await;
                }
                Woken::Failed(error) => self.failed(error, &stop).await,
                Woken::Silent => {
                    tracing::warn!("the MQTT broker is silent; connecting anew");
                    self.drop_connection(LinkState::Down);
                }
                Woken::Stopping => {}
                Woken::PipelineEnded => return self.say_goodbye().await,
            }
        }
    }

    /// A connection that may be used.
    async fn connect(&mut self, stop: &CancellationToken) -> Woken {
        match self.open(stop).await {
            Ok(opened) => Woken::Connected(Box::new(opened)),
            Err(woken) => woken,
        }
    }

    async fn open(&mut self, stop: &CancellationToken) -> Result<(Connection, ConnAck), Woken> {
        let target = self.target.clone();
        let opened = self.serve_until(Connection::open(&target), stop).await?;
        let (connection, connack) = opened.map_err(Woken::Failed)?;
        let saving = self.session.greeted(&connack).map_err(Woken::NotWritten)?;
        self.serve_until(saving, stop).await?.map_err(Woken::NotWritten)?;
        Ok((connection, connack))
    }

    /// Serves settlements and the clock until that is ready.
    async fn serve_until<T>(
        &mut self,
        ready: impl Future<Output = T>,
        stop: &CancellationToken,
    ) -> Result<T, Woken> {
        tokio::pin!(ready);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.intake = None;
                    return Err(Woken::Stopping);
                }
                _ = self.ticks.tick() => self.session.tick(),
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.session.settled(&receipts),
                    None => return Err(Woken::PipelineEnded),
                },
                ready = &mut ready => return Ok(ready),
            }
        }
    }

    /// The next packet. The clock comes first, because under load there is always something to read; settlements come
    /// before reading and writing, so that their PUBACKs leave together.
    async fn next(&mut self, stop: &CancellationToken) -> Woken {
        while let Some(connection) = &mut self.connection {
            let reading = self.session.may_read();
            if reading {
                match connection.next_packet() {
                    Ok(Some(packet)) => return Woken::Packet(packet),
                    Ok(None) => {}
                    Err(error) => return Woken::Failed(error),
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.intake.is_some() => self.intake = None,
                _ = self.ticks.tick() => {
                    return match self.tick(reading) {
                        Sign::Dead => Woken::Silent,
                        Sign::Well | Sign::PingDue => Woken::AskingDue,
                    };
                }
                () = &mut self.hang_up => {
                    self.hang_up.set(self.come_back.clone().notified_owned());
                    self.session.ask_now();
                    return Woken::AskingDue;
                }
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.session.settled(&receipts),
                    None => return Woken::PipelineEnded,
                },
                written = answered(&mut self.saving) => match written {
                    Ok(()) => self.session.written(),
                    Err(error) => return Woken::NotWritten(error),
                },
                served = connection.serve(self.session.outbox(), reading) => match served {
                    Ok(()) => self.watchdog.heard(),
                    Err(error) => return Woken::Failed(error),
                },
            }
        }
        Woken::Failed(LinkError::Closed)
    }

    fn tick(&mut self, reading: bool) -> Sign {
        self.session.tick();
        if self.hang_ups.are_over() {
            self.session.readiness().set_note(None);
        }
        let has_written = self.connection.as_mut().is_some_and(Connection::take_has_written);
        let writes_stand = self.session.outbox().len_bytes() > 0 && !has_written;
        let sign = self.watchdog.second_passed(reading, writes_stand);
        if let Sign::PingDue = sign {
            self.session.ping();
        }
        sign
    }

    fn connected(&mut self, (connection, connack): (Connection, ConnAck)) {
        if !self.hang_ups.are_suspicious() {
            self.retry.reset();
        }
        self.hang_ups.connected();
        self.connection = Some(connection);
        self.watchdog.connected(connack.limits.server_keep_alive_s);
        self.session.connected(&connack);
    }

    async fn handle(&mut self, packet: Incoming, stop: &CancellationToken) {
        match packet {
            Incoming::Publish(publish) => {
                let Some(intake) = &self.intake else {
                    return self.session.redelivered(publish);
                };
                if let Err(MustReconnect) = self.session.published(publish, intake) {
                    self.step_back(stop).await;
                }
            }
            Incoming::SubAck(suback) => {
                let saving = self.session.subscribed(&suback);
                self.answered(saving, stop).await;
            }
            Incoming::UnsubAck(unsuback) => {
                let saving = self.session.unsubscribed(&unsuback);
                self.answered(saving, stop).await;
            }
            _ => {}
        }
    }

    /// What is known of the subscriptions may have changed.
    async fn answered(&mut self, saving: Option<Saving>, stop: &CancellationToken) {
        // A later state has all of an earlier one.
        self.saving = saving.or(self.saving.take());
        if let Err(MustReconnect) = self.session.release_held(self.intake.as_ref()) {
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
        if let LinkError::Disconnected(answer) = &error
            && answer.reason == Reason::TAKEN_OVER
        {
            return self.wait_for_sighup(stop).await;
        }
        self.session.readiness().set_mqtt_problem(error.to_string());
        self.drop_connection(LinkState::Down);
        if self.intake.is_none() {
            return tracing::warn!(%error, "the MQTT connection is lost while stopping; what is not acknowledged is delivered again");
        }
        tracing::warn!(%error, "no connection to the MQTT broker; trying again");
        let was_suspicious = self.hang_ups.are_suspicious();
        self.hang_ups.lost();
        if self.hang_ups.are_suspicious() && !was_suspicious {
            let note = match &error {
                LinkError::Disconnected(answer) => {
                    format!("the MQTT broker disconnects us right after each connection: {answer}")
                }
                _ => "the MQTT broker hangs up right after each connection; find out whether another client uses our \
                      mqtt.client_id"
                    .to_owned(),
            };
            self.session.readiness().set_note(Some(note.clone()));
            tracing::error!("{note}");
        }
        self.pause(stop).await;
    }

    /// A second bridge that reconnected at once would fight for the session for ever, so this one stays away.
    async fn wait_for_sighup(&mut self, stop: &CancellationToken) {
        self.drop_connection(LinkState::TakenOver);
        let note = "another client took the MQTT session over (same client id); stop it, then send SIGHUP to connect again";
        self.session.readiness().set_note(Some(note.to_owned()));
        tracing::error!("{note}");
        let come_back = self.come_back.clone();
        self.serve_settlements_during(come_back.notified(), stop).await;
        if self.intake.is_some() {
            self.session.readiness().set_note(None);
        }
    }

    /// The intake is full: leave without acknowledging, and come back when half of it is free.
    async fn step_back(&mut self, stop: &CancellationToken) {
        tracing::warn!(
            "the intake is full: leaving the MQTT connection without acknowledging, until half of it is free"
        );
        self.drop_connection(LinkState::Down);
        if let Some(intake) = self.intake.clone() {
            // What waits in the intake must be able to leave it, thus no hold.
            self.session.release_hold();
            self.serve_settlements_during(async move { intake.relieved().await }, stop).await;
        }
    }

    fn drop_connection(&mut self, link: LinkState) {
        self.connection = None;
        // The next connection writes all of it.
        self.saving = None;
        self.session.disconnected(link);
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
                _ = self.ticks.tick() => self.session.tick(),
            }
        }
    }

    async fn say_goodbye(mut self) {
        let connection = self.connection.take();
        let connected = connection.is_some();
        if let Some(connection) = connection {
            let outbox = self.session.say_goodbye();
            let finished = tokio::time::timeout(GOODBYE_DEADLINE, connection.finish(outbox)).await;
            if !matches!(finished, Ok(Ok(()))) {
                tracing::warn!(
                    "the MQTT broker did not close the connection within {} s of our DISCONNECT; it may not have read our last \
                     PUBACKs",
                    GOODBYE_DEADLINE.as_secs()
                );
            }
        }
        self.session.count_unsent(connected);
    }
}
