use super::*;
use proptest::prelude::*;

/// A session without a broker: each request is answered by hand.
struct Session {
    subscriptions: Subscriptions,
    next_packet_id: u16,
    open: Vec<SubscriptionRequest>,
}

impl Session {
    fn of(filters: &[&str]) -> Self {
        let mut session = Self::with(filters, Vec::new(), &[]);
        session.subscriptions.connected(false, true, |_| false);
        session
    }

    fn with(filters: &[&str], kept: Vec<Subscription>, older: &[String]) -> Self {
        let filters: Vec<TopicFilter> =
            filters.iter().map(|text| TopicFilter::parse(text).unwrap()).collect();
        let mut next = 100;
        let subscriptions = Subscriptions::new(&filters, kept, older, || {
            next += 1;
            next
        });
        Self { subscriptions, next_packet_id: 0, open: Vec::new() }
    }

    /// The next process, with other filters, in the same session.
    fn restarted(&self, filters: &[&str]) -> Self {
        let mut next = Self::with(filters, self.subscriptions.kept(), &[]);
        next.subscriptions.connected(true, true, |_| false);
        next
    }

    /// What is requested now, `-` before what is unsubscribed.
    fn requests(&mut self) -> Vec<String> {
        let next_packet_id = &mut self.next_packet_id;
        let requests = self.subscriptions.due(|| {
            *next_packet_id += 1;
            *next_packet_id
        });
        let texts = requests.iter().map(|request| match request.action {
            SubscriptionAction::Subscribe(_) => request.filter.clone(),
            SubscriptionAction::Unsubscribe => format!("-{}", request.filter),
        });
        let texts = texts.collect();
        self.open.extend(requests);
        texts
    }

    fn answer(&mut self, filter: &str, codes: &[u8]) {
        let at = self.open.iter().position(|request| request.filter == filter).unwrap();
        let request = self.open.remove(at);
        let packet_id = request.packet_id;
        match request.action {
            SubscriptionAction::Subscribe(_) => {
                self.subscriptions.subscribed(Suback { packet_id, verdict: verdict(codes) });
            }
            SubscriptionAction::Unsubscribe => {
                let is_done = matches!(verdict(codes), SubscribeVerdict::Granted(_));
                let result = if is_done { Ok(()) } else { Err("why".to_owned()) };
                self.subscriptions.unsubscribed(Unsuback { packet_id, result });
            }
        }
    }

    /// Grants everything until nothing more is asked for.
    fn settle(&mut self) {
        loop {
            self.requests();
            let Some(filter) = self.open.first().map(|request| request.filter.clone()) else {
                return;
            };
            self.answer(&filter, &[1]);
        }
    }

    fn seconds(&mut self, seconds: u32) {
        (0..seconds).for_each(|_| self.subscriptions.second_passed());
    }

    fn identifier(&self, filter: &str) -> usize {
        let kept = self.subscriptions.kept();
        let found = kept.iter().find(|kept| kept.filter == filter).unwrap();
        found.identifier as usize
    }

    fn judge(&self, topic: &str, filters: &[&str]) -> Overlap {
        let identifiers: Vec<usize> = filters.iter().map(|filter| self.identifier(filter)).collect();
        self.subscriptions.judge(topic, &identifiers, true)
    }

    /// Seconds from now to the next request.
    fn seconds_to_request(&mut self) -> u32 {
        (0..100)
            .find(|_| {
                let requested = !self.requests().is_empty();
                if !requested {
                    self.seconds(1);
                }
                requested
            })
            .unwrap()
    }
}

const IDENTIFIERS_NOT_SUPPORTED: u8 = 0xA1;

/// As the codec of MQTT 5 takes the codes of an answer.
fn verdict(codes: &[u8]) -> SubscribeVerdict {
    let why = "why".to_owned();
    match *codes {
        [0] => SubscribeVerdict::Granted(Qos::AtMostOnce),
        [code] if code < 0x80 => SubscribeVerdict::Granted(Qos::AtLeastOnce),
        [IDENTIFIERS_NOT_SUPPORTED] => SubscribeVerdict::IdentifiersNotSupported(why),
        [_] => SubscribeVerdict::Refused(why),
        _ => SubscribeVerdict::Unclear(why),
    }
}

const ONE: &str = "room/+/1";
const ALL: &str = "room/message/+";
const BOTH: &str = "room/message/1";

