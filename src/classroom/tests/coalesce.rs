//! How many status messages the rooms get while clients come and go.

use super::*;

const SINGLES_PER_S: u32 = 5;

/// A class whose members come and go, and the messages on its status topic.
struct Status {
    presence: Presence,
    coalescer: Coalescer,
    /// Messages on the topic, with the number of members who got each.
    delivered: Vec<(Delivery, usize)>,
}

impl Status {
    fn new() -> Self {
        Self {
            presence: Presence::new(PresenceSettings::default()),
            coalescer: Coalescer::new(SINGLES_PER_S),
            delivered: Vec::new(),
        }
    }

    fn event(&mut self, who: &str, what: PresenceChange, now_ms: u64) {
        let kind = match what {
            PresenceChange::Connected => Some("connect"),
            PresenceChange::Ended => Some("tcpclean"),
            PresenceChange::Subscribed(_)
            | PresenceChange::Unsubscribed(_)
            | PresenceChange::Hello { .. }
            | PresenceChange::Bye { .. } => None,
        };
        let notice = kind.map(|kind| notice_of(who, kind));
        let event = PresenceEvent {
            client: client(who),
            channel: format!("of {who}").into(),
            at_ms: now_ms,
            change: what,
        };
        let update = self.presence.apply(&event, now_ms);
        let told = self.coalescer.offer(notice, &update, &self.presence, now_ms);
        self.deliver(told);
    }

    fn tick(&mut self, now_ms: u64) {
        let summary = self.coalescer.tick(&self.presence, now_ms);
        self.deliver(summary);
    }

    fn deliver(&mut self, told: impl IntoIterator<Item = Delivery>) {
        let listeners = self.presence.online();
        self.delivered.extend(told.into_iter().map(|delivery| (delivery, listeners)));
    }

    fn joins(&mut self, who: &str, where_: &str, now_ms: u64) {
        self.event(who, PresenceChange::Connected, now_ms);
        self.event(who, PresenceChange::Subscribed(vec![format!("room/message/{where_}")]), now_ms);
    }

    fn deliveries(&self) -> usize {
        self.delivered.iter().map(|(_, listeners)| listeners).sum()
    }

    fn of_type(&self, event_type: &str) -> Vec<Value> {
        let bodies = self.delivered.iter().map(|(delivery, _)| json_of(delivery));
        bodies.filter(|body| body["eventType"] == event_type).collect()
    }

    fn summaries(&self) -> Vec<Value> {
        self.of_type("summary")
    }

    /// Clients whose coming was told, singly or in a summary.
    fn came(&self) -> usize {
        let summaries = self.summaries();
        let rooms = summaries.iter().flat_map(|summary| summary["rooms"].as_array().unwrap());
        let together: u64 = rooms.map(|room| room["joinedCount"].as_u64().unwrap()).sum();
        self.of_type("connect").len() + self.of_type("join").len() + together as usize
    }
}

fn notice_of(who: &str, kind: &str) -> Bytes {
    let notice = serde_json::json!({"clientId": who, "time": 1, "eventType": kind, "channelId": "c"});
    notice.to_string().into()
}

fn pupil(number: usize) -> String {
    format!("GID_student@@@{number:05}")
}

fn room_news(who: &str, kind: &str, room: &str, online: u64, now_ms: u64) -> Value {
    serde_json::json!({"clientId": who, "time": now_ms, "eventType": kind, "roomId": room, "online": online})
}

fn subscription(room: &str) -> PresenceChange {
    PresenceChange::Subscribed(vec![format!("room/message/{room}")])
}

#[test]
fn a_few_events_pass_as_they_are() {
    let mut status = Status::new();
    status.joins(LI, "7", START_MS);
    status.event(LI, PresenceChange::Ended, START_MS + 500);
    assert_eq!(status.delivered.len(), 2, "the join of a connection that was just told is not told");
    assert_eq!(status.delivered[0].0.body, notice_of(LI, "connect"));
    assert_eq!(status.delivered[1].0.body, notice_of(LI, "tcpclean"));
    assert_eq!(
        (&status.delivered[1].0.topic, status.delivered[1].0.order_key.as_str()),
        (&ClassTopic::Status, "status")
    );
    assert!(!status.coalescer.is_waiting());
}

