use super::*;

use bytes::Bytes;

use crate::model::{Envelope, MqttProperties, Qos, SystemClock};
use crate::pipeline::{Arrived, ReceiptNumber};

/// A session that the broker has said nothing to yet.
fn session() -> Session {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let parts = SessionParts {
        filters: Vec::new(),
        receive_maximum: 10,
        state: SessionState {
            client_id: "story".to_owned(),
            stamp: String::new(),
            connection: 0,
            generation: 3,
            filters: Vec::new(),
            subscriptions: Vec::new(),
        },
        ledger: ReceiptLedger::new(10),
        ids: MessageIds::new(7),
        metrics: Arc::new(Metrics::new(&[]).unwrap()),
        readiness: Arc::new(Readiness::new(clock.clone())),
        clock,
    };
    Session::new(parts, 3600, || 1)
}

fn connect(session: &mut Session, session_present: bool) {
    let connack = Connack { session_present, limits: Limits::default() };
    session.prepare(&connack, || Ok::<_, ()>(5)).unwrap();
    session.connected(&connack);
}

/// What reaches the intake of such a PUBLISH.
fn publish(session: &mut Session, packet_id: u16, duplicate: bool) -> (Envelope, ReceiptNumber) {
    let publish = Publish {
        topic: "room/message/1".to_owned(),
        payload: Bytes::from_static(b"hi"),
        qos: Qos::AtLeastOnce,
        retain: false,
        duplicate,
        packet_id,
        properties: MqttProperties::default(),
        subscription_identifiers: Vec::new(),
    };
    let mut entered = None;
    let enter = |arrived: Arrived| {
        entered = Some(arrived);
        Ok(())
    };
    session.published(publish, enter).unwrap();
    let Arrived { envelope, receipt } = entered.expect("it is taken in");
    (envelope, receipt.expect("QoS 1"))
}

fn pubacks(session: &mut Session) -> Vec<u16> {
    let acks = session.take_outgoing().filter_map(|packet| match packet {
        ToBroker::Ack { packet_id } => Some(packet_id),
        _ => None,
    });
    acks.collect()
}

/// Hazard 1: on the next connection that identifier may stand for another message.
#[test]
fn a_puback_of_a_dead_connection_never_leaves_on_the_next() {
    let mut session = session();
    connect(&mut session, false);
    let (_, first) = publish(&mut session, 1, false);
    let (_, second) = publish(&mut session, 2, false);
    session.settled(&[first]);
    session.disconnected(false, 0);
    session.settled(&[second]);
    connect(&mut session, true);
    assert_eq!(pubacks(&mut session), [0u16; 0]);
}

/// Hazards 15 and 18: a reader needs the arrival, and the mark of what may be a copy, to tell two messages apart.
#[test]
fn each_message_says_where_it_came_from_and_what_it_may_be_a_copy_of() {
    let mut session = session();
    connect(&mut session, false);
    let (first, receipt) = publish(&mut session, 1, false);
    let (second, _) = publish(&mut session, 2, false);
    session.settled(&[receipt]);
    session.disconnected(false, 0);
    connect(&mut session, true);
    // Under another identifier nothing proves that it is the first.
    let (third, _) = publish(&mut session, 3, true);

    let places = [&first, &second, &third].map(|envelope| {
        let arrival = &envelope.arrival;
        (arrival.session.as_str(), arrival.connection, arrival.sequence, arrival.generation)
    });
    let stamp = "story#0000000000000005";
    assert_eq!(places, [(stamp, 1, 1, 3), (stamp, 1, 2, 3), (stamp, 2, 1, 3)]);
    assert_eq!([first.maybe_copy_of, second.maybe_copy_of], [None, None]);
    assert_eq!(third.maybe_copy_of, Some(first.id));
    assert_ne!(third.id, first.id);
}