#[test]
fn what_is_refused_is_asked_for_again_with_growing_pauses_until_it_is_granted() {
    for code in 0x80..=0xffu8 {
        let mut session = Session::of(&["room/#"]);
        assert_eq!(session.requests(), ["room/#"]);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            session.answer("room/#", &[code]);
            pauses.push(session.seconds_to_request());
        }
        // a broker without identifiers is asked at once, and without
        let expected = if code == IDENTIFIERS_NOT_SUPPORTED { [0, 1, 2, 4, 5] } else { [1, 2, 4, 5, 5] };
        assert_eq!(pauses, expected, "{code:#x}");
        assert!(!session.subscriptions.are_complete());
        session.answer("room/#", &[1]);
        assert!(session.subscriptions.are_complete() && session.subscriptions.complaints().is_empty());
    }
}

#[test]
fn a_wish_ends_the_pause_and_each_ask_has_an_identifier_of_its_own() {
    let mut session = Session::of(&["room/#"]);
    session.requests();
    session.answer("room/#", &[0x91]);
    assert!(session.requests().is_empty());
    let complaints = session.subscriptions.complaints();
    assert!(complaints[0].contains("room/#") && complaints[0].contains("why"), "{complaints:?}");
    session.subscriptions.retry_now();
    assert_eq!(session.requests(), ["room/#"]);
    assert_eq!(session.open[0].packet_id, 2);
}

#[test]
fn no_answer_and_an_answer_of_another_size_are_refusals() {
    let mut session = Session::of(&["room/#"]);
    session.requests();
    session.seconds(ANSWER_S);
    assert!(session.subscriptions.complaints()[0].contains("no answer"));
    assert_eq!(session.seconds_to_request(), 1);
    session.open.remove(0);
    for codes in [&[][..], &[1, 1]] {
        session.answer("room/#", codes);
        assert!(!session.subscriptions.are_complete());
        session.seconds_to_request();
    }
    session.answer("room/#", &[0]);
    assert!(session.subscriptions.are_complete());
    assert!(session.subscriptions.complaints()[0].contains("QoS 0"));
}

/// The answer to the first request comes when it was given up already.
#[test]
fn a_late_answer_counts() {
    let mut session = Session::of(&["room/#"]);
    session.requests();
    session.seconds(ANSWER_S);
    session.answer("room/#", &[1]);
    assert!(session.subscriptions.are_complete() && session.requests().is_empty());
}

#[test]
fn a_covered_filter_is_asked_for_only_while_the_wider_one_is_refused() {
    let mut session = Session::of(&["room/command/#", "room/#", "roomSend/#"]);
    assert_eq!(session.requests(), ["room/#", "roomSend/#"]);
    session.answer("room/#", &[0x87]);
    session.answer("roomSend/#", &[1]);
    assert_eq!(session.requests(), ["room/command/#"]);
    session.answer("room/command/#", &[1]);
    assert!(!session.subscriptions.are_complete(), "the rest of room/# is lost");

    // when the wider one is granted, the narrow one is given up, and stays the one that counts until it is gone
    session.seconds(1);
    assert_eq!(session.requests(), ["room/#"]);
    session.answer("room/#", &[1]);
    assert!(session.subscriptions.are_complete());
    let topic = "room/command/1";
    assert_eq!(session.judge(topic, &["room/#"]), Overlap::Copy);
    assert_eq!(session.judge(topic, &["room/command/#"]), Overlap::None);
    assert_eq!(session.requests(), ["-room/command/#"]);
    assert_eq!(session.judge(topic, &["room/#"]), Overlap::Copy);
    let held_back = session.subscriptions.judge(topic, &[session.identifier("room/#")], false);
    assert_eq!(held_back, Overlap::Doubt, "the narrow one may be thrown away at the broker");
    session.answer("room/command/#", &[0]);
    assert_eq!(session.judge(topic, &["room/#"]), Overlap::Doubt, "it may have waited at the broker");
    assert_eq!(session.judge("room/x", &["room/#"]), Overlap::None);
    assert!(session.requests().is_empty());
}

#[test]
fn of_two_that_match_the_same_the_first_is_asked_for() {
    assert_eq!(Session::of(&["+/#", "#"]).requests(), ["+/#"]);
    assert_eq!(Session::of(&["#", "+/#", "$SYS/#"]).requests(), ["#", "$SYS/#"]);
}

#[test]
fn of_two_that_overlap_the_first_granted_counts_whatever_the_order_of_the_bindings() {
    let mut session = Session::of(&[ONE, ALL]);
    assert_eq!(session.requests(), [ONE], "one after the other");
    session.answer(ONE, &[1]);
    assert_eq!(session.requests(), [ALL]);
    assert_eq!(session.judge(BOTH, &[ALL]), Overlap::Copy, "the first one was granted before");
    session.answer(ALL, &[1]);
    for mut session in [session.restarted(&[ONE, ALL]), session.restarted(&[ALL, ONE])] {
        assert!(session.subscriptions.is_unsure(), "what a kept session brings waits");
        session.settle();
        assert!(!session.subscriptions.is_unsure());
        assert_eq!(session.judge(BOTH, &[ONE]), Overlap::None);
        assert_eq!(session.judge(BOTH, &[ALL]), Overlap::Copy);
        assert_eq!(session.judge(BOTH, &[ONE, ALL]), Overlap::None, "one copy for both");
        assert_eq!(session.judge("room/message/2", &[ALL]), Overlap::None);
        assert_eq!(session.judge(BOTH, &[]), Overlap::Doubt, "no identifiers");
    }
}

