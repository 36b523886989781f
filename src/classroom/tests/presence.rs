//! Who is there: stories of pupils who come, go, fall out of the network and come back.

use super::*;

fn presence(settings: PresenceSettings) -> Presence {
    Presence::new(settings)
}

fn with_events() -> Presence {
    presence(PresenceSettings::default())
}

fn without_events() -> Presence {
    presence(PresenceSettings { broker_events: false, ..PresenceSettings::default() })
}

fn event(who: &str, channel: &str, at_ms: u64, what: PresenceChange) -> PresenceEvent {
    PresenceEvent { client: client(who), channel: channel.into(), at_ms, change: what }
}

fn subscribed(filters: &[&str]) -> PresenceChange {
    PresenceChange::Subscribed(filters.iter().map(|filter| (*filter).to_owned()).collect())
}

fn hello(where_: &str, name: &str) -> PresenceChange {
    PresenceChange::Hello { room: room(where_), name: display_name(name) }
}

fn bye(where_: &str) -> PresenceChange {
    PresenceChange::Bye { room: room(where_) }
}

fn ids(presence: &Presence, where_: &str) -> Vec<String> {
    let members = presence.members(&room(where_)).into_iter();
    members.map(|member| member.client.as_str().to_owned()).collect()
}

#[test]
fn a_member_is_online_and_has_subscribed_the_room() {
    let mut presence = with_events();
    let connected = presence.apply(&event(LI, "c1", 100, PresenceChange::Connected), START_MS);
    assert_eq!((connected.online, connected.joined.len()), (Some(true), 0));
    assert_eq!(ids(&presence, "7"), [""; 0], "online, but in no room");

    let joined =
        presence.apply(&event(LI, "c1", 110, subscribed(&["room/message/7", "room/status"])), START_MS);
    assert_eq!((joined.online, joined.joined), (None, vec![room("7")]));
    let members = presence.members(&room("7"));
    assert_eq!((members[0].client.as_str(), members[0].since_ms, members.len()), (LI, 110, 1));

    let unsubscribed = PresenceChange::Unsubscribed(vec!["room/message/7".to_owned()]);
    let left = presence.apply(&event(LI, "c1", 120, unsubscribed), START_MS);
    assert_eq!((left.online, left.left), (None, vec![room("7")]));
    assert!(presence.is_online(&client(LI)));

    presence.apply(&event(LI, "c1", 130, hello("7", "Li Lei")), START_MS);
    assert_eq!(presence.members(&room("7"))[0].name.as_deref(), Some("Li Lei"));
    let gone = presence.apply(&event(LI, "c1", 140, PresenceChange::Ended), START_MS);
    assert_eq!((gone.online, gone.left), (Some(false), vec![room("7")]));
    assert_eq!((presence.online(), presence.count(&room("7"))), (0, 0));
}

/// Hazard 25: a filter for all rooms does not make the client a member of each.
#[test]
fn who_listens_with_a_wildcard_is_an_observer_and_no_member() {
    let mut presence = with_events();
    presence.apply(&event(LI, "c1", 100, PresenceChange::Connected), START_MS);
    let filters = [
        "room/message/+",
        "room/#",
        "#",
        "room/message/7/x",
        "$share/g/room/message/7",
        "other/message/7",
        "room/message/",
        "room/message/#",
    ];
    let update = presence.apply(&event(LI, "c1", 100, subscribed(&filters)), START_MS);
    assert_eq!((update.joined.len(), presence.count(&room("7"))), (0, 0));
    assert_eq!(presence.online(), 1);
}

#[test]
fn an_end_cancels_only_the_connect_of_its_own_channel() {
    // A takeover: the new connection is announced before the end of the old one.
    let mut presence = with_events();
    presence.apply(&event(LI, "old", 100, PresenceChange::Connected), START_MS);
    presence.apply(&event(LI, "old", 100, subscribed(&["room/message/7"])), START_MS);
    presence.apply(&event(LI, "new", 200, PresenceChange::Connected), START_MS);
    presence.apply(&event(LI, "new", 200, subscribed(&["room/message/7"])), START_MS);
    let update = presence.apply(&event(LI, "old", 201, PresenceChange::Ended), START_MS);
    assert_eq!((update.online, update.left.len()), (None, 0), "nobody is told that it left");
    assert_eq!(ids(&presence, "7"), [LI]);
    presence.apply(&event(LI, "new", 300, PresenceChange::Ended), START_MS);
    assert!(!presence.is_online(&client(LI)));
}

