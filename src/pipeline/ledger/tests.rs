use super::*;
use crate::model::MessageIds;
use proptest::prelude::*;

const WINDOW: usize = 10;

struct Story {
    ledger: ReceiptLedger,
    ids: MessageIds,
    /// Of new messages, in order.
    receipts: Vec<ReceiptNumber>,
}

impl Story {
    fn connected() -> Self {
        let mut ledger = ReceiptLedger::new(WINDOW);
        ledger.connected(false);
        Self { ledger, ids: MessageIds::new(7), receipts: Vec::new() }
    }

    fn publish(&mut self, packet_id: u16, duplicate: bool, text: &str) -> (Admission, MessageId) {
        let fingerprint = Fingerprint::of("room/message/1", text.as_bytes());
        let delivery = Delivery { packet_id, duplicate, fingerprint, arrived: Duration::ZERO };
        let admitted = self.ledger.admit(delivery, || self.ids.next_id());
        if let Admission::New { receipt, .. } = admitted.0 {
            self.receipts.push(receipt);
        }
        admitted
    }

    /// The first message is 1.
    fn settle(&mut self, number: usize) {
        self.ledger.settle(self.receipts[number - 1]);
    }

    fn receipt(&mut self, packet_id: u16, text: &str) -> ReceiptNumber {
        match self.publish(packet_id, false, text).0 {
            Admission::New { receipt, .. } => receipt,
            Admission::Redelivered => panic!("a first delivery is new"),
        }
    }

    fn acks(&mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.ledger.next_acknowledgement()).map(|ack| ack.packet_id).collect()
    }

    fn reconnect(&mut self, session_present: bool) {
        self.ledger.disconnected();
        self.ledger.connected(session_present);
    }
}

#[test]
fn pubacks_leave_in_receive_order_though_lanes_finish_out_of_order() {
    let mut story = Story::connected();
    let first = story.receipt(1, "a");
    let second = story.receipt(2, "b");
    story.ledger.settle(second);
    assert_eq!(story.acks(), [0u16; 0]);
    story.ledger.settle(first);
    assert_eq!(story.acks(), [1, 2]);
}

/// Hazard 1: PUBLISHes of a dead connection surface after its failure, before the next CONNACK event.
#[test]
fn what_surfaces_between_a_failure_and_the_connack_is_never_acked() {
    let mut story = Story::connected();
    story.ledger.disconnected();
    let stale = story.receipt(1, "stale");
    story.ledger.settle(stale);
    assert_eq!(story.acks(), [0u16; 0], "before the CONNACK event");
    story.ledger.connected(false);
    assert_eq!(story.acks(), [0u16; 0], "the new session's packet 1 is another message");
    let fresh = story.receipt(1, "fresh");
    assert_eq!(story.acks(), [0u16; 0]);
    story.ledger.settle(fresh);
    assert_eq!(story.acks(), [1]);
}

/// Hazard 4: what a takeover ended was stored by nobody here; if the session comes back it must not be acknowledged for that.
#[test]
fn what_belonged_to_another_holder_is_new_when_the_session_comes_back() {
    let mut story = Story::connected();
    let stored = story.receipt(1, "stored");
    let given_up = story.receipt(2, "given up");
    story.ledger.settle(stored);
    story.ledger.disconnected();
    story.ledger.taken_over();
    story.ledger.settle(given_up);

    story.ledger.connected(true);
    assert_eq!(story.publish(1, true, "stored").0, Admission::Redelivered);
    let (again, _) = story.publish(2, true, "given up");
    assert!(matches!(again, Admission::New { .. }), "{again:?}");
    assert_eq!(story.acks(), [1], "the second waits for its own end");
}

/// Hazard 2: a copy that comes while the first still waits gets no receipt of its own.
#[test]
fn a_redelivery_arms_the_open_receipt_once() {
    let mut story = Story::connected();
    let (_, id) = story.publish(1, false, "a");
    story.reconnect(true);
    assert_eq!(story.publish(1, true, "a"), (Admission::Redelivered, id));
    assert_eq!(story.publish(1, true, "a"), (Admission::Redelivered, id), "a retry on the live link");
    story.settle(1);
    assert_eq!(story.acks(), [1], "one PUBACK for three copies");
}

#[test]
fn a_message_stored_while_the_link_was_down_is_acked_when_it_comes_again() {
    let mut story = Story::connected();
    let receipt = story.receipt(1, "a");
    story.ledger.disconnected();
    story.ledger.settle(receipt);
    story.ledger.connected(true);
    assert_eq!(story.acks(), [0u16; 0], "not redelivered yet");
    assert_eq!(story.publish(1, true, "a").0, Admission::Redelivered);
    assert_eq!(story.acks(), [1]);
}

#[test]
fn a_lost_session_takes_the_right_to_ack_but_not_the_message() {
    let mut story = Story::connected();
    let old = story.receipt(1, "old");
    story.reconnect(false);
    let new = story.receipt(1, "new");
    story.ledger.settle(old);
    assert_eq!(story.acks(), [0u16; 0], "the settled old message must not confirm the new one");
    story.ledger.settle(new);
    assert_eq!(story.acks(), [1]);
}

