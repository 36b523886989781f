//! An MQTT broker with one session, as far as a subscriber with QoS 1 sees it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::oracle;
use crate::scenario::Setup;
use crate::world::{Published, World};

/// How the broker gives packet identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identifiers {
    /// Goes on over connections, like Mosquitto.
    Continuing,
    /// Begins anew with each connection, like the embedded broker. It gives none twice on one connection: a second "hi"
    /// under the freed identifier of the first would be the limit that GUARANTEES names.
    Restarting,
    /// The lowest that is free, thus a freed one at once.
    Reusing,
}

#[derive(Debug)]
pub enum Packet {
    Publish { packet_id: u16, duplicate: bool, number: usize, message: Published },
    TakenOver,
}

/// The bridge's end of a connection.
pub struct Connection {
    pub session_present: bool,
    /// Ends when the connection does.
    pub packets: mpsc::UnboundedReceiver<Packet>,
    pub pubacks: mpsc::UnboundedSender<u16>,
}

#[derive(Debug)]
struct InFlight {
    packet_id: u16,
    number: usize,
    /// Its place among all that was sent; a redelivery has a new one.
    place: u64,
}

#[derive(Debug, Default)]
struct Session {
    queue: VecDeque<usize>,
    in_flight: VecDeque<InFlight>,
    next_id: u16,
}

struct Connected {
    number: u64,
    owner: &'static str,
    packets: mpsc::UnboundedSender<(Instant, Packet)>,
    reset: CancellationToken,
    /// Of the newest PUBACK.
    acknowledged: u64,
    given: BTreeSet<u16>,
}

pub struct Broker {
    sent: u64,
    identifiers: Identifiers,
    receive_maximum: usize,
    first_id: u16,
    session: Option<Session>,
    connected: Option<Connected>,
    connections: u64,
    pub away: bool,
    /// The next CONNACK does not arrive.
    pub lose_connack: bool,
    last_owner: Option<&'static str>,
    handovers: u64,
}

impl Broker {
    pub fn new(setup: &Setup) -> Self {
        Self {
            sent: 0,
            identifiers: setup.identifiers,
            receive_maximum: setup.receive_maximum,
            first_id: setup.first_packet_id,
            session: None,
            connected: None,
            connections: 0,
            away: false,
            lose_connack: false,
            last_owner: None,
            handovers: 0,
        }
    }

    /// Nothing waits here for the subscriber.
    pub fn is_idle(&self) -> bool {
        let session = self.session.as_ref();
        session.is_none_or(|session| session.queue.is_empty() && session.in_flight.is_empty())
    }

    /// Who had the session last, and how often it changed hands before.
    pub fn holder(&self) -> (Option<&'static str>, u64) {
        (self.last_owner, self.handovers)
    }

    pub fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    fn pump(&mut self, world: &World) {
        let (Some(session), Some(connected)) = (&mut self.session, &mut self.connected) else {
            return;
        };
        while session.in_flight.len() < self.receive_maximum
            && let Some(number) = session.queue.pop_front()
        {
            if self.identifiers == Identifiers::Reusing {
                session.next_id = 1;
            }
            let once = self.identifiers == Identifiers::Restarting;
            let mut in_use: BTreeSet<u16> = session.in_flight.iter().map(|sent| sent.packet_id).collect();
            in_use.extend(connected.given.iter().filter(|_| once));
            while in_use.contains(&session.next_id) {
                session.next_id = following(session.next_id);
            }
            let packet_id = session.next_id;
            session.next_id = following(packet_id);
            connected.given.insert(packet_id);
            self.sent += 1;
            let place = self.sent;
            session.in_flight.push_back(InFlight { packet_id, number, place });
            send(world, connected, packet_id, number, false);
        }
    }

    fn disconnect(&mut self, reset: bool) {
        if let Some(connected) = self.connected.take()
            && reset
        {
            connected.reset.cancel();
        }
    }
}

fn following(packet_id: u16) -> u16 {
    packet_id.checked_add(1).unwrap_or(1)
}

fn send(world: &World, connected: &Connected, packet_id: u16, number: usize, duplicate: bool) {
    let message = world.facts.lock().unwrap().published[number].clone();
    world.log(format!(
        "mqtt: PUBLISH #{number} id={packet_id} dup={duplicate} on connection {} of {}",
        connected.number, connected.owner
    ));
    let packet = Packet::Publish { packet_id, duplicate, number, message };
    let _ = connected.packets.send((Instant::now(), packet));
}

/// Somebody publishes a message.
pub fn publish(world: &World, message: Published) {
    let mut broker = world.mqtt.lock().unwrap();
    if broker.away {
        return;
    }
    let number = {
        let mut facts = world.facts.lock().unwrap();
        facts.published.push(message.clone());
        facts.published.len() - 1
    };
    world.log(format!("published #{number} {} {:?}", message.topic, message.body));
    match &mut broker.session {
        Some(session) => session.queue.push_back(number),
        None => {
            world.facts.lock().unwrap().lost_elsewhere.insert(number);
        }
    }
    broker.pump(world);
}

/// The connection breaks. With a reset what was on its way is gone; otherwise the bridge reads it to its end.
pub fn cut(world: &World, reset: bool) {
    world.log(format!("mqtt: the connection is cut (reset={reset})"));
    world.mqtt.lock().unwrap().disconnect(reset);
}