#[test]
fn a_room_that_is_joined_or_left_later_is_told_with_the_name_of_the_client() {
    let mut status = Status::new();
    status.joins(LI, "7", START_MS);
    status.delivered.clear();

    // When: it goes on to another room, long after it came.
    let later = START_MS + 2_500;
    status.event(LI, PresenceChange::Unsubscribed(vec!["room/message/7".to_owned()]), later);
    status.event(LI, subscription("8"), later + 1);

    let told: Vec<Value> = status.delivered.iter().map(|(delivery, _)| json_of(delivery)).collect();
    let expected = [room_news(LI, "leave", "7", 0, later), room_news(LI, "join", "8", 1, later + 1)];
    assert_eq!(told, expected);
}

#[test]
fn whoever_was_not_told_of_the_connection_is_told_of_the_join() {
    let mut status = Status::new();
    (0..10).for_each(|number| status.joins(&pupil(number), "7", START_MS));
    // Given: this connection comes while others wait. When: its client joins after the summary.
    status.event(LI, PresenceChange::Connected, START_MS + 10);
    status.tick(START_MS + 1_000);
    status.delivered.clear();
    status.event(LI, subscription("9"), START_MS + 1_001);
    assert_eq!(json_of(&status.delivered[0].0), room_news(LI, "join", "9", 1, START_MS + 1_001));
}

#[test]
fn several_rooms_at_once_are_several_single_messages_as_far_as_the_rate_goes() {
    let mut status = Status::new();
    status.event(LI, PresenceChange::Connected, START_MS);
    status.delivered.clear();
    let rooms: Vec<String> = (0..8).map(|room| format!("room/message/{room}")).collect();
    status.event(LI, PresenceChange::Subscribed(rooms), START_MS + 2_500);
    status.tick(START_MS + 3_500);
    assert_eq!(status.of_type("join").len(), SINGLES_PER_S as usize);
    assert_eq!(status.came(), 8);
}

#[test]
fn a_thousand_joins_are_no_half_a_million_deliveries() {
    // Given: the number of deliveries if each event went to everybody.
    let one_by_one: usize = (1..=1_000).sum();
    assert_eq!(one_by_one, 500_500);

    for span_ms in [100, 1_000, 10_000] {
        // When: a thousand clients come within that time.
        let mut status = Status::new();
        for number in 0..1_000 {
            let now_ms = START_MS + number as u64 * span_ms / 1_000;
            status.joins(&pupil(number), "7", now_ms);
            status.tick(now_ms);
        }
        status.tick(START_MS + span_ms + 1_000);

        // Then: few messages a second, and all of them are accounted for.
        let seconds = span_ms.div_ceil(1_000) as usize;
        assert!(
            status.delivered.len() <= 2 + SINGLES_PER_S as usize * (seconds + 1) + seconds + 1,
            "{}",
            status.delivered.len()
        );
        assert!(status.deliveries() < 40_000, "{span_ms} ms: {}", status.deliveries());
        assert_eq!(status.came(), 1_000);
        assert_eq!(status.summaries().last().unwrap()["rooms"][0]["online"], 1_000);
        assert!(!status.coalescer.is_waiting());
    }
}

#[test]
fn a_summary_names_twenty_and_counts_all() {
    let mut status = Status::new();
    (0..300).for_each(|number| status.joins(&pupil(number), "7", START_MS));
    status.tick(START_MS + 1_000);
    (0..250).for_each(|number| status.event(&pupil(number), PresenceChange::Ended, START_MS + 1_000));
    status.tick(START_MS + 2_000);

    let summary = status.summaries().pop().unwrap();
    let rooms = summary["rooms"].as_array().unwrap();
    assert_eq!((rooms.len(), &rooms[0]["online"]), (1, &Value::from(50)));
    assert_eq!(rooms[0]["left"].as_array().unwrap().len(), 20);
    assert!(rooms[0]["leftCount"].as_u64().unwrap() > 230, "the first few passed as they were");
    assert_eq!(rooms[0]["joinedCount"], 0);
}

