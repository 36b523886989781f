//! Stories of lanes and spool.

mod measure;
mod refusals;
mod world;

use world::{Process, Store};

use super::*;
use crate::model::FailureKind;
use crate::spool::memory::{Faults, MemorySpool};
use tokio::sync::Notify;

fn numbers(range: std::ops::Range<i32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn assert_in_order(bodies: &[String], wanted: std::ops::Range<i32>) {
    let mut seen = Vec::new();
    for body in bodies {
        if !seen.contains(body) {
            seen.push(body.clone());
        }
    }
    assert_eq!(seen, numbers(wanted), "first occurrences, in order");
}

/// Each write of the tables holds all topics, so a write for each of a thousand new topics would take seconds.
#[tokio::test(start_paused = true)]
async fn many_new_topics_are_written_down_together() {
    let mut bridge = Process::start(&Arc::new(Store::default()), MemorySpool::default());
    for topic in 0..300 {
        bridge.publish_to(format!("many/{topic}/x"), "first");
    }
    bridge.pass(Duration::from_secs(1)).await;
    bridge.publish_to("many/last/x".to_owned(), "later");
    bridge.pass(Duration::from_secs(1)).await;
    assert_eq!(bridge.ended, 301);
    assert!(bridge.saves.load(Ordering::Relaxed) <= 5, "{} writes", bridge.saves.load(Ordering::Relaxed));
}

/// Whoever watches over the process ends one that is silent.
#[tokio::test(start_paused = true)]
async fn the_loop_beats_when_it_is_idle_and_while_nothing_can_be_stored() {
    let (store, beat, period) =
        (Arc::new(Store::default()), Arc::new(Notify::new()), Duration::from_secs(20));
    let pulse = Pulse::every(period, beat.clone());
    let mut bridge = Process::start_watched(&store, MemorySpool::default(), Duration::from_secs(3600), pulse);
    store.fails(Some(FailureKind::Transport));
    for round in 0..4 {
        tokio::time::timeout(period * 2, beat.notified()).await.unwrap();
        bridge.publish("1", &round.to_string());
    }
}

/// Hazard 3: a lane that waits must not hold the PUBACKs of the others.
#[tokio::test(start_paused = true)]
async fn what_is_stuck_for_a_second_is_spooled_and_acknowledged() {
    // Given a RocketMQ that is away
    let store = Arc::new(Store::default());
    store.fails(Some(FailureKind::Transport));
    let mut bridge = Process::start(&store, MemorySpool::default());

    // When ten messages come
    for body in numbers(0..10) {
        bridge.publish("1", &body);
    }

    // Then none is acknowledged before a second has passed, and all are after it, from the disk
    assert_eq!(bridge.pass(Duration::from_millis(900)).await, 0);
    assert_eq!(bridge.pass(Duration::from_millis(400)).await, 10);
    assert_eq!(bridge.disk.rows().len(), 10);
    assert!(bridge.store.bodies().is_empty());
    bridge.assert_books_balance();

    // And when RocketMQ is back they are stored in order, once, and the disk is empty
    store.fails(None);
    bridge.publish("1", "10");
    bridge.pass(Duration::from_secs(5)).await;
    assert_eq!(bridge.store.bodies(), numbers(0..11));
    assert_eq!(bridge.disk.rows().len(), 0);
    bridge.assert_books_balance();
}

/// A queue of a broker that is away goes to the disk; the other queue does not notice.
#[tokio::test(start_paused = true)]
async fn a_lane_that_is_stuck_leaves_the_others_alone() {
    let store = Arc::new(Store::default());
    let mut bridge = Process::start(&store, MemorySpool::default());
    bridge.publish("1", "first");
    bridge.pass(Duration::from_millis(10)).await;
    let stuck = store.stored.lock().unwrap()[0].1;
    *store.only_queue.lock().unwrap() = Some(stuck);
    store.fails(Some(FailureKind::Transport));
    for room in 0..20 {
        bridge.publish(&room.to_string(), "x");
    }
    assert_eq!(bridge.pass(Duration::from_secs(2)).await, 21, "all are acknowledged");
    let on_disk = bridge.disk.rows().len();
    assert!(on_disk > 0 && on_disk < 20, "{on_disk} of the stuck queue");
    assert_eq!(bridge.store.bodies().len() + on_disk, 21);
    bridge.assert_books_balance();
}

/// Hazard 11: B1 in flight, B2 in memory, m3 comes: the disk has them in that order, and so has the next process.
#[tokio::test(start_paused = true)]
async fn the_disk_holds_a_lane_oldest_first_with_the_batch_in_flight() {
    // Given a batch of four in flight and six behind it, of one room
    let store = Arc::new(Store::default());
    store.fails(Some(FailureKind::Timeout));
    *store.send_time.lock().unwrap() = Duration::from_secs(3);
    let mut bridge = Process::start(&store, MemorySpool::default());
    for body in numbers(0..10) {
        bridge.publish("1", &body);
    }
    // When they are written, and another one comes, and the process is killed
    bridge.pass(Duration::from_millis(1100)).await;
    bridge.publish("1", "10");
    assert_eq!(bridge.pass(Duration::from_millis(100)).await, 11);
    let rows: Vec<_> = bridge
        .disk
        .rows()
        .into_iter()
        .map(|(_, row)| String::from_utf8_lossy(&row.message.body).into_owned())
        .collect();
    assert_eq!(rows, numbers(0..11));

    // Then the next process sends them in that order
    let mut bridge = bridge.kill_and_restart();
    store.fails(None);
    *store.send_time.lock().unwrap() = Duration::ZERO;
    bridge.publish("1", "11");
    bridge.pass(Duration::from_secs(5)).await;
    assert_in_order(&bridge.store.bodies(), 0..12);
    bridge.assert_books_balance();
}

/// An answer that comes while the batch is being written: stored, so its rows go, and each has one end.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_stored_while_it_is_written_ends_once() {
    let store = Arc::new(Store::default());
    *store.send_time.lock().unwrap() = Duration::from_millis(1050);
    let disk = MemorySpool::default();
    disk.set_faults(Faults { write_time: Duration::from_millis(200), ..Faults::default() });
    let mut bridge = Process::start(&store, disk);
    for body in numbers(0..6) {
        bridge.publish("1", &body);
    }
    bridge.pass(Duration::from_secs(10)).await;
    assert_eq!(bridge.ended, 6);
    assert_eq!(bridge.store.bodies(), numbers(0..6), "no copies");
    assert_eq!(bridge.disk.rows().len(), 0);
    bridge.assert_books_balance();
}