#[test]
fn a_filter_that_is_added_leaves_what_waits_alone() {
    let mut session = Session::of(&[ALL]);
    session.settle();
    let mut session = session.restarted(&[ONE, ALL]);
    session.settle();
    assert_eq!(session.judge(BOTH, &[ALL]), Overlap::None, "it may have waited");
    assert_eq!(session.judge(BOTH, &[ONE]), Overlap::Copy);
}

#[test]
fn while_the_one_that_counts_is_refused_or_granted_with_qos_0_nothing_is_left_out() {
    for code in [0x87, 0] {
        let mut session = Session::of(&[ONE, ALL]);
        session.settle();
        let mut session = session.restarted(&[ONE, ALL]);
        session.requests();
        session.answer(ONE, &[code]);
        session.settle();
        assert_eq!(session.judge(BOTH, &[ALL]), Overlap::Doubt);
        assert_eq!(session.judge(BOTH, &[ONE]), Overlap::Doubt, "it may still come");
    }
}

#[test]
fn a_filter_that_left_the_bindings_is_unsubscribed_when_all_that_take_its_place_are_granted() {
    let mut session = Session::of(&["room/#", "other/#"]);
    session.settle();
    let mut session = session.restarted(&[ONE, ALL]);
    assert_eq!(session.requests(), [ONE, "-other/#"]);
    session.answer(ONE, &[1]);
    assert_eq!(session.requests(), [ALL]);
    session.answer(ALL, &[0x87]);
    assert!(session.requests().is_empty(), "room/# still brings what is refused");
    session.seconds(1);
    assert_eq!(session.requests(), [ALL]);
    session.answer(ALL, &[1]);
    assert_eq!(session.requests(), ["-room/#"]);
    session.answer("room/#", &[0x91]);
    assert!(session.subscriptions.complaints()[0].contains("room/#"));
    session.seconds(1);
    assert_eq!(session.requests(), ["-room/#"]);
    session.answer("room/#", &[0x11]);
    session.answer("other/#", &[0]);
    assert!(session.subscriptions.complaints().is_empty() && session.requests().is_empty());
}

/// The file of version 0.1 names filters and no identifiers.
#[test]
fn overlapping_filters_of_a_session_without_identifiers_are_in_doubt() {
    let older = ["room/command/#".to_owned(), "room/#".to_owned()];
    let mut session = Session::with(&["room/command/#", "room/#"], Vec::new(), &older);
    session.subscriptions.connected(true, true, |_| false);
    assert_eq!(session.requests(), ["room/#"]);
    assert_eq!(session.judge("room/command/1", &[]), Overlap::Doubt);
    session.answer("room/#", &[1]);
    assert_eq!(session.requests(), ["-room/command/#"]);
}

#[test]
fn an_identifier_belongs_to_its_filter_for_ever() {
    let mut session = Session::of(&[ONE, ALL]);
    session.settle();
    let (one, all) = (session.identifier(ONE), session.identifier(ALL));
    let mut session = session.restarted(&[ALL]);
    session.settle();
    // the session is lost, and the filter comes back
    session.subscriptions.connected(false, true, |_| false);
    session.settle();
    let session = session.restarted(&["room/x", ALL, ONE]);
    assert_eq!((session.identifier(ONE), session.identifier(ALL)), (one, all));
    assert!(![one, all].contains(&session.identifier("room/x")));
}

#[test]
fn a_broker_without_identifiers_is_asked_without_and_complained_of_where_filters_overlap() {
    let mut session = Session::with(&[ONE, ALL], Vec::new(), &[]);
    session.subscriptions.connected(false, false, |_| false);
    session.requests();
    assert_eq!(session.open[0].action, SubscriptionAction::Subscribe(None));
    session.answer(ONE, &[1]);
    session.settle();
    assert!(session.subscriptions.complaints()[0].contains("subscription identifiers"));
    let mut apart = Session::with(&["a/#", "b/#"], Vec::new(), &[]);
    apart.subscriptions.connected(false, false, |_| false);
    apart.settle();
    assert!(apart.subscriptions.complaints().is_empty());
}

#[test]
fn what_the_broker_would_hang_up_for_is_not_asked_for() {
    let mut session = Session::with(&["room/#", "room/1"], Vec::new(), &[]);
    session.subscriptions.connected(false, true, |filter| filter.contains('#'));
    session.settle();
    session.seconds(60);
    assert!(session.requests().is_empty() && !session.subscriptions.are_complete());
    assert_eq!(session.judge("room/1", &["room/1"]), Overlap::None);
}

