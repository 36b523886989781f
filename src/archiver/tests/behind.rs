//! What is behind when RocketMQ hands it out to nobody, or deletes it with its topic.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_rocketmq_hands_out_to_nobody_counts_as_behind() {
    // Given a queue with 10 archived messages, and 20 that came in an hour ago
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    world.archiver.done(true).await;
    world.rocketmq.later(10 * HOUR);
    world.rocketmq.say_so_many(20);
    world.clock.advance(11 * HOUR);

    // When the topic has fewer read queues, or the archiver is started then
    world.rocketmq.lock().has_too_few_read_queues = true;
    let round = world.archiver.done(true).await;
    world.restart();
    let after_restart = world.archiver.done(true).await;

    // Then the 20 are counted, and RocketMQ deletes them when they are 72 hours old
    for round in [round, after_restart] {
        let left = round.headroom.unwrap();
        assert_eq!((round.lines, round.withheld), (0, Some(20)));
        assert!(left <= 71 * HOUR && left + HOUR / 3 > 71 * HOUR, "{left:?}");
    }

    // When RocketMQ deletes them one by one, then by the speed
    world.rocketmq.forget(15);
    world.clock.advance(Duration::from_secs(60));
    let round = world.archiver.done(true).await;
    assert_eq!((round.withheld, round.headroom), (Some(15), Some(Duration::ZERO)));

    // And when they are handed out again they are archived, and what is gone is named
    world.rocketmq.lock().has_too_few_read_queues = false;
    world.clock.advance(Duration::from_secs(60));
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, round.lost, round.withheld), (15, [(LostCause::Deleted, 5)].into(), Some(0)));
    assert_eq!(world.archiver.done(true).await.headroom, Some(72 * HOUR));
}

/// Which messages they were, nobody can say any more; but that they were there was seen.
#[tokio::test(start_paused = true)]
async fn what_waited_in_a_topic_that_is_deleted_is_counted_as_lost_once() {
    // Given 7 messages that wait to be archived, of which a look knew
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    world.archiver.done(true).await;
    world.rocketmq.say_so_many(7);
    world.archiver.done(false).await;

    // When the topic is deleted, then they are told once
    world.rocketmq.delete_topic();
    let lost = world.archiver.done(true).await.lost;
    assert_eq!(lost, [(LostCause::Deleted, 7)].into());
    assert_eq!(world.archiver.done(true).await.lost, [].into());
}

/// The name server forgets the topics of a broker that is away; what it holds comes back with it.
#[tokio::test(start_paused = true)]
async fn what_waits_on_a_broker_that_is_away_is_not_lost_and_how_long_it_is_kept_is_not_known() {
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    world.archiver.done(true).await;
    world.rocketmq.say_so_many(7);
    world.archiver.done(false).await;

    world.rocketmq.lock().is_away = true;
    let round = world.archiver.done(true).await;
    assert_eq!((round.lost, round.headroom), ([].into(), None));

    world.rocketmq.lock().is_away = false;
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, round.lost), (7, [].into()));
}

#[tokio::test(start_paused = true)]
async fn what_waited_in_a_topic_that_is_made_anew_is_counted_as_lost_once() {
    let mut world = World::new();
    let mut other = archiver(&world.rocketmq, &world.store, &world.clock);
    world.rocketmq.say_so_many(10);
    world.archiver.done(true).await;
    world.rocketmq.say_so_many(7);
    world.archiver.done(false).await;
    // The 7 another archiver has.
    other.done(true).await;
    world.rocketmq.say_so_many(3);
    other.done(false).await;

    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(2);
    world.clock.advance(Duration::from_secs(60));
    // This one knew of 17, which are all archived.
    assert_eq!(world.archiver.done(true).await.lost, [].into());
    // The other one knew of 20.
    assert_eq!(other.done(true).await.lost, [(LostCause::Deleted, 3)].into());
    assert_eq!(other.done(true).await.lost, [].into());
}

#[tokio::test(start_paused = true)]
async fn what_waited_in_a_topic_of_which_nothing_was_archived_is_counted_as_lost_once() {
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    world.rocketmq.lock().withheld = (0..10).collect();
    assert!(world.archiver.round(true).await.1.is_some());
    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(2);
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, round.lost), (2, [(LostCause::Deleted, 10)].into()));
}

#[tokio::test(start_paused = true)]
async fn what_is_withheld_does_not_keep_the_pieces_of_a_day_from_being_merged() {
    let mut world = World::new();
    world.rocketmq.say_so_many(3);
    world.archiver.done(true).await;
    world.rocketmq.lock().has_too_few_read_queues = true;
    world.rocketmq.say_so_many(3);
    world.clock.advance(100 * HOUR);
    let (round, _) = world.archiver.turn().await;
    assert_eq!((round.headroom, round.is_urgent), (Some(Duration::ZERO), false));
}

/// Long before its hour is over, if RocketMQ would delete it before.
#[tokio::test(start_paused = true)]
async fn what_rocketmq_will_soon_delete_is_archived_at_once() {
    let mut world = World::new();
    world.archiver.parts.cut_every = 1000 * HOUR;
    world.rocketmq.say_so_many(1);
    world.archiver.done(true).await;
    world.rocketmq.say_so_many(5);
    world.clock.advance(53 * HOUR);
    assert!(world.archiver.done(false).await.is_nothing());
    world.clock.advance(2 * HOUR);
    let round = world.archiver.done(false).await;
    assert_eq!((round.lines, round.is_urgent), (5, true));
}

#[tokio::test(start_paused = true)]
async fn a_full_piece_is_archived_at_once() {
    let mut world = World::new();
    world.rocketmq.say_so_many(1);
    world.archiver.done(true).await;
    let full = PIECE_BYTES as u64 / LINE_BYTES;
    world.rocketmq.say_so_many(full - 1);
    assert!(world.archiver.done(false).await.is_nothing());
    world.rocketmq.say_so_many(1);
    assert_eq!(world.archiver.done(false).await.lines, full);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_message_that_waits_is_told() {
    let mut world = World::new();
    world.rocketmq.say_so_many(1);
    world.archiver.done(true).await;
    assert_eq!(world.archiver.done(false).await.oldest_ms, None);
    world.rocketmq.later(HOUR);
    world.rocketmq.say_so_many(2);
    let said_ms = STORED_MS + 3_600_000 + 2;
    assert_eq!(world.archiver.done(false).await.oldest_ms, Some(said_ms));
}