/// A full disk holds the acknowledgement and heals by itself.
#[tokio::test(start_paused = true)]
async fn a_full_spool_holds_until_there_is_room() {
    let store = Arc::new(Store::default());
    store.fails(Some(FailureKind::Transport));
    let disk = MemorySpool::default();
    disk.set_faults(Faults { full: true, ..Faults::default() });
    let mut bridge = Process::start(&store, disk);
    for body in numbers(0..10) {
        bridge.publish("1", &body);
    }
    assert_eq!(bridge.pass(Duration::from_secs(30)).await, 0, "held");
    assert_eq!(bridge.value("roombridge_spool_full"), 1);
    bridge.disk.set_faults(Faults::default());
    assert_eq!(bridge.pass(Duration::from_secs(1)).await, 10);
    assert_eq!(bridge.value("roombridge_spool_full"), 0);
    store.fails(None);
    bridge.pass(Duration::from_secs(2)).await;
    assert_eq!(bridge.store.bodies(), numbers(0..10));
    bridge.assert_books_balance();
}

/// The disk has room again, and nobody writes any more: the metric and readiness say so all the same.
#[tokio::test(start_paused = true)]
async fn a_spool_that_was_full_is_open_again_without_another_write() {
    let store = Arc::new(Store::default());
    store.fails(Some(FailureKind::Transport));
    let disk = MemorySpool::default();
    let full = Faults { full: true, ..Faults::default() };
    disk.set_faults(full);
    let mut bridge = Process::start(&store, disk);
    bridge.publish("1", "0");
    bridge.pass(Duration::from_secs(3)).await;
    assert_eq!(bridge.value("roombridge_spool_full"), 1);
    store.fails(None);
    bridge.pass(Duration::from_secs(60)).await;
    assert_eq!(bridge.store.bodies(), ["0"], "sent, not spooled");
    assert_eq!(bridge.value("roombridge_spool_full"), 1, "the disk is still full");
    bridge.disk.set_faults(Faults::default());
    bridge.pass(Duration::from_secs(6)).await;
    assert_eq!(bridge.value("roombridge_spool_full"), 0);
    assert!(bridge.readiness.report().spool.accepts);
}

