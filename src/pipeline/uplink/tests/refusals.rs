//! Stories of messages that RocketMQ refuses with an answer, in the lanes and through the spool. Hazard 33.

use super::*;

/// Two queues; these rooms have one, and slots of their own.
fn rooms_of_one_queue(store: &Store, count: usize) -> Vec<String> {
    let stored = store.stored.lock().unwrap();
    let queue = stored[0].1;
    let rooms = stored.iter().filter(|(_, each, _)| *each == queue);
    rooms.map(|(.., body)| body.clone()).take(count).collect()
}

/// A bridge that has stored one message in each of 40 rooms, and the rooms of one queue.
async fn bridge_with_rooms(count: usize) -> (Arc<Store>, Process, Vec<String>) {
    let store = Arc::new(Store::default());
    let mut bridge = Process::start(&store, MemorySpool::default());
    for room in 0..40 {
        bridge.publish(&room.to_string(), &room.to_string());
    }
    bridge.pass(Duration::from_millis(100)).await;
    let rooms = rooms_of_one_queue(&store, count);
    store.stored.lock().unwrap().clear();
    (store, bridge, rooms)
}

/// Returns when that body is stored. Pauses between attempts differ from run to run, so no fixed time is right.
async fn stored_before_the_spool_takes_it(store: &Store, bridge: &mut Process, body: &str) {
    while !store.bodies().iter().any(|stored| stored == body) {
        bridge.pass(Duration::from_millis(1)).await;
        assert_eq!(bridge.disk.rows().len(), 0, "{body} is stored within a second");
    }
}

fn letters(bridge: &Process) -> i64 {
    bridge.value("roombridge_dead_lettered_total")
}

