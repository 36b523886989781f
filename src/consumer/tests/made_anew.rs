//! What happens to a queue while it is followed: made anew, cut, away.

use proptest::prelude::*;

use super::*;

/// Hazard 20: what is remembered of a queue that was made anew while we follow it skips its first messages.
#[tokio::test(start_paused = true)]
async fn a_queue_that_is_made_anew_while_it_is_followed_is_read_from_its_beginning() {
    for new in [3, 6, 9] {
        // Given a follower that has read six messages
        let story = Story::new(1);
        story.memory.store_all(0, &["1", "2", "3", "4", "5", "6"]);
        let mut following = story.follow(StartAt::Earliest).await;
        following.texts(6).await;
        following.nothing_more().await;

        // When the queue is made anew, with fewer messages, as many, or more
        let texts: Vec<String> = (1..=new).map(|number| format!("n{number}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        story.memory.replace(0, &texts);

        // Then all of them come, and it is told
        assert_eq!(following.texts(new).await, texts);
        following.nothing_more().await;
        assert_eq!(story.lost(), 1, "{new} messages");

        // And a restart knows the new place
        following.stop().await;
        story.memory.store(0, "after");
        let mut following = story.follow(StartAt::Earliest).await;
        assert_eq!(following.texts(1).await, ["after"]);
        assert_eq!(story.lost(), 1);
    }
}

/// Hazard 20: the same, where nothing was read yet from the queue whose end was the beginning.
#[tokio::test(start_paused = true)]
async fn a_queue_that_was_begun_with_its_end_and_is_made_anew_is_read_from_its_beginning() {
    let story = Story::new(1);
    story.memory.store_all(0, &["1", "2", "3"]);
    let mut following = story.follow(StartAt::Latest).await;
    following.nothing_more().await;
    story.memory.replace(0, &["n1", "n2", "n3", "n4"]);
    assert_eq!(following.texts(4).await, ["n1", "n2", "n3", "n4"]);
    assert_eq!(story.lost(), 1);
}

/// Hazard 20: a busy queue is never silent, so that only what is found can tell.
#[tokio::test(start_paused = true)]
async fn a_queue_that_is_made_anew_between_two_pages_is_read_from_its_beginning() {
    let story = Story::new(1);
    let texts = |prefix: &str| -> Vec<String> { (0..100).map(|n| format!("{prefix}{n}")).collect() };
    let (old, new) = (texts("o"), texts("n"));
    story.memory.store_all(0, &old.iter().map(String::as_str).collect::<Vec<_>>());
    *story.memory.pull_takes.lock().unwrap() = Duration::from_millis(100);
    let mut following = story.follow(StartAt::Earliest).await;
    following.texts(32).await;
    story.memory.replace(0, &new.iter().map(String::as_str).collect::<Vec<_>>());
    let mut heard = Vec::new();
    while heard.len() < new.len() {
        heard.extend(following.texts(1).await.into_iter().filter(|text| text.starts_with('n')));
    }
    assert_eq!(heard, new);
    following.nothing_more().await;
}

/// Hazard 20: what was handed on before a queue was made anew ends later, under the offset of another message.
#[tokio::test(start_paused = true)]
async fn what_ends_late_does_not_move_the_new_position() {
    // Given two messages that are open when the queue is made anew, and two of the new ones open beside them
    let story = Story::new(1);
    story.memory.store_all(0, &["1", "2"]);
    let mut following = story.follow(StartAt::Earliest).await;
    let old = [following.next().await, following.next().await];
    story.memory.replace(0, &["n1", "n2"]);
    let new = [following.next().await, following.next().await];
    assert_eq!((&*new[0].message.keys, &*new[1].message.keys), ("n1", "n2"));

    // When the old ones end, and the process dies
    for item in &old {
        following.ended.send(item.place.clone()).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    following.crash().await;

    // Then the new ones come again
    let mut following = story.follow(StartAt::Earliest).await;
    assert_eq!(following.texts(2).await, ["n1", "n2"]);
    assert_eq!(story.lost(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_was_handed_on_before_the_queue_was_made_anew() {
    let story = Story::new(1);
    story.memory.store(0, "1");
    let mut following = story.follow(StartAt::Earliest).await;
    let old = following.next().await;
    story.memory.replace(0, &[]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    following.stop.cancel();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!following.task.is_finished());
    following.ended.send(old.place).unwrap();
    following.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_was_away_and_has_what_it_had_is_read_on() {
    let story = Story::new(1);
    story.memory.store_all(0, &["1", "2"]);
    let mut following = story.follow(StartAt::Earliest).await;
    following.texts(2).await;
    story.memory.away.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(30)).await;
    story.memory.store(0, "3");
    story.memory.away.store(false, Ordering::Relaxed);
    assert_eq!(following.texts(1).await, ["3"]);
    following.nothing_more().await;
    assert_eq!(story.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn messages_that_rocketmq_deletes_before_they_are_read_are_told() {
    // Given a follower that may not read on, because what it handed on does not end
    let story = Story::new(1);
    for number in 0..OPEN_MESSAGES + 200 {
        story.memory.store(0, &number.to_string());
    }
    let mut following = story.follow(StartAt::Earliest).await;
    tokio::time::sleep(Duration::from_secs(30)).await;

    // When RocketMQ deletes what is old, then the rest comes, and the loss is told
    story.memory.forget_before(0, OPEN_MESSAGES as u64 + 100);
    let before = following.items.len();
    let texts = following.texts(before + 100).await;
    assert_eq!(texts[before..][0], (OPEN_MESSAGES + 100).to_string());
    following.nothing_more().await;
    assert_eq!(story.lost(), 1);
}

/// RocketMQ leaves out what it counts and cannot read, in the middle of an answer or as an answer without messages.
#[tokio::test(start_paused = true)]
async fn messages_that_rocketmq_leaves_out_are_told() {
    let story = Story::new(1);
    story.memory.store_all(0, &["1", "2", "3", "4"]);
    story.memory.damage(0, 1);
    let mut following = story.follow(StartAt::Earliest).await;
    assert_eq!(following.texts(3).await, ["1", "3", "4"]);
    assert_eq!(story.lost(), 1);
    story.memory.store(0, "5");
    story.memory.damage(0, 4);
    following.nothing_more().await;
    story.memory.store(0, "6");
    assert_eq!(following.texts(1).await, ["6"]);
    assert_eq!(story.lost(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lag_that_is_not_known_is_not_0() {
    let story = Story::new(1);
    let lag = || {
        let text = story.metrics.render();
        let line = text.lines().find(|line| line.starts_with("roombridge_downlink_lag_messages{"));
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    let mut following = story.follow(StartAt::Earliest).await;
    following.nothing_more().await;
    assert_eq!(lag().as_deref(), Some("0"));
    story.memory.away.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(lag(), None);
    story.memory.away.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(lag().as_deref(), Some("0"));
}

/// What can happen to a queue.
#[derive(Debug, Clone)]
enum Event {
    Stored(u8),
    /// Deleted and made anew, with so many messages.
    MadeAnew(u8),
    Away(bool),
    Passes(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..40u8).prop_map(Event::Stored),
        (0..40u8).prop_map(Event::MadeAnew),
        any::<bool>().prop_map(Event::Away),
        (0..3000u16).prop_map(Event::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Hazard 20: whatever happens to a queue while it is followed, what it holds at last was heard, in order.
    #[test]
    fn what_a_queue_holds_at_last_was_heard(events in prop::collection::vec(event(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let (held, heard) = runtime.unwrap().block_on(happens(events));
        let last: Vec<_> = heard.iter().filter(|text| held.contains(text)).cloned().collect();
        prop_assert_eq!(last, held, "all that was heard: {:?}", heard);
    }
}

/// What the queue holds at last, and what was heard in all.
async fn happens(events: Vec<Event>) -> (Vec<String>, Vec<String>) {
    let story = Story::new(1);
    let mut following = story.follow(StartAt::Earliest).await;
    let mut number = 0;
    let mut texts = |count: u8| -> Vec<String> {
        let from = number;
        number += u32::from(count);
        (from..number).map(|number| number.to_string()).collect()
    };
    let (mut held, mut heard) = (Vec::new(), Vec::new());
    for event in events.into_iter().chain([Event::Away(false), Event::Passes(30_000)]) {
        match event {
            Event::Stored(count) => {
                let new = texts(count);
                story.memory.store_all(0, &new.iter().map(String::as_str).collect::<Vec<_>>());
                held.extend(new);
            }
            Event::MadeAnew(count) => {
                held = texts(count);
                story.memory.replace(0, &held.iter().map(String::as_str).collect::<Vec<_>>());
            }
            Event::Away(away) => story.memory.away.store(away, Ordering::Relaxed),
            Event::Passes(ms) => tokio::time::sleep(Duration::from_millis(ms.into())).await,
        }
        while let Ok(item) = following.items.try_recv() {
            heard.push(item.message.keys);
            following.ended.send(item.place).unwrap();
        }
    }
    while held.last().is_some_and(|last| !heard.contains(last)) {
        let item = following.next().await;
        heard.push(item.message.keys);
        following.ended.send(item.place).unwrap();
    }
    (held, heard)
}