/// It broke where nobody waited for an answer.
#[tokio::test(start_paused = true)]
async fn a_spool_that_breaks_between_two_writes_is_told() {
    let store = Arc::new(Store::default());
    let mut bridge = Process::start(&store, MemorySpool::default());
    bridge.pass(Duration::from_secs(1)).await;
    bridge.disk.break_down();
    bridge.pass(Duration::from_secs(6)).await;
    assert_eq!(bridge.value("roombridge_spool_poisoned"), 1);
    assert!(!bridge.readiness.report().spool.accepts);
}

/// Hazard 13: a poisoned spool takes nothing in, and what is readable is drained.
#[tokio::test(start_paused = true)]
async fn a_poisoned_spool_takes_nothing_and_drains() {
    let store = Arc::new(Store::default());
    store.fails(Some(FailureKind::Transport));
    let mut bridge = Process::start(&store, MemorySpool::default());
    for body in numbers(0..6) {
        bridge.publish("1", &body);
    }
    assert_eq!(bridge.pass(Duration::from_secs(2)).await, 6);
    bridge.disk.set_faults(Faults { poison: true, ..Faults::default() });
    for body in numbers(6..10) {
        bridge.publish("1", &body);
    }
    assert_eq!(bridge.pass(Duration::from_secs(20)).await, 6, "never acknowledged unwritten");
    assert_eq!(bridge.value("roombridge_spool_poisoned"), 1);
    assert!(!bridge.readiness.report().spool.accepts);
    store.fails(None);
    assert_eq!(bridge.pass(Duration::from_secs(5)).await, 10, "acknowledged when stored");
    assert_eq!(bridge.store.bodies(), numbers(0..10));
}

/// Hazard 10: both ends were away at the start, so there is no queue list; rows hold topic and slot.
#[tokio::test(start_paused = true)]
async fn a_topic_whose_queues_were_never_known_is_spooled_and_sent_in_order_later() {
    let store = Arc::new(Store::default());
    store.fails(Some(FailureKind::Transport));
    let mut bridge = Process::start(&store, MemorySpool::default());
    for body in numbers(0..10) {
        bridge.publish("1", &body);
    }
    assert_eq!(bridge.pass(Duration::from_secs(2)).await, 10);
    let mut bridge = bridge.kill_and_restart();
    for body in numbers(10..15) {
        bridge.publish("1", &body);
    }
    bridge.pass(Duration::from_secs(2)).await;
    store.fails(None);
    bridge.pass(Duration::from_secs(5)).await;
    assert_eq!(bridge.store.bodies(), numbers(0..15));
    bridge.assert_books_balance();
}

/// Hazard 6: the poison message becomes a dead letter, and is acknowledged; its neighbours are stored.
#[tokio::test(start_paused = true)]
async fn an_illegal_message_becomes_a_dead_letter() {
    let store = Arc::new(Store::default());
    *store.illegal.lock().unwrap() = Some("3".to_owned());
    let mut bridge = Process::start(&store, MemorySpool::default());
    for body in numbers(0..6) {
        bridge.publish("1", &body);
    }
    assert_eq!(bridge.pass(Duration::from_millis(100)).await, 6);
    assert_eq!(bridge.store.bodies(), ["0", "1", "2", "4", "5"]);
    let dead = store.stored.lock().unwrap().clone();
    assert!(dead.iter().any(|(topic, _, body)| topic == "dead" && body == "3"));
    bridge.assert_books_balance();

    // With RocketMQ away it goes to the local store, fsynced
    *store.illegal.lock().unwrap() = Some("7".to_owned());
    bridge.publish("1", "7");
    *store.only_queue.lock().unwrap() = Some(-1);
    bridge.pass(Duration::from_millis(1)).await;
    assert_eq!(bridge.pass(Duration::from_secs(5)).await, 7);
    bridge.assert_books_balance();
}

