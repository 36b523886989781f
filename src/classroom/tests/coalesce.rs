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
        let summary = self.coalescer.offer(notice, &update, &self.presence, now_ms);
        self.deliver(summary);
    }

    fn tick(&mut self, now_ms: u64) {
        let summary = self.coalescer.tick(&self.presence, now_ms);
        self.deliver(summary);
    }

    fn deliver(&mut self, summary: Option<Delivery>) {
        let listeners = self.presence.online();
        self.delivered.extend(summary.map(|delivery| (delivery, listeners)));
    }

    fn joins(&mut self, who: &str, where_: &str, now_ms: u64) {
        self.event(who, PresenceChange::Connected, now_ms);
        self.event(who, PresenceChange::Subscribed(vec![format!("room/message/{where_}")]), now_ms);
    }

    fn deliveries(&self) -> usize {
        self.delivered.iter().map(|(_, listeners)| listeners).sum()
    }

    fn summaries(&self) -> Vec<Value> {
        let bodies = self.delivered.iter().map(|(delivery, _)| json_of(delivery));
        bodies.filter(|body| body["eventType"] == "summary").collect()
    }
}

fn notice_of(who: &str, kind: &str) -> Bytes {
    let notice = serde_json::json!({"clientId": who, "time": 1, "eventType": kind, "channelId": "c"});
    notice.to_string().into()
}

fn pupil(number: usize) -> String {
    format!("GID_student@@@{number:05}")
}

#[test]
fn a_few_events_pass_as_they_are() {
    let mut status = Status::new();
    status.joins(LI, "7", START_MS);
    status.event(LI, PresenceChange::Ended, START_MS + 500);
    assert_eq!(status.delivered.len(), 3);
    assert_eq!(status.delivered[0].0.body, notice_of(LI, "connect"));
    let joined = format!(
        r#"{{"eventType":"summary","time":{START_MS},"rooms":[{{"roomId":"7","online":1,"joined":["{LI}"],"left":[],"joinedCount":1,"leftCount":0}}]}}"#
    );
    assert_eq!(status.delivered[1].0.body, joined.as_bytes(), "a subscription has no notice of its own");
    assert_eq!(status.delivered[2].0.body, notice_of(LI, "tcpclean"));
    assert_eq!(
        (&status.delivered[2].0.topic, status.delivered[2].0.order_key.as_str()),
        (&ClassTopic::Status, "status")
    );
    assert!(!status.coalescer.is_waiting());
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
        let joined: u64 = status
            .summaries()
            .iter()
            .map(|summary| summary["rooms"][0]["joinedCount"].as_u64().unwrap())
            .sum();
        assert_eq!(joined, 1_000);
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
    let summaries = status.summaries();
    let rooms = summaries.iter().flat_map(|summary| summary["rooms"].as_array().unwrap());
    let joined: u64 = rooms.map(|summary| summary["joinedCount"].as_u64().unwrap()).sum();
    assert_eq!(joined, 2_500);
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