#[test]
fn a_connect_that_comes_after_its_end_makes_no_ghost_until_the_tombstone_is_gone() {
    let mut presence = with_events();
    let connect = event(LI, "c1", 100, PresenceChange::Connected);
    presence.apply(&event(LI, "c1", 200, PresenceChange::Ended), START_MS);
    let late = presence.apply(&connect, START_MS + 1);
    assert!(late.stale && late.online.is_none(), "nobody is told of it");
    assert!(!presence.is_online(&client(LI)));

    let ttl_ms = PresenceSettings::default().tombstone_ttl_ms;
    presence.sweep(START_MS + ttl_ms - 1);
    assert!(presence.apply(&connect, START_MS + ttl_ms - 1).stale);
    presence.sweep(START_MS + ttl_ms);
    assert!(
        !presence.apply(&connect, START_MS + ttl_ms).stale,
        "what is later than that is not known any more"
    );
}

#[test]
fn a_hello_counts_for_the_connection_in_which_it_was_said() {
    let mut presence = with_events();
    presence.apply(&event(LI, "nonce", 10_000, hello("7", "Li")), START_MS);
    assert_eq!(presence.count(&room("7")), 0, "the hello overtook the connect");
    presence.apply(&event(LI, "c1", 9_000, PresenceChange::Connected), START_MS);
    assert_eq!(ids(&presence, "7"), [LI]);

    presence.apply(&event(LI, "c1", 20_000, PresenceChange::Ended), START_MS);
    presence.apply(&event(LI, "c2", 21_000, PresenceChange::Connected), START_MS);
    assert!(presence.is_online(&client(LI)));
    assert_eq!(presence.count(&room("7")), 0, "it may be in another room now");
    presence.apply(&event(LI, "nonce2", 21_500, hello("8", "Li")), START_MS);
    assert_eq!((ids(&presence, "7").len(), ids(&presence, "8").len()), (0, 1));
}

#[test]
fn without_broker_events_hello_and_bye_are_enough() {
    let mut presence = without_events();
    let joined = presence.apply(&event(LI, "n1", 100, hello("7", "Li")), START_MS);
    assert_eq!((joined.online, joined.joined), (Some(true), vec![room("7")]));
    presence.apply(&event(LI, "n1", 110, hello("8", "Li")), START_MS);
    let left = presence.apply(&event(LI, "n1", 120, bye("7")), START_MS);
    assert_eq!((left.online, left.left), (None, vec![room("7")]));
    assert_eq!(ids(&presence, "8"), [LI]);

    // The last will was sent, and the hello is delivered again after it.
    presence.apply(&event(LI, "n1", 130, bye("8")), START_MS);
    assert!(presence.apply(&event(LI, "n1", 110, hello("8", "Li")), START_MS).stale);
    assert!(!presence.is_online(&client(LI)));

    // Another visit has another nonce.
    presence.apply(&event(LI, "n2", 140, hello("8", "Li")), START_MS);
    assert_eq!(ids(&presence, "8"), [LI]);
}

#[test]
fn a_hello_whose_bye_was_lost_ends_after_a_day() {
    let mut presence = without_events();
    let ttl_ms = PresenceSettings::default().hello_ttl_ms;
    presence.apply(&event(LI, "n1", 100, hello("7", "Li")), START_MS);
    assert_eq!(presence.sweep(START_MS + ttl_ms - 1), []);
    let updates = presence.sweep(START_MS + ttl_ms);
    assert_eq!((updates.len(), &updates[0].left), (1, &vec![room("7")]));
    assert_eq!(presence.online(), 0);
}

/// Hazard 29: a name is a stranger's text; here it is only cut and rid of control characters.
#[test]
fn the_name_said_last_is_shown() {
    let mut presence = without_events();
    presence.apply(&event(LI, "n1", 200, hello("7", "<b>Li\u{1b}</b>")), START_MS);
    presence.apply(&event(LI, "n0", 100, hello("7", "old")), START_MS);
    assert_eq!(presence.members(&room("7"))[0].name.as_deref(), Some("<b>Li</b>"));
    presence.apply(&event(LI, "n2", 300, hello("8", &"x".repeat(100))), START_MS);
    assert_eq!(presence.members(&room("7"))[0].name.as_deref(), Some("x".repeat(64).as_str()));
    presence.apply(&event(LI, "n2", 400, bye("8")), START_MS);
    assert_eq!(presence.members(&room("7"))[0].name.as_deref(), Some("<b>Li</b>"));
}

#[test]
fn ten_thousand_rooms_of_one_client_are_sixty_four() {
    let mut presence = without_events();
    for number in 0..10_000_u64 {
        presence.apply(&event(LI, "n1", number, hello(&number.to_string(), "Li")), START_MS);
    }
    let rooms = (0..10_000).filter(|number| presence.count(&room(&number.to_string())) > 0);
    assert_eq!(rooms.collect::<Vec<_>>(), (9_936..10_000).collect::<Vec<_>>(), "the oldest give way");
}