/// Without permission: spooled meanwhile, dead letters after the time that the user chose.
#[tokio::test(start_paused = true)]
async fn what_is_not_permitted_is_spooled_and_given_up_in_the_end() {
    let store = Arc::new(Store::default());
    let mut bridge = Process::start_with(&store, MemorySpool::default(), Duration::from_secs(60));
    store.fails(Some(FailureKind::NoPermission));
    for body in numbers(0..3) {
        bridge.publish("1", &body);
    }
    assert_eq!(bridge.pass(Duration::from_secs(3)).await, 3);
    assert_eq!(bridge.disk.rows().len(), 3);
    bridge.pass(Duration::from_secs(300)).await;
    assert_eq!(bridge.disk.rows().len(), 0);
    assert_eq!(bridge.value("roombridge_dead_lettered_total"), 3);
    assert_eq!(bridge.disk.letters().len(), 3, "the dead-letter topic refuses too");
    bridge.assert_books_balance();
}

/// Hazard 4: after a takeover what is only in memory belongs to the next holder; what is on the disk is ours.
#[tokio::test(start_paused = true)]
async fn a_takeover_gives_up_memory_and_keeps_the_disk() {
    let store = Arc::new(Store::default());
    store.fails(Some(FailureKind::Transport));
    let mut bridge = Process::start(&store, MemorySpool::default());
    for body in numbers(0..4) {
        bridge.publish("1", &body);
    }
    assert_eq!(bridge.pass(Duration::from_secs(2)).await, 4);
    for body in numbers(4..6) {
        bridge.publish("2", &body);
    }
    bridge.link.send_replace(LinkState::TakenOver);
    bridge.pass(Duration::from_secs(5)).await;
    store.fails(None);
    bridge.pass(Duration::from_secs(5)).await;
    assert_eq!(bridge.store.bodies(), numbers(0..4));
    bridge.assert_books_balance();
}

/// Hazard 4: while nobody knows who has the session, what its next holder would get, too, is neither sent nor written.
#[tokio::test(start_paused = true)]
async fn nothing_starts_between_the_loss_of_the_link_and_the_news_of_the_session() {
    let store = Arc::new(Store::default());
    let mut bridge = Process::start(&store, MemorySpool::default());
    bridge.publish("1", "0");
    bridge.pass(Duration::from_millis(10)).await;

    // Given a lost link, when the session turns out to be ours, then it is sent
    bridge.link.send_replace(LinkState::Down);
    bridge.publish("1", "1");
    bridge.pass(Duration::from_secs(9)).await;
    assert_eq!((bridge.store.bodies(), bridge.disk.rows().len()), (numbers(0..1), 0));
    bridge.link.send_replace(LinkState::Up);
    bridge.pass(Duration::from_millis(10)).await;
    assert_eq!(bridge.store.bodies(), numbers(0..2));

    // When another has it, then it is never sent, also if the session comes back
    bridge.link.send_replace(LinkState::Down);
    bridge.publish("1", "2");
    bridge.pass(Duration::from_secs(1)).await;
    bridge.link.send_replace(LinkState::TakenOver);
    bridge.pass(Duration::from_secs(1)).await;
    bridge.link.send_replace(LinkState::Up);
    bridge.pass(Duration::from_secs(5)).await;
    assert_eq!((bridge.store.bodies(), bridge.ended), (numbers(0..2), 3));

    // When the broker itself is away for long, then nobody else can have it
    bridge.link.send_replace(LinkState::Down);
    bridge.publish("1", "3");
    bridge.pass(Duration::from_secs(11)).await;
    assert_eq!(bridge.store.bodies(), ["0", "1", "3"]);
    bridge.assert_books_balance();
}

