//! Drives the bridge's real MQTT session over the broker that is played here, in the place of `src/mqtt/subscriber.rs`: the same
//! order of steps, without bytes and without a disk that takes time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use roombridge::testing::model::{MqttProperties, Qos};
use roombridge::testing::mqtt::{
    Connack, Limits, MustReconnect, Publish, Session, Suback, SubscribeVerdict, ToBroker, Unsuback,
};
use roombridge::testing::pipeline::{Arrived, Intake, LinkState, ReceiptNumber};
use roombridge::testing::telemetry::Metrics;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::bridge::Saved;
use crate::gate::{Gate, Point};
use crate::lies::Lie;
use crate::mqtt::{self, Connection, Packet};
use crate::world::{Published, World};

const PAUSE: Duration = Duration::from_millis(150);

pub struct Subscriber {
    pub name: &'static str,
    pub world: Arc<World>,
    pub gate: Gate,
    pub lie: Option<Lie>,
    pub saved: Arc<Mutex<Saved>>,
    pub session: Session,
    pub metrics: Arc<Metrics>,
    pub link: watch::Sender<LinkState>,
    pub intake: Option<Intake>,
    pub settled: mpsc::Receiver<Vec<ReceiptNumber>>,
    pub drain: CancellationToken,
    pub come_back: Arc<Notify>,
    pub connection: Option<Connection>,
}

enum Event {
    Packet(Packet),
    Failed,
    PipelineEnded,
}

impl Subscriber {
    pub async fn run(mut self) {
        loop {
            if self.connection.is_none() {
                self.connect();
            }
            let event = if self.connection.is_some() { self.next().await } else { Event::Failed };
            match event {
                Event::Packet(Packet::Publish { packet_id, duplicate, number, message }) => {
                    self.handle(packet_id, duplicate, number, message).await
                }
                Event::Packet(Packet::TakenOver) => {
                    self.world.log(format!("{}: the session was taken over", self.name));
                    self.drop_connection(LinkState::TakenOver);
                    let come_back = self.come_back.clone();
                    self.serve_settlements_during(come_back.notified()).await;
                }
                Event::Failed if self.settled.is_closed() && self.settled.is_empty() => return,
                Event::Failed => {
                    self.drop_connection(LinkState::Down);
                    self.serve_settlements_during(tokio::time::sleep(PAUSE)).await;
                }
                Event::PipelineEnded => return,
            }
        }
    }

    fn connect(&mut self) {
        let Some(connection) = mqtt::connect(&self.world, self.name) else {
            return;
        };
        let connack = Connack { session_present: connection.session_present, limits: Limits::default() };
        let mut stamps = self.world.dice("stamp", self.world.elapsed().as_millis() as u64);
        let state = self.session.prepare(&connack, || Ok::<_, ()>(stamps.next())).unwrap();
        self.saved.lock().unwrap().session = Some(state.clone());
        self.connection = Some(connection);
        self.session.connected(&connack);
        self.link.send_replace(LinkState::Up);
        self.send();
    }

    async fn next(&mut self) -> Event {
        loop {
            let Some(connection) = &mut self.connection else {
                return Event::Failed;
            };
            tokio::select! {
                biased;
                () = self.drain.cancelled(), if self.intake.is_some() => self.intake = None,
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.settled(&receipts),
                    None => return Event::PipelineEnded,
                },
                packet = connection.packets.recv(), if self.session.may_read() => {
                    return packet.map_or(Event::Failed, Event::Packet);
                }
            }
        }
    }

    async fn handle(&mut self, packet_id: u16, duplicate: bool, number: usize, message: Published) {
        self.gate.touch(Point::Delivered);
        if self.lie == Some(Lie::CountsTwice) {
            self.metrics.received(message.body.len());
        }
        let publish = Publish {
            topic: message.topic,
            payload: message.body,
            qos: Qos::AtLeastOnce,
            retain: false,
            duplicate,
            packet_id,
            properties: MqttProperties::default(),
            subscription_identifiers: Vec::new(),
        };
        let Some(intake) = self.intake.clone() else {
            self.session.published_while_draining(publish);
            return self.send();
        };
        let (name, world, lie) = (self.name, &self.world, self.lie);
        let mut early = None;
        let taken = self.session.published(publish, |arrived: Arrived| {
            let envelope = &arrived.envelope;
            world.named(number, &envelope.id.to_string());
            world.allow_copy(number);
            world.log(format!(
                "{name}: #{number} is {}, maybe a copy of {:?}",
                envelope.id, envelope.maybe_copy_of
            ));
            early = arrived.receipt.filter(|_| lie == Some(Lie::AcknowledgesEarly));
            intake.try_enter(arrived)
        });
        if let Err(MustReconnect) = taken {
            return self.step_back(&intake).await;
        }
        self.settled(early.as_slice());
    }

    /// The intake is full.
    async fn step_back(&mut self, intake: &Intake) {
        self.world.log(format!("{}: the intake is full", self.name));
        self.drop_connection(LinkState::Down);
        self.link.send_replace(LinkState::Up);
        self.serve_settlements_during(intake.relieved()).await;
    }

    fn settled(&mut self, receipts: &[ReceiptNumber]) {
        self.session.settled(receipts);
        self.send();
    }

    /// Sends what the session wants to send. The broker that is played here grants each subscription at once.
    fn send(&mut self) {
        loop {
            let outgoing: Vec<_> = self.session.take_outgoing().collect();
            if outgoing.is_empty() {
                return;
            }
            for packet in outgoing {
                self.send_packet(packet);
            }
        }
    }

    fn send_packet(&mut self, packet: ToBroker<'_>) {
        let state = match packet {
            ToBroker::Ack { packet_id } => {
                if let Some(connection) = &self.connection {
                    let _ = connection.pubacks.send(packet_id);
                }
                return self.gate.touch(Point::Acknowledging);
            }
            ToBroker::Subscribe { packet_id, .. } => {
                let verdict = SubscribeVerdict::Granted(Qos::AtLeastOnce);
                self.session.subscribed(Suback { packet_id, verdict })
            }
            ToBroker::Unsubscribe { packet_id, .. } => {
                self.session.unsubscribed(Unsuback { packet_id, result: Ok(()) })
            }
            other => panic!("{other:?} is nothing that a session sends here"),
        };
        if let Some(state) = state {
            self.saved.lock().unwrap().session = Some(state.clone());
            self.session.state_written();
        }
    }

    fn drop_connection(&mut self, link: LinkState) {
        self.connection = None;
        let taken_over = link == LinkState::TakenOver && self.lie != Some(Lie::ForgetsTheTakeover);
        self.session.disconnected(taken_over, 0);
        self.link.send_replace(link);
    }

    async fn serve_settlements_during(&mut self, waited_for: impl Future<Output = ()>) {
        tokio::pin!(waited_for);
        loop {
            tokio::select! {
                biased;
                () = &mut waited_for => return,
                () = self.drain.cancelled(), if self.intake.is_some() => {
                    self.intake = None;
                    return;
                }
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.settled(&receipts),
                    None => return,
                },
            }
        }
    }
}
