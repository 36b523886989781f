//! The order of events does not matter, nor how often each comes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ROOMS: [&str; 3] = ["1", "2", "3"];
const CLIENTS: [&str; 3] = [LI, HAN, TEACHER];

fn what() -> impl Strategy<Value = PresenceChange> {
    let where_ = || prop::sample::select(ROOMS.to_vec());
    let filters = |where_: &str| vec![format!("room/message/{where_}"), "room/status".to_owned()];
    prop_oneof![
        4 => Just(PresenceChange::Connected),
        2 => Just(PresenceChange::Ended),
        3 => where_().prop_map(move |where_| PresenceChange::Subscribed(filters(where_))),
        1 => where_().prop_map(move |where_| PresenceChange::Unsubscribed(filters(where_))),
        2 => (where_(), prop::option::of("[a-c]")).prop_map(|(where_, name)| PresenceChange::Hello { room: room(where_), name }),
        1 => where_().prop_map(|where_| PresenceChange::Bye { room: room(where_) }),
    ]
}

fn event() -> impl Strategy<Value = PresenceEvent> {
    let channel = prop::sample::select(vec!["c1", "c2", "c3"]);
    (prop::sample::select(CLIENTS.to_vec()), channel, 0_u64..10_000, what()).prop_map(
        |(who, channel, at_ms, what)| PresenceEvent {
            client: client(who),
            channel: channel.into(),
            at_ms,
            change: what,
        },
    )
}

/// Events, and the same ones shuffled, with some of them more than once.
fn events() -> impl Strategy<Value = (Vec<PresenceEvent>, Vec<PresenceEvent>)> {
    prop::collection::vec(event(), 0..40).prop_flat_map(|events| {
        let copies = prop::collection::vec(any::<prop::sample::Index>(), 0..20);
        let story = events.clone();
        let shuffled = copies.prop_map(move |copies| {
            let mut all = story.clone();
            if !story.is_empty() {
                all.extend(copies.iter().map(|copy| copy.get(&story).clone()));
            }
            all
        });
        (Just(events), shuffled.prop_shuffle())
    })
}

fn after(events: &[PresenceEvent], broker_events: bool) -> (Presence, Listed) {
    let mut presence = Presence::new(PresenceSettings { broker_events, ..PresenceSettings::default() });
    let mut told = Listed::default();
    for event in events {
        told.follow(&presence.apply(event, START_MS));
    }
    (presence, told)
}

/// The members as a reader sees them who gets the updates only.
#[derive(Debug, Default, PartialEq)]
struct Listed {
    online: BTreeMap<ClientId, bool>,
    members: BTreeMap<(RoomId, ClientId), bool>,
}

impl Listed {
    fn follow(&mut self, update: &PresenceUpdate) {
        let Some(client) = &update.client else { return };
        if let Some(online) = update.online {
            assert_ne!(self.online.insert(client.clone(), online), Some(online));
        }
        let joined = update.joined.iter().map(|room| (room, true));
        for (room, is_member) in joined.chain(update.left.iter().map(|room| (room, false))) {
            let before = self.members.insert((room.clone(), client.clone()), is_member);
            assert_eq!(before.unwrap_or_default(), !is_member, "each update is told once");
        }
    }
}

fn state(presence: &Presence) -> (Vec<bool>, Vec<Vec<Member>>) {
    let online = CLIENTS.iter().map(|id| presence.is_online(&client(id))).collect();
    (online, ROOMS.iter().map(|id| presence.members(&room(id))).collect())
}

/// The vendor's rule, written down directly: online = some channel has a connect and no end.
fn is_online(events: &[PresenceEvent], id: &ClientId) -> bool {
    let mine: Vec<_> = events.iter().filter(|event| event.client == *id).collect();
    let ended = |channel: &str| {
        mine.iter().any(|event| event.change == PresenceChange::Ended && event.channel.as_ref() == channel)
    };
    mine.iter().any(|event| event.change == PresenceChange::Connected && !ended(&event.channel))
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_leads_to_the_same_members((events, shuffled) in events(), broker_events: bool) {
        let (one, _) = after(&events, broker_events);
        let (other, _) = after(&shuffled, broker_events);
        prop_assert_eq!(state(&one), state(&other));
        prop_assert_eq!(one.online(), other.online());
    }

    #[test]
    fn online_is_who_has_a_connect_without_its_end((events, _) in events()) {
        let (presence, _) = after(&events, true);
        for id in CLIENTS {
            prop_assert_eq!(presence.is_online(&client(id)), is_online(&events, &client(id)), "{}", id);
        }
    }

    #[test]
    fn a_tombstone_stops_a_late_connect((events, _) in events(), who in prop::sample::select(CLIENTS.to_vec())) {
        // Given: whatever happened, then the end of all connections of somebody.
        let (mut presence, _) = after(&events, true);
        let ended = |channel: &str, what| PresenceEvent { client: client(who), channel: channel.into(), at_ms: 20_000, change: what };
        for channel in ["c1", "c2", "c3"] {
            presence.apply(&ended(channel, PresenceChange::Ended), START_MS);
        }
        // When: everything comes again.
        for event in &events {
            presence.apply(event, START_MS + 1);
        }
        // Then: nobody who is gone is shown.
        prop_assert!(!presence.is_online(&client(who)));
        for id in ROOMS {
            prop_assert!(presence.members(&room(id)).iter().all(|member| member.client != client(who)));
        }
    }

    #[test]
    fn who_follows_the_movements_knows_the_members((events, _) in events(), broker_events: bool) {
        let (presence, told) = after(&events, broker_events);
        for id in CLIENTS {
            let online = told.online.get(&client(id)).copied().unwrap_or_default();
            prop_assert_eq!(presence.is_online(&client(id)), online);
            for place in ROOMS {
                let member = told.members.get(&(room(place), client(id))).copied().unwrap_or_default();
                let listed = presence.members(&room(place)).iter().any(|member| member.client == client(id));
                prop_assert_eq!(listed, member);
            }
        }
    }
}