#[test]
fn another_message_with_an_open_identifier_takes_it_over() {
    let mut story = Story::connected();
    let old = story.receipt(1, "old");
    let new = story.receipt(1, "new");
    story.ledger.settle(old);
    assert_eq!(story.acks(), [0u16; 0]);
    story.ledger.settle(new);
    assert_eq!(story.acks(), [1], "one PUBACK, for the message that holds the identifier now");
}

/// Hazard 15: only the connection just before proves a copy.
#[test]
fn a_copy_is_proven_by_the_connection_just_before_and_takes_the_id() {
    let mut story = Story::connected();
    let (_, id) = story.publish(1, false, "hi");
    story.settle(1);
    assert_eq!(story.acks(), [1]);
    story.reconnect(true);
    let (admission, again) = story.publish(1, true, "hi");
    assert_eq!(again, id);
    assert!(matches!(admission, Admission::New { copy_of: Some(of), .. } if of == id));
}

/// Hazard 15: an identifier that was given again proves nothing when its message says something else.
#[test]
fn another_message_with_a_reused_identifier_is_no_copy() {
    let mut story = Story::connected();
    let (_, first) = story.publish(1, false, "hi");
    story.settle(1);
    assert_eq!(story.acks(), [1]);
    story.reconnect(true);
    let (admission, second) = story.publish(1, true, "how are you?");
    assert_ne!(second, first);
    assert!(matches!(admission, Admission::New { copy_of: None, maybe_copy_of: None, .. }));
}

/// Hazard 15, the embedded broker's identifiers: "hi" as 1, another "hi" as 1 lost, redelivered as 1.
#[test]
fn a_second_hi_is_never_hidden_behind_an_older_connection() {
    let mut story = Story::connected();
    let (_, first) = story.publish(1, false, "hi");
    story.settle(1);
    story.acks();
    story.reconnect(true);
    story.reconnect(true);
    let (admission, second) = story.publish(1, true, "hi");
    assert_ne!(second, first);
    assert!(matches!(admission, Admission::New { copy_of: None, .. }));
}

#[test]
fn a_doubtful_copy_keeps_its_own_id_and_is_marked() {
    let mut story = Story::connected();
    let (_, first) = story.publish(1, false, "hi");
    story.settle(1);
    story.acks();
    story.reconnect(true);
    let (admission, second) = story.publish(2, true, "hi");
    assert_ne!(second, first);
    assert!(
        matches!(admission, Admission::New { maybe_copy_of: Some(of), copy_of: None, .. } if of == first)
    );
}

/// Hazards 15 and 17: equal content proves nothing.
#[test]
fn two_people_who_both_say_hi_are_two_messages() {
    let mut story = Story::connected();
    let (_, first) = story.publish(1, false, "hi");
    story.settle(1);
    story.acks();
    let (admission, second) = story.publish(1, false, "hi");
    assert_ne!(first, second);
    assert!(matches!(admission, Admission::New { copy_of: None, maybe_copy_of: None, .. }));
}

#[test]
fn a_forgotten_delivery_comes_again_as_new() {
    let mut story = Story::connected();
    let receipt = story.receipt(1, "a");
    story.ledger.forget(receipt);
    story.reconnect(true);
    assert!(matches!(story.publish(1, true, "a").0, Admission::New { .. }));
    assert_eq!(story.ledger.unacknowledged(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Publish { packet_id: u16, duplicate: bool, text: u8 },
    Settle(usize),
    Lose,
    Resume,
    StartAnew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u16..5, any::<bool>(), 0u8..3)
            .prop_map(|(packet_id, duplicate, text)| Step::Publish { packet_id, duplicate, text }),
        4 => (0usize..8).prop_map(Step::Settle),
        1 => Just(Step::Lose),
        1 => Just(Step::Resume),
        1 => Just(Step::StartAnew),
    ]
}

proptest! {
    /// Whatever happens, a PUBACK names a delivery of the present connection whose message was settled, in receive
    /// order, and each delivery gets at most one.
    #[test]
    fn every_puback_stands_for_a_settled_delivery_of_this_connection(steps in prop::collection::vec(step(), 1..60)) {
        let mut story = Story::connected();
        let mut up = true;
        let mut receipts = Vec::new();
        let mut settled = std::collections::HashSet::new();
        let mut delivered: VecDeque<(u16, String)> = VecDeque::new();
        for step in steps {
            match step {
                Step::Publish { packet_id, duplicate, text } => {
                    let text = text.to_string();
                    let (admission, _) = story.publish(packet_id, duplicate, &text);
                    if let Admission::New { receipt, .. } = admission {
                        receipts.push((receipt, text.clone()));
                    }
                    if up { delivered.push_back((packet_id, text)); }
                }
                Step::Settle(index) => if let Some((receipt, text)) = receipts.get(index) {
                    story.ledger.settle(*receipt);
                    settled.insert(text.clone());
                },
                Step::Lose => { story.ledger.disconnected(); up = false; delivered.clear(); }
                Step::Resume | Step::StartAnew => {
                    story.ledger.disconnected();
                    story.ledger.connected(matches!(step, Step::Resume));
                    up = true;
                    delivered.clear();
                }
            }
            for packet_id in story.acks() {
                prop_assert!(up);
                let place = delivered.iter().position(|(id, text)| *id == packet_id && settled.contains(text));
                prop_assert!(place.is_some(), "PUBACK {packet_id} for nothing settled on this connection");
                delivered.drain(..=place.unwrap());
            }
        }
    }
}