#[derive(Debug, Clone)]
enum Step {
    Answer(u8),
    Publish(usize),
    Reconnect,
    Configure(usize),
    Second,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop_oneof![4 => Just(1u8), 1 => Just(0x87), 1 => Just(0x91), 1 => Just(0)].prop_map(Step::Answer),
        6 => (0..4usize).prop_map(Step::Publish),
        1 => Just(Step::Reconnect),
        1 => (0..5usize).prop_map(Step::Configure),
        3 => Just(Step::Second),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// A broker that takes requests in order, keeps what it granted, and gives each subscription a copy of its own, whether
    /// they come at once or wait: whatever happens, not all copies of a message are left out.
    #[test]
    fn one_copy_of_each_message_stays(steps in steps(), merges: bool) {
        const CONFIGURATIONS: [&[&str]; 5] =
            [&[ONE, ALL], &[ALL, ONE], &["room/#", ONE], &[ONE, ALL, BOTH], &["+/message/#", ONE, "room/+/+"]];
        const TOPICS: [&str; 4] = [BOTH, "room/message/2", "room/x/1", "room/x/2"];
        let mut session = Session::of(CONFIGURATIONS[0]);
        // What the broker's session has: filter and identifier.
        let mut has: Vec<(String, usize)> = Vec::new();
        for step in steps {
            session.requests();
            match step {
                Step::Answer(code) => {
                    let Some(request) = session.open.first().cloned() else { continue };
                    let filter = request.filter.clone();
                    match request.action {
                        SubscriptionAction::Subscribe(identifier) if code < 0x80 => {
                            has.retain(|(has, _)| *has != filter);
                            has.push((filter.clone(), identifier.unwrap() as usize));
                        }
                        SubscriptionAction::Unsubscribe if code < 0x80 => has.retain(|(has, _)| *has != filter),
                        SubscriptionAction::Subscribe(_) | SubscriptionAction::Unsubscribe => {}
                    }
                    session.answer(&filter, &[code]);
                }
                Step::Publish(topic) => {
                    let topic = TOPICS[topic];
                    let copies: Vec<usize> = has
                        .iter()
                        .filter(|(filter, _)| TopicFilter::parse(filter).unwrap().matches(topic))
                        .map(|(_, identifier)| *identifier)
                        .collect();
                    let copies: Vec<&[usize]> =
                        if merges && !copies.is_empty() { vec![&copies] } else { copies.chunks(1).collect() };
                    let judged: Vec<Overlap> =
                        copies.iter().map(|ids| session.subscriptions.judge(topic, ids, true)).collect();
                    prop_assert!(
                        judged.is_empty() || judged.iter().any(|overlap| *overlap != Overlap::Copy),
                        "{} {:?} {:?}", topic, has, session.subscriptions
                    );
                }
                Step::Reconnect => {
                    session.open.clear();
                    session.subscriptions.connected(true, true, |_| false);
                }
                Step::Configure(number) => session = session.restarted(CONFIGURATIONS[number]),
                Step::Second => session.seconds(1),
            }
        }
    }
}

/// Each thing that may be said of subscriptions.
pub(crate) fn complaints() -> Vec<String> {
    let entry = |request: RequestState| {
        let mut subscriptions = Session::of(&["room/#"]).subscriptions;
        subscriptions.entries[0].request = request;
        subscriptions.complaints()
    };
    let refused = |unsubscribing| RequestState::Refused {
        reason: "0x87 not authorized".to_owned(),
        retry_in_s: 1,
        unsubscribing,
    };
    let mut all =
        [refused(false), refused(true), RequestState::Granted { at_most_once: true }].map(entry).concat();
    all.push(without_identifiers("room/#", "+/message/1"));
    all
}

#[test]
fn what_is_missing_is_named_with_its_state_and_reason() {
    let mut session = Session::of(&["room/#", "exam/#"]);
    session.requests();
    assert_eq!(session.subscriptions.missing(), ["\"room/#\" (no answer yet)", "\"exam/#\" (no answer yet)"]);
    assert_eq!(session.subscriptions.unanswered(), ["\"room/#\"", "\"exam/#\""]);
    session.answer("exam/#", &[1]);
    session.answer("room/#", &[0x87]);
    assert_eq!(session.subscriptions.missing(), ["\"room/#\" (why)"]);
    assert!(session.subscriptions.unanswered().is_empty() && !session.subscriptions.are_complete());
    session.subscriptions.disconnected();
    assert!(session.subscriptions.missing().is_empty() && !session.subscriptions.are_complete());
}