/// Letters that RocketMQ took.
fn dead_bodies(store: &Store) -> Vec<String> {
    let stored = store.stored.lock().unwrap();
    let dead = stored.iter().filter(|(topic, ..)| topic == "dead");
    dead.map(|(.., body)| body.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn one_refused_message_holds_its_room_only_and_not_for_good() {
    let (store, mut bridge, rooms) = bridge_with_rooms(3).await;
    store.refused.lock().unwrap().push("bad".to_owned());
    bridge.publish(&rooms[0], "before");
    bridge.publish(&rooms[0], "bad");
    bridge.publish(&rooms[0], "after");
    bridge.publish(&rooms[1], "neighbour");
    bridge.pass(Duration::from_secs(3)).await;
    assert_eq!(store.bodies(), ["before", "neighbour"], "nothing behind it of its room");
    assert_eq!(bridge.ended, 44, "all are acknowledged, from the disk");

    // other rooms of its queue flow meanwhile
    for number in 0..20 {
        bridge.publish(&rooms[1 + number % 2], "flows");
        bridge.pass(Duration::from_millis(100)).await;
    }
    let flowing = store.bodies().iter().filter(|body| *body == "flows").count();
    assert!(flowing >= 18, "{flowing} of 20 while one is on trial");
    assert_eq!(letters(&bridge), 0);

    bridge.publish(&rooms[0], "later");
    bridge.pass(Duration::from_secs(15)).await;
    assert_eq!(dead_bodies(&store), ["bad"]);
    let of_room: Vec<_> = store.bodies().into_iter().filter(|body| body != "flows").collect();
    assert_eq!(of_room, ["before", "neighbour", "after", "later"]);
    assert_eq!(bridge.disk.rows().len(), 0);
    bridge.assert_books_balance();

    // and the room sends directly again
    bridge.publish(&rooms[0], "direct");
    bridge.pass(Duration::from_millis(50)).await;
    assert_eq!(store.bodies().last().unwrap(), "direct");
}

#[tokio::test(start_paused = true)]
async fn two_in_one_batch_and_one_in_each_of_several_rooms() {
    let (store, mut bridge, rooms) = bridge_with_rooms(4).await;
    for (number, room) in rooms.iter().enumerate() {
        store.refused.lock().unwrap().push(format!("bad {number}"));
        bridge.publish(room, &format!("bad {number}"));
        bridge.publish(room, &format!("good {number}"));
    }
    store.refused.lock().unwrap().push("bad again".to_owned());
    bridge.publish(&rooms[0], "bad again");
    bridge.publish(&rooms[0], "last");
    bridge.publish("77", "something else");
    for _ in 0..60 {
        bridge.publish("77", "something else");
        bridge.pass(Duration::from_secs(1)).await;
    }
    let mut dead = dead_bodies(&store);
    dead.sort();
    assert_eq!(dead, ["bad 0", "bad 1", "bad 2", "bad 3", "bad again"]);
    let good: Vec<_> = store.bodies().into_iter().filter(|body| body != "something else").collect();
    assert_eq!(good.len(), 5, "{good:?}");
    let place = |body: &str| good.iter().position(|each| each == body).unwrap();
    assert!(place("good 0") < place("last"));
    bridge.assert_books_balance();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_everything_fills_the_spool_and_no_dead_letters() {
    let (store, mut bridge, rooms) = bridge_with_rooms(4).await;
    store.refused.lock().unwrap().push("bad".to_owned());
    store.fails(Some(FailureKind::Refused));
    for number in 0..200 {
        bridge.publish(&rooms[number % 4], &number.to_string());
        if number == 50 {
            bridge.publish(&rooms[0], "bad");
        }
        bridge.pass(Duration::from_millis(100)).await;
    }
    assert_eq!((letters(&bridge), store.bodies().len()), (0, 0));
    assert!(bridge.ended >= 230, "{} acknowledged", bridge.ended);
    store.fails(None);
    for _ in 0..30 {
        bridge.publish("77", "something else");
        bridge.pass(Duration::from_secs(1)).await;
    }
    assert_eq!((letters(&bridge), dead_bodies(&store)), (1, vec!["bad".to_owned()]));
    let bodies = store.bodies();
    for room in 0..4 {
        let of_room: Vec<usize> =
            bodies.iter().filter_map(|body| body.parse().ok()).filter(|number| number % 4 == room).collect();
        assert!(of_room.is_sorted() && of_room.len() == 50, "{of_room:?}");
    }
    bridge.assert_books_balance();
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_the_refused_message_in_the_spool_and_judges_it_anew() {
    let (store, mut bridge, rooms) = bridge_with_rooms(2).await;
    store.refused.lock().unwrap().push("bad".to_owned());
    for body in ["bad", "after"] {
        bridge.publish(&rooms[0], body);
    }
    bridge.publish(&rooms[1], "neighbour");
    bridge.pass(Duration::from_secs(6)).await;
    let mut bridge = bridge.kill_and_restart();
    for _ in 0..20 {
        bridge.publish(&rooms[1], "something else");
        bridge.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(dead_bodies(&store), ["bad"]);
    assert!(store.bodies().contains(&"after".to_owned()));
    assert_eq!(bridge.disk.rows().len(), 0);
    bridge.assert_books_balance();
}

#[tokio::test(start_paused = true)]
async fn a_takeover_ends_what_is_refused_and_not_in_the_spool_and_a_stop_keeps_what_is() {
    let (store, mut bridge, rooms) = bridge_with_rooms(2).await;
    store.refused.lock().unwrap().push("bad".to_owned());
    bridge.publish(&rooms[0], "bad");
    bridge.publish(&rooms[1], "neighbour");
    stored_before_the_spool_takes_it(&store, &mut bridge, "neighbour").await;
    bridge.link.send(LinkState::TakenOver).unwrap();
    bridge.pass(Duration::from_secs(3)).await;
    let taken_over = bridge.value("roombridge_filtered_total");
    assert_eq!((taken_over, bridge.disk.rows().len()), (1, 0), "the refused one");
    bridge.assert_books_balance();

    bridge.link.send(LinkState::Up).unwrap();
    bridge.publish(&rooms[0], "bad");
    bridge.publish(&rooms[0], "after");
    bridge.publish(&rooms[1], "neighbour");
    bridge.pass(Duration::from_secs(3)).await;
    bridge.link.send(LinkState::TakenOver).unwrap();
    bridge.pass(Duration::from_secs(3)).await;
    assert_eq!(bridge.disk.rows().len(), 2, "it is ours");
    bridge.intake = None;
    let stopped = tokio::time::timeout(Duration::from_secs(20), &mut bridge.uplink);
    stopped.await.expect("a stop does not wait for a verdict").unwrap();
    assert_eq!(bridge.disk.rows().len(), 2);
    bridge.assert_books_balance();
}