#[test]
fn beyond_the_bounds_nobody_is_listed_and_it_is_counted() {
    let mut presence =
        presence(PresenceSettings { max_clients: 2, max_rooms: 1, ..PresenceSettings::default() });
    for (who, channel) in [(LI, "c1"), (HAN, "c2"), (TEACHER, "c3")] {
        presence.apply(&event(who, channel, 100, PresenceChange::Connected), START_MS);
    }
    assert_eq!((presence.online(), presence.overflowed()), (2, 1));

    presence.apply(&event(LI, "c1", 101, subscribed(&["room/message/1"])), START_MS);
    let unlisted = presence.apply(&event(HAN, "c2", 101, subscribed(&["room/message/2"])), START_MS);
    assert_eq!((unlisted.joined.len(), presence.count(&room("2")), presence.overflowed()), (0, 0, 2));

    // Places become free, and others take them.
    presence.apply(&event(LI, "c1", 102, PresenceChange::Ended), START_MS);
    let listed = presence.apply(&event(HAN, "c2", 103, subscribed(&["room/message/2"])), START_MS);
    assert_eq!(listed.joined, [room("2")]);
    assert_eq!(
        presence.apply(&event(TEACHER, "c3", 104, PresenceChange::Connected), START_MS).online,
        Some(true)
    );
}

#[test]
fn many_connections_of_one_client_and_many_tombstones_are_bounded() {
    let mut presence = presence(PresenceSettings { max_tombstones: 10, ..PresenceSettings::default() });
    for number in 0..1_000 {
        presence.apply(&event(LI, &format!("c{number}"), number, PresenceChange::Connected), START_MS);
    }
    assert_eq!(presence.online(), 1);
    for number in 984..1_000 {
        assert!(presence.is_online(&client(LI)), "16 connections are known");
        presence.apply(&event(LI, &format!("c{number}"), 2_000, PresenceChange::Ended), START_MS);
    }
    assert!(!presence.is_online(&client(LI)));
    assert!(presence.apply(&event(LI, "c999", 999, PresenceChange::Connected), START_MS).stale);
    assert!(
        !presence.apply(&event(LI, "c984", 984, PresenceChange::Connected), START_MS).stale,
        "the oldest tombstone gave way"
    );
}

#[test]
fn a_client_that_is_not_connected_is_forgotten() {
    let mut presence = presence(PresenceSettings { max_clients: 1, ..PresenceSettings::default() });
    presence.apply(&event(LI, "n1", 100, hello("7", "Li")), START_MS);
    presence.apply(&event(HAN, "c2", 100, PresenceChange::Connected), START_MS);
    assert!(!presence.is_online(&client(HAN)), "no place");
    presence.sweep(START_MS + PresenceSettings::default().tombstone_ttl_ms);
    presence.apply(&event(HAN, "c2", 100, PresenceChange::Connected), START_MS);
    assert!(presence.is_online(&client(HAN)));
}

#[test]
fn the_documented_notice_is_read() {
    let notice = br#"{"clientId":"GID_student@@@001","time":1212121212,"eventType":"connect","channelId":"2b9b1281046046faafe5e0b458e4XXXX","clientIp":"192.168.1.1:13300"}"#;
    let expected =
        event(LI, "2b9b1281046046faafe5e0b458e4XXXX", 1_212_121_212_000, PresenceChange::Connected);
    assert_eq!(status_event(notice), Ok(expected), "seconds");

    let read = |kind: &str, time: u64, id: &str| {
        let json = format!(r#"{{"clientId":"{id}","time":{time},"eventType":"{kind}","channelId":"c"}}"#);
        status_event(json.as_bytes())
    };
    for kind in ["disconnect", "tcpclean", "anything"] {
        assert_eq!(
            read(kind, START_MS, LI),
            Ok(event(LI, "c", START_MS, PresenceChange::Ended)),
            "milliseconds"
        );
    }
    assert_eq!(read("connect", 99_999_999_999, LI).unwrap().at_ms, 99_999_999_999_000);
    assert_eq!(read("connect", 100_000_000_000, LI).unwrap().at_ms, 100_000_000_000);
    assert_eq!(read("connect", START_MS, "#"), Err(NotAStatus::Client("#".to_owned())));
    assert!(matches!(status_event(b"{}"), Err(NotAStatus::Json(_))));
    let long =
        format!(r#"{{"clientId":"a","time":1,"eventType":"connect","channelId":"{}"}}"#, "c".repeat(129));
    assert_eq!(status_event(long.as_bytes()), Err(NotAStatus::Channel(129)));
}