/// A stop leaves on the disk what RocketMQ does not take, and does not wait for it.
#[tokio::test(start_paused = true)]
async fn a_stop_spools_the_rest_and_ends() {
    let store = Arc::new(Store::default());
    store.fails(Some(FailureKind::Transport));
    let mut bridge = Process::start(&store, MemorySpool::default());
    for body in numbers(0..10) {
        bridge.publish("1", &body);
    }
    bridge.pass(Duration::from_millis(10)).await;
    bridge.intake = None;
    tokio::time::timeout(Duration::from_secs(5), &mut bridge.uplink)
        .await
        .expect("ends within the time of a write")
        .unwrap();
    bridge.pass(Duration::ZERO).await;
    assert_eq!((bridge.ended, bridge.disk.rows().len()), (10, 10));
    bridge.assert_books_balance();
}

/// What a stop leaves in the spool still comes before what is newer, also if RocketMQ is back at that moment.
#[tokio::test(start_paused = true)]
async fn nothing_overtakes_what_a_stop_leaves_behind() {
    let store = Arc::new(Store::default());
    // The queues are known, so that a batch is in flight.
    let mut bridge = Process::start(&store, MemorySpool::default());
    bridge.publish("1", "0");
    bridge.pass(Duration::from_millis(10)).await;
    store.fails(Some(FailureKind::Transport));
    for body in numbers(1..4) {
        bridge.publish("1", &body);
    }
    assert_eq!(bridge.pass(Duration::from_secs(2)).await, 4);
    for body in numbers(4..6) {
        bridge.publish("1", &body);
    }
    store.fails(None);
    bridge.intake = None;
    tokio::time::timeout(Duration::from_secs(5), &mut bridge.uplink).await.expect("ends").unwrap();
    let mut bridge = bridge.kill_and_restart();
    bridge.pass(Duration::from_secs(5)).await;
    assert_in_order(&bridge.store.bodies(), 0..6);
}

/// A lane that keeps up again leaves the disk although messages never stop coming.
#[tokio::test(start_paused = true)]
async fn a_lane_returns_to_direct_sends_under_load() {
    let store = Arc::new(Store::default());
    let disk = MemorySpool::default();
    disk.set_faults(Faults { write_time: Duration::from_millis(5), ..Faults::default() });
    let mut bridge = Process::start(&store, disk);
    *store.send_time.lock().unwrap() = Duration::from_millis(2);
    store.fails(Some(FailureKind::Transport));
    let mut number = 0;
    for _ in 0..2000 {
        if number == 300 {
            store.fails(None);
        }
        bridge.publish("1", &number.to_string());
        number += 1;
        bridge.pass(Duration::from_millis(10)).await;
    }
    let spooled = bridge.value("roombridge_spooled_total");
    assert!((200..1500).contains(&spooled), "{spooled} of {number} went through the disk");
    bridge.pass(Duration::from_secs(5)).await;
    assert_in_order(&bridge.store.bodies(), 0..number);
    bridge.assert_books_balance();
}

/// Hazard 30: a queue whose send has died would stand still while all others look well.
#[tokio::test(start_paused = true)]
async fn a_job_that_dies_is_told_and_everything_else_still_ends() {
    // Given a bridge whose sends to one of the two queues die
    let store = Arc::new(Store::default());
    let mut bridge = Process::start(&store, MemorySpool::default());
    bridge.publish("1", "first");
    bridge.pass(Duration::from_millis(10)).await;
    let broken_queue = store.stored.lock().unwrap()[0].1;
    *store.dies.lock().unwrap() = Some(broken_queue);

    // When messages come for both
    for room in 0..40 {
        bridge.publish(&room.to_string(), &room.to_string());
    }
    bridge.pass(Duration::from_secs(3)).await;

    // Then the death is told, once, with its words
    let died = bridge.died.lock().unwrap().clone();
    assert_eq!(died.len(), 1, "{died:?}");
    assert!(died[0].contains("a send that dies"), "{died:?}");

    // And when nothing more comes in, the uplink ends by itself: what could not be sent is safe in the spool
    bridge.intake = None;
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut bridge.uplink).await;
    ended.expect("it waits for no deadline").unwrap();
    bridge.pass(Duration::from_millis(1)).await;
    let (stored, spooled) = (store.bodies().len(), bridge.disk.rows().len());
    assert!(stored > 1 && spooled > 0, "both queues had messages: {stored}, {spooled}");
    assert_eq!((stored + spooled, bridge.ended), (41, 41));
    bridge.assert_books_balance();
}