#[test]
fn who_came_and_left_in_between_is_not_mentioned() {
    let mut status = Status::new();
    (0..10).for_each(|number| status.joins(&pupil(number), "7", START_MS));
    status.tick(START_MS + 1_000);
    status.delivered.clear();

    // Given: the singles of this second are spent. When: one comes and goes, another stays.
    (10..20).for_each(|number| status.joins(&pupil(number), "8", START_MS + 1_000));
    status.joins(LI, "9", START_MS + 1_001);
    status.event(LI, PresenceChange::Ended, START_MS + 1_002);
    status.joins(HAN, "10", START_MS + 1_003);
    status.tick(START_MS + 2_000);

    let last = status.summaries().pop().unwrap();
    let rooms: Vec<_> =
        last["rooms"].as_array().unwrap().iter().map(|summary| summary["roomId"].as_str().unwrap()).collect();
    assert_eq!(rooms, ["8", "10"]);
}

#[test]
fn no_single_event_overtakes_a_change_that_waits() {
    let mut status = Status::new();
    (0..10).for_each(|number| status.joins(&pupil(number), "7", START_MS));
    let before = status.delivered.len();
    // The bucket has filled again, but the summary has not been sent.
    status.event(&pupil(9), PresenceChange::Ended, START_MS + 900);
    assert_eq!(status.delivered.len(), before);
    assert!(status.coalescer.is_waiting());
    status.tick(START_MS + 1_000);
    assert_eq!(status.summaries().last().unwrap()["rooms"][0]["online"], 9);
    status.event(&pupil(8), PresenceChange::Ended, START_MS + 1_100);
    assert_eq!(status.delivered.last().unwrap().0.body, notice_of(&pupil(8), "tcpclean"));
}

#[test]
fn a_ghost_is_not_told() {
    let mut status = Status::new();
    status.event(LI, PresenceChange::Ended, START_MS);
    status.event(LI, PresenceChange::Connected, START_MS);
    assert_eq!(status.delivered.len(), 1, "the end passed, the late connect did not");
}

#[test]
fn one_summary_is_small_and_the_rest_is_told_by_the_next() {
    // Given: client ids as long and as costly as they can be, five in each of 500 rooms.
    let mut status = Status::new();
    for number in 0..2_500 {
        let who = format!("{}{number:04}", "\"".repeat(60));
        status.joins(&who, &format!("{:r<64}", number / 5), START_MS);
    }
    // When: the seconds go by.
    (1..=3).for_each(|second| status.tick(START_MS + second * 1_000));

    // Then: each message stays below the limit, and no room is left out.
    assert!(status.delivered.iter().all(|(delivery, _)| delivery.body.len() < MAX_BODY_BYTES));
    let rooms: Vec<_> =
        status.summaries().iter().map(|summary| summary["rooms"].as_array().unwrap().len()).collect();
    assert!(rooms.iter().all(|rooms| *rooms <= MAX_SUMMARY_ROOMS));
    assert_eq!(status.came(), 2_500);
    assert!(!status.coalescer.is_waiting());
}

#[test]
fn a_clock_that_is_set_back_does_not_silence_the_room() {
    let mut status = Status::new();
    (0..10).for_each(|number| status.joins(&pupil(number), "7", START_MS));
    status.tick(START_MS + 1_000);
    (10..20).for_each(|number| status.joins(&pupil(number), "7", START_MS - 3_600_000));
    status.tick(START_MS - 3_600_000);
    assert_eq!(status.summaries().last().unwrap()["rooms"][0]["online"], 20);
}
