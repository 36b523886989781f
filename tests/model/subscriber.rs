//! The bridge's MQTT side as `src/mqtt/session.rs` and `subscriber.rs` are, without the protocol: the real ledger, the
//! same order of steps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use roombridge::testing::data_dir::SessionState;
use roombridge::testing::model::{
    Arrival, Clock, Envelope, FilterReason, MessageIds, MqttProperties, Qos, SessionStamp,
};
use roombridge::testing::pipeline::{
    Admission, Arrived, Delivery, Fingerprint, Intake, LinkState, ReceiptLedger, ReceiptNumber, WINDOWS_READ,
};
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
    pub state: SessionState,
    pub ledger: ReceiptLedger,
    pub ids: MessageIds,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub link: watch::Sender<LinkState>,
    pub intake: Option<Intake>,
    pub settled: mpsc::Receiver<Vec<ReceiptNumber>>,
    pub drain: CancellationToken,
    pub come_back: Arc<Notify>,
    pub connection: Option<Connection>,
    pub sequence: u64,
}

enum Woken {
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
            let woken = if self.connection.is_some() { self.next().await } else { Woken::Failed };
            match woken {
                Woken::Packet(Packet::Publish { packet_id, duplicate, number, message }) => {
                    self.handle(packet_id, duplicate, number, message).await
                }
                Woken::Packet(Packet::TakenOver) => {
                    self.world.log(format!("{}: the session was taken over", self.name));
                    self.drop_connection(LinkState::TakenOver);
                    let come_back = self.come_back.clone();
                    self.serve_settlements_during(come_back.notified()).await;
                }
                Woken::Failed if self.settled.is_closed() && self.settled.is_empty() => return,
                Woken::Failed => {
                    self.drop_connection(LinkState::Down);
                    self.serve_settlements_during(tokio::time::sleep(PAUSE)).await;
                }
                Woken::PipelineEnded => return,
            }
        }
    }

    fn connect(&mut self) {
        let Some(connection) = mqtt::connect(&self.world, self.name) else {
            return;
        };
        if !connection.session_present {
            let stamp = self.world.dice("stamp", self.world.elapsed().as_millis() as u64).next();
            self.state.stamp = format!("{}#{stamp:016x}", self.state.client_id);
            self.state.connection = 0;
        }
        self.state.connection += 1;
        self.saved.lock().unwrap().session = Some(self.state.clone());
        self.sequence = 0;
        self.ledger.connected(connection.session_present);
        self.link.send_replace(LinkState::Up);
        self.connection = Some(connection);
    }

    async fn next(&mut self) -> Woken {
        loop {
            let Some(connection) = &mut self.connection else {
                return Woken::Failed;
            };
            let may_read = self.ledger.unacknowledged() < self.world.setup.receive_maximum * WINDOWS_READ;
            tokio::select! {
                biased;
                () = self.drain.cancelled(), if self.intake.is_some() => self.intake = None,
                receipts = self.settled.recv() => match receipts {
                    Some(receipts) => self.settled(&receipts),
                    None => return Woken::PipelineEnded,
                },
                packet = connection.packets.recv(), if may_read => {
                    return packet.map_or(Woken::Failed, Woken::Packet);
                }
            }
        }
    }

    async fn handle(&mut self, packet_id: u16, duplicate: bool, number: usize, message: Published) {
        let delivery = Delivery {
            packet_id,
            duplicate,
            fingerprint: Fingerprint::of(&message.topic, &message.body),
            arrived: self.clock.monotonic(),
        };
        let Some(intake) = self.intake.clone() else {
            if self.ledger.rearm(delivery) {
                self.metrics.received(message.body.len());
                self.metrics.filtered(FilterReason::Redelivered);
                self.acknowledge();
            }
            return;
        };
        let times = if self.lie == Some(Lie::CountsTwice) { 2 } else { 1 };
        (0..times).for_each(|_| self.metrics.received(message.body.len()));
        self.sequence += 1;
        let ids = &mut self.ids;
        let (admission, id) = self.ledger.admit(delivery, || ids.next_id());
        self.world.named(number, &id.to_string());
        self.gate.touch(Point::Delivered);
        let Admission::New { receipt, maybe_copy_of, copy_of } = admission else {
            self.metrics.filtered(FilterReason::Redelivered);
            return self.acknowledge();
        };
        self.world.log(format!(
            "{}: #{number} is {id}, copy of {copy_of:?}, maybe of {maybe_copy_of:?}",
            self.name
        ));
        self.world.allow_copy(number);
        let envelope = Envelope {
            id,
            maybe_copy_of,
            arrival: Arrival {
                session: SessionStamp::new(self.state.stamp.as_str()),
                connection: self.state.connection,
                sequence: self.sequence,
                generation: self.state.generation,
                wall_ms: self.clock.wall_ms(),
                monotonic: self.clock.monotonic(),
            },
            topic: message.topic,
            payload: message.body,
            qos: Qos::AtLeastOnce,
            retain: false,
            duplicate,
            packet_id,
            properties: MqttProperties::default(),
        };
        let arrived = Arrived { envelope, receipt: Some(receipt) };
        self.metrics.in_flight.inc();
        if intake.try_enter(arrived).is_err() {
            self.metrics.in_flight.dec();
            self.ledger.forget(receipt);
            self.metrics.filtered(FilterReason::HeldBack);
            self.step_back(&intake).await;
        } else if self.lie == Some(Lie::AcknowledgesEarly) {
            self.settled(&[receipt]);
        }
    }

    /// The intake is full.
    async fn step_back(&mut self, intake: &Intake) {
        self.world.log(format!("{}: the intake is full", self.name));
        self.drop_connection(LinkState::Down);
        self.link.send_replace(LinkState::Up);
        self.serve_settlements_during(intake.relieved()).await;
    }

    fn settled(&mut self, receipts: &[ReceiptNumber]) {
        receipts.iter().for_each(|receipt| self.ledger.settle(*receipt));
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        while let Some(acknowledgement) = self.ledger.next_acknowledgement() {
            if let Some(connection) = &self.connection {
                let _ = connection.pubacks.send(acknowledgement.packet_id);
            }
            self.gate.touch(Point::Acknowledging);
        }
    }

    fn drop_connection(&mut self, link: LinkState) {
        self.connection = None;
        self.ledger.disconnected();
        if link == LinkState::TakenOver && self.lie != Some(Lie::ForgetsTheTakeover) {
            self.ledger.taken_over();
        }
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