pub fn set_away(world: &World, away: bool) {
    world.log(format!("mqtt: away={away}"));
    let mut broker = world.mqtt.lock().unwrap();
    broker.away = away;
    if away {
        broker.disconnect(true);
    }
}

/// The broker forgets the session and everything that waits in it.
pub fn lose_session(world: &World) {
    world.log("mqtt: the session is lost");
    let mut broker = world.mqtt.lock().unwrap();
    broker.disconnect(true);
    if let Some(session) = broker.session.take() {
        let mut facts = world.facts.lock().unwrap();
        let sent = session.in_flight.iter().map(|sent| sent.number);
        facts.lost_elsewhere.extend(session.queue.iter().copied().chain(sent));
    }
}

/// A client connects with the session's client id; `None`: no connection.
pub fn connect(world: &Arc<World>, owner: &'static str) -> Option<Connection> {
    let mut guard = world.mqtt.lock().unwrap();
    let broker = &mut *guard;
    if broker.away {
        return None;
    }
    if let Some(old) = broker.connected.take()
        && old.owner != owner
    {
        let _ = old.packets.send((Instant::now(), Packet::TakenOver));
    }
    if broker.last_owner.replace(owner).is_some_and(|last| last != owner) {
        broker.handovers += 1;
        oracle::session_changed_hands(world);
    }
    broker.connections += 1;
    let number = broker.connections;
    let (first_id, identifiers) = (broker.first_id, broker.identifiers);
    let session_present = broker.session.is_some();
    let session = broker.session.get_or_insert_with(|| Session { next_id: first_id, ..Session::default() });
    if identifiers == Identifiers::Restarting {
        session.next_id = 1;
    }
    world.log(format!("mqtt: connection {number} of {owner}, session_present={session_present}"));
    let (packets, sent) = mpsc::unbounded_channel();
    let mut connected = Connected {
        number,
        owner,
        packets,
        reset: CancellationToken::new(),
        acknowledged: 0,
        given: BTreeSet::new(),
    };
    for sent in &mut session.in_flight {
        broker.sent += 1;
        sent.place = broker.sent;
        connected.given.insert(sent.packet_id);
        send(world, &connected, sent.packet_id, sent.number, true);
    }
    let reset = connected.reset.clone();
    broker.connected = Some(connected);
    broker.pump(world);
    if std::mem::take(&mut broker.lose_connack) {
        world.log(format!("mqtt: the CONNACK of connection {number} is lost"));
        world.facts.lock().unwrap().had_unseen_connection = true;
        broker.disconnect(true);
        return None;
    }
    drop(guard);
    let (deliver, packets) = mpsc::unbounded_channel();
    let (pubacks, acknowledged) = mpsc::unbounded_channel();
    tokio::spawn(to_the_bridge(world.clone(), number, sent, deliver, reset));
    tokio::spawn(from_the_bridge(world.clone(), number, acknowledged));
    Some(Connection { session_present, packets, pubacks })
}

fn latency(world: &World, connection: u64) -> Duration {
    Duration::from_millis(world.dice("latency", connection).between(1, 20))
}

async fn to_the_bridge(
    world: Arc<World>,
    connection: u64,
    mut sent: mpsc::UnboundedReceiver<(Instant, Packet)>,
    deliver: mpsc::UnboundedSender<Packet>,
    reset: CancellationToken,
) {
    let latency = latency(&world, connection);
    let pipe = async {
        while let Some((at, packet)) = sent.recv().await {
            tokio::time::sleep_until(at + latency).await;
            let _ = deliver.send(packet);
        }
    };
    tokio::select! {
        biased;
        () = reset.cancelled() => {}
        () = pipe => {}
    }
}

async fn from_the_bridge(world: Arc<World>, connection: u64, mut acknowledged: mpsc::UnboundedReceiver<u16>) {
    let latency = latency(&world, connection + 1_000_000);
    while let Some(packet_id) = acknowledged.recv().await {
        tokio::time::sleep(latency).await;
        puback(&world, connection, packet_id);
    }
    let mut broker = world.mqtt.lock().unwrap();
    if broker.connected.as_ref().is_some_and(|now| now.number == connection) {
        world.log(format!("mqtt: connection {connection} is closed"));
        broker.disconnect(false);
    }
}

fn puback(world: &World, connection: u64, packet_id: u16) {
    let mut guard = world.mqtt.lock().unwrap();
    let broker = &mut *guard;
    let connected = broker.connected.as_mut().filter(|now| now.number == connection);
    let (Some(connected), Some(session)) = (connected, &mut broker.session) else {
        return;
    };
    let place = session.in_flight.iter().position(|sent| sent.packet_id == packet_id);
    let Some(sent) = place.and_then(|place| session.in_flight.remove(place)) else {
        drop(guard);
        return world.violation(format!(
            "PUBACK: identifier {packet_id} on connection {connection} names nothing that waits"
        ));
    };
    if sent.place < connected.acknowledged {
        world.violation(format!("PUBACK: identifier {packet_id} out of order"));
    }
    connected.acknowledged = sent.place;
    world.log(format!("mqtt: PUBACK #{} id={packet_id}", sent.number));
    broker.pump(world);
    drop(guard);
    oracle::acknowledged(world, sent.number);
}