#[test]
fn a_doubtful_copy_is_told_also_of_what_came_after_the_first_doubt() {
    let mut story = Story::connected();
    story.publish(1, true, "never read before");
    let (_, open) = story.publish(2, false, "hi");
    let maybe_copy_of = |admission| match admission {
        Admission::New { maybe_copy_of, .. } => maybe_copy_of,
        Admission::Redelivered => panic!("another identifier"),
    };
    assert_eq!(maybe_copy_of(story.publish(3, true, "hi").0), Some(open));
    assert_eq!(maybe_copy_of(story.publish(4, true, "another").0), None);
}

/// A broker may redeliver what it had sent and we had never read: looking each up in all the others took minutes.
#[test]
fn a_hundred_thousand_redeliveries_are_admitted_in_a_moment() {
    let mut story = Story::connected();
    let started = std::time::Instant::now();
    for number in 0..100_000_u32 {
        let packet_id = (number % 65_535 + 1) as u16;
        story.publish(packet_id, true, &number.to_string());
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// Another subscription brought the same message: what is left out is acknowledged in its turn, and is nobody's original.
#[test]
fn a_left_out_delivery_is_acknowledged_in_order_and_remembered_by_nobody() {
    let mut story = Story::connected();
    let fingerprint = Fingerprint::of("room/message/1", b"a");
    let delivery =
        |packet_id, duplicate| Delivery { packet_id, duplicate, fingerprint, arrived: Duration::ZERO };
    let (kept, id) = story.publish(1, false, "a");
    let Admission::New { receipt, .. } = kept else { panic!("{kept:?}") };
    assert!(story.ledger.leave_out(delivery(2, false)));
    assert!(!story.ledger.leave_out(delivery(2, true)), "its copy on the same connection");
    assert_eq!(story.acks(), [0u16; 0], "the older one is not stored");
    assert_eq!(story.ledger.last_with(fingerprint), Some(id));
    story.ledger.settle(receipt);
    assert_eq!(story.acks(), [1, 2]);

    // when both PUBACKs are lost, the one that was stored is known, and the other one is new, whatever it is judged to be now
    story.reconnect(true);
    assert_eq!(story.publish(1, true, "a").1, id);
    let (admission, other) = story.publish(2, true, "a");
    assert!(
        matches!(admission, Admission::New { copy_of: None, maybe_copy_of: Some(maybe), .. } if maybe == id),
        "{admission:?}"
    );
    assert_ne!(other, id);
}

#[test]
fn a_left_out_delivery_that_waits_is_judged_anew_on_the_next_connection() {
    let mut story = Story::connected();
    story.receipt(1, "waits");
    let delivery = Delivery {
        packet_id: 2,
        duplicate: false,
        fingerprint: Fingerprint::of("room/message/1", b"b"),
        arrived: Duration::ZERO,
    };
    assert!(story.ledger.leave_out(delivery));
    story.reconnect(true);
    assert!(matches!(story.publish(1, true, "waits").0, Admission::Redelivered));
    assert!(matches!(story.publish(2, true, "b").0, Admission::New { .. }));
}

/// Hazards 2 and 15: a new session gives identifiers anew, so what came in the old one proves nothing and is acknowledged by nobody.
#[test]
fn a_lost_session_proves_no_copy_and_arms_nothing() {
    let mut story = Story::connected();
    let (_, stored) = story.publish(1, false, "stored");
    story.settle(1);
    assert_eq!(story.acks(), [1]);
    let (_, waits) = story.publish(2, false, "waits");
    story.reconnect(false);
    for (packet_id, text, old) in [(1, "stored", stored), (2, "waits", waits)] {
        let (admission, id) = story.publish(packet_id, true, text);
        assert!(matches!(admission, Admission::New { copy_of: None, .. }), "{text}: {admission:?}");
        assert_ne!(id, old, "{text}");
    }
    story.settle(2);
    assert_eq!(story.acks(), [0u16; 0], "the old message confirms none of the new session");
}

/// Hazard 16: a broker that started from an old snapshot delivers as new what was acknowledged. Nobody can tell it from a second
/// "hi", so it is a message of its own.
#[test]
fn what_is_delivered_again_as_new_is_hidden_behind_nothing() {
    let mut story = Story::connected();
    let (_, first) = story.publish(1, false, "hi");
    story.settle(1);
    assert_eq!(story.acks(), [1]);
    story.reconnect(true);
    let (admission, again) = story.publish(1, false, "hi");
    assert_ne!(again, first);
    assert!(matches!(admission, Admission::New { copy_of: None, maybe_copy_of: None, .. }), "{admission:?}");
}
