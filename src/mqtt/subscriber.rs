//! The loop around rumqttc: connect, poll, hand out events, come back after a failure.
//!
//! A started poll is never cancelled, because a half-written packet would be lost with it; a watchdog covers the poll
//! that hangs when a broker stops reading; all PUBACKs leave from this task.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, StateError};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::hang_ups::HangUps;
use super::options::{OptionsError, options};
use super::session::{MustReconnect, Session, SessionParts};
use crate::config::MqttConfig;
use crate::pipeline::{Intake, Link, ReceiptNumber, Retry};

/// The time a DISCONNECT may take at the end.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// See the module's words.
pub struct Subscriber {
    event_loop: EventLoop,
    session: Session,
    /// Closed, by being taken, when the bridge drains.
    intake: Option<Intake>,
    settled: mpsc::Receiver<Vec<ReceiptNumber>>,
    /// Come back after a takeover (SIGHUP).
    come_back: Arc<Notify>,
    retry: Retry,
    hang_ups: HangUps,
    ticks: Interval,
    heard: bool,
    silent_s: u64,
    silence_limit_s: u64,
}

/// Why the inner loop ended.
enum Woken {
    Event(Box<Result<Event, ConnectionError>>),
    Silent,
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
    ) -> Result<Self, OptionsError> {
        let options = options(config, &parts.state.client_id, true)?;
        // Never more PUBACKs wait than the receive maximum allows; the rest is room for SUBSCRIBE and the like.
        let (client, event_loop) = AsyncClient::new(options, usize::from(config.receive_maximum) * 2 + 64);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            event_loop,
            session: Session::new(parts, client),
            intake: Some(intake),
            settled,
            come_back,
            retry: Retry::reconnect(),
            hang_ups: HangUps::default(),
            ticks,
            heard: false,
            silent_s: 0,
            silence_limit_s: 3 * config.keep_alive.as_secs(),
        })
    }

    /// Runs until `stop`, then takes nothing new in, acknowledges what still ends, and disconnects.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            match self.next(&stop).await {
                Woken::Event(event) => match *event {
                    Ok(event) => self.handle(event, &stop).await,
                    Err(error) => self.failed(error, &stop).await,
                },
                Woken::Silent => {
                    tracing::warn!(
                        silent_s = self.silent_s,
                        "the MQTT broker is silent; connecting anew"
                    );
                    self.drop_connection(Link::Down);
                }
                Woken::PipelineEnded => return self.say_goodbye().await,
            }
        }
    }

    /// Serves settlements and the clock while one poll runs to its end.
    async fn next(&mut self, stop: &CancellationToken) -> Woken {
        let poll = self.event_loop.poll();
        tokio::pin!(poll);
        loop {
            tokio::select! {
                biased;
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.session.settled(&receipts),
                    None => return Woken::PipelineEnded,
                },
                event = &mut poll => {
                    self.heard = true;
                    return Woken::Event(Box::new(event));
                }
                _ = self.ticks.tick() => {
                    self.session.tick();
                    if self.hang_ups.are_over() {
                        self.session.readiness().set_note(None);
                    }
                    self.silent_s = if self.heard { 0 } else { self.silent_s + 1 };
                    self.heard = false;
                    if self.silent_s > self.silence_limit_s {
                        return Woken::Silent;
                    }
                }
                () = stop.cancelled(), if self.intake.is_some() => self.intake = None,
            }
        }
    }

    async fn handle(&mut self, event: Event, stop: &CancellationToken) {
        let done = match event {
            Event::Incoming(Packet::Publish(publish)) => match &self.intake {
                Some(intake) => match self.session.published(publish, intake) {
                    Ok(()) => Ok(()),
                    Err(MustReconnect) => return self.step_back(stop).await,
                },
                // Draining: not taken in and not acknowledged, so the next process gets it.
                None => Ok(()),
            },
            Event::Incoming(Packet::ConnAck(connack)) => {
                if !self.hang_ups.are_suspicious() {
                    self.retry.reset();
                }
                self.hang_ups.connected();
                self.session.connected(&connack)
            }
            Event::Incoming(Packet::SubAck(suback)) => self.session.subscribed(&suback),
            _ => Ok(()),
        };
        self.session.acknowledge();
        if let Err(error) = done {
            tracing::error!(%error, "the session's state could not be written; nothing is acknowledged until it can be");
            self.drop_connection(Link::Down);
            self.pause(stop).await;
        }
    }

    async fn failed(&mut self, error: ConnectionError, stop: &CancellationToken) {
        if is_takeover(&error) {
            return self.wait_for_sighup(stop).await;
        }
        self.session.disconnected(Link::Down);
        tracing::warn!(%error, "no connection to the MQTT broker; trying again{}", remedy(&error));
        let was_suspicious = self.hang_ups.are_suspicious();
        self.hang_ups.lost();
        if self.hang_ups.are_suspicious() && !was_suspicious {
            let note = "the MQTT broker hangs up right after each connection; find out whether another client uses our \
                        mqtt.client_id";
            self.session.readiness().set_note(Some(note.to_owned()));
            tracing::error!("{note}");
        }
        self.pause(stop).await;
    }

    /// A second bridge that reconnected at once would fight for the session for ever, so this one stays away.
    async fn wait_for_sighup(&mut self, stop: &CancellationToken) {
        self.drop_connection(Link::TakenOver);
        let note = "another client took the MQTT session over (same client id); stop it, then send SIGHUP to connect again";
        self.session.readiness().set_note(Some(note.to_owned()));
        tracing::error!("{note}");
        let come_back = self.come_back.clone();
        self.serve_settlements_during(come_back.notified(), stop).await;
        self.session.readiness().set_note(None);
    }

    /// The intake is full: leave without acknowledging, and come back when half of it is free.
    async fn step_back(&mut self, stop: &CancellationToken) {
        tracing::warn!(
            "the intake is full: leaving the MQTT connection without acknowledging, until half of it is free"
        );
        self.drop_connection(Link::Down);
        if let Some(intake) = self.intake.clone() {
            // What waits in the intake must be able to leave it, thus no hold.
            self.session.release_hold();
            self.serve_settlements_during(async move { intake.relieved().await }, stop)
                .await;
        }
    }

    fn drop_connection(&mut self, link: Link) {
        self.event_loop.clean();
        self.silent_s = 0;
        self.session.disconnected(link);
    }

    async fn pause(&mut self, stop: &CancellationToken) {
        let pause = self.retry.next_pause();
        self.serve_settlements_during(tokio::time::sleep(pause), stop)
            .await;
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

    /// Sends the PUBACKs that are left, and then a clean DISCONNECT behind them.
    async fn say_goodbye(mut self) {
        let deadline = Instant::now() + GOODBYE_DEADLINE;
        let mut asked = false;
        loop {
            self.session.acknowledge();
            asked = asked || self.session.say_goodbye();
            match tokio::time::timeout_at(deadline, self.event_loop.poll()).await {
                Ok(Ok(Event::Outgoing(Outgoing::Disconnect))) | Ok(Err(_)) | Err(_) => return,
                Ok(Ok(_)) => {}
            }
        }
    }
}

fn is_takeover(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        })
    )
}

fn remedy(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::ConnectionRefused(_) => {
            ": the broker refuses us; check mqtt.username, mqtt.password and its access rules"
        }
        ConnectionError::Tls(_) => ": TLS failed; check mqtt.url, mqtt.ca_file and the broker's certificate",
        ConnectionError::Io(_) | ConnectionError::Timeout(_) => "; check that the broker runs at mqtt.url",
        _ => "",
    }
}
