//! Replays in time that a test moves.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::archiver::memory;
use crate::model::Clock;
use crate::piece_store::PieceStore;

/// The clock of tokio, which a test with paused time moves.
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn wall_ms(&self) -> u64 {
        0
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Hears a replay, and takes its time over each line.
#[derive(Default)]
struct Listener {
    heard: Arc<Mutex<Vec<(u64, String)>>>,
    started: Option<tokio::time::Instant>,
    /// Milliseconds, in turn.
    takes_ms: Vec<u64>,
}

impl Listener {
    fn new() -> Self {
        Self { started: Some(tokio::time::Instant::now()), ..Self::default() }
    }

    /// When each line was heard, in milliseconds from the start.
    fn times(&self) -> Vec<u64> {
        self.heard.lock().unwrap().iter().map(|(ms, _)| *ms).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }
}

impl ReplayOutput for Listener {
    fn play<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, Result<(), ReplayError>> {
        let ms = self.started.unwrap().elapsed().as_millis() as u64;
        let mark = if record.conflict { " (conflict)" } else { "" };
        let text = format!("{}{mark}", String::from_utf8_lossy(&record.bytes));
        let count = self.heard.lock().unwrap().len();
        self.heard.lock().unwrap().push((ms, text));
        let takes_ms = self.takes_ms.get(count % self.takes_ms.len().max(1)).copied().unwrap_or(0);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(takes_ms)).await;
            Ok(())
        })
    }
}

fn clock() -> TokioClock {
    TokioClock(tokio::time::Instant::now())
}

fn parts<'a>(reader: &'a dyn Reader, clock: &'a TokioClock) -> ReplayParts<'a> {
    ReplayParts {
        readers: Readers { until_now: reader, follow: None },
        query: room("1"),
        start: None,
        speed: Speed::Times(1.0),
        longest_silence: None,
        clock,
    }
}

/// Messages of room 1 that were said so many milliseconds after the first one.
fn said(at_ms: &[u64]) -> Memory {
    let mut memory = Memory::default();
    for (number, ms) in at_ms.iter().enumerate() {
        memory.store(0, 1_000_000 + ms, "1", Some(number as u64), &number.to_string());
    }
    memory
}

/// Plays all, and gives what was heard.
async fn played(parts: ReplayParts<'_>) -> (Listener, Ended) {
    let (mut replay, _handle) = Replay::open(parts, &mut |_| {}).await.unwrap();
    let mut listener = Listener::new();
    let ended = replay.run(&mut listener, &mut |_| {}).await.unwrap();
    (listener, ended)
}

#[track_caller]
fn assert_times(listener: &Listener, due_ms: &[u64]) {
    let times = listener.times();
    assert_eq!(times.len(), due_ms.len(), "{times:?}");
    for (time, due) in times.iter().zip(due_ms) {
        // A timer of tokio ends up to a millisecond late.
        assert!((*due..due + 3).contains(time), "{times:?} for {due_ms:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_the_pace_divided_by_the_speed() {
    let memory = said(&[0, 2_000, 40_000]);
    for (speed, due_ms) in [("1", [0, 2_000, 40_000]), ("x4", [0, 500, 10_000]), ("max", [0, 0, 0])] {
        let clock = clock();
        let parts = ReplayParts { speed: speed.parse().unwrap(), ..parts(&memory, &clock) };
        let (mut replay, _handle) = Replay::open(parts, &mut |_| {}).await.unwrap();
        let (mut listener, mut pauses, mut counts) = (Listener::new(), 0, Vec::new());
        let mut watch = |event| match event {
            ReplayEvent::Pause(_) => pauses += 1,
            ReplayEvent::Played(count) => counts.push(count),
            other => panic!("{other:?}"),
        };

        assert_eq!(replay.run(&mut listener, &mut watch).await.unwrap(), Ended::Whole);

        assert_times(&listener, &due_ms);
        assert_eq!(counts, [1, 2, 3]);
        assert_eq!(pauses, u32::from(speed != "max"), "the long pause is announced");
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_does_not_drift_although_the_listener_is_often_late() {
    // given a lesson of an hour with a line each 700 ms, and a listener that takes up to 2 s for one of them
    let at_ms: Vec<u64> = (0..5_143).map(|number| number * 700).collect();
    let memory = said(&at_ms);
    let clock = clock();
    let (mut replay, _handle) = Replay::open(parts(&memory, &clock), &mut |_| {}).await.unwrap();
    let mut listener = Listener { takes_ms: vec![0, 30, 0, 2_000, 0, 0, 0, 5, 1], ..Listener::new() };
    replay.run(&mut listener, &mut |_| {}).await.unwrap();

    // then no line is early, and each that nothing held up is there on time, up to the last one
    let times = listener.times();
    assert_eq!(times.len(), at_ms.len());
    assert!(times.iter().zip(&at_ms).all(|(time, due)| time >= due), "never early");
    let on_time = times.iter().zip(&at_ms).filter(|(time, due)| **time < **due + 3).count();
    assert!(on_time * 2 > at_ms.len(), "{on_time} of {}", at_ms.len());
    let (last, due) = (times.last().unwrap(), at_ms.last().unwrap());
    assert!(*last < due + 2_500, "{last} for {due}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_and_forth_in_between_makes_no_line_wait_for_it() {
    let mut memory = Memory::default();
    for (number, ms) in [5_000, 6_000, 2_000, 6_500].into_iter().enumerate() {
        memory.store(0, 1_000_000 + ms, "1", Some(number as u64), &number.to_string());
    }
    let clock = clock();
    let (listener, _) = played(parts(&memory, &clock)).await;
    assert_times(&listener, &[0, 1_000, 1_000, 1_500]);
}

#[tokio::test(start_paused = true)]
async fn long_silences_are_shortened_and_told() {
    let memory = said(&[0, 2_000, 62_000, 63_000, 3_663_000]);
    let clock = clock();
    let parts = ReplayParts { longest_silence: Some(Duration::from_secs(10)), ..parts(&memory, &clock) };
    let (mut replay, _handle) = Replay::open(parts, &mut |_| {}).await.unwrap();
    let (mut listener, mut left_out) = (Listener::new(), Vec::new());
    let mut watch = |event| {
        if let ReplayEvent::LeftOut(length) = event {
            left_out.push(length.as_secs());
        }
    };
    replay.run(&mut listener, &mut watch).await.unwrap();
    assert_times(&listener, &[0, 2_000, 12_000, 13_000, 23_000]);
    assert_eq!(left_out, [50, 3_590]);
}

#[tokio::test(start_paused = true)]
async fn it_begins_where_it_is_told_to() {
    let memory = said(&[0, 10_000, 20_000, 30_000]);
    for (start, texts, due_ms) in [
        (Position::Offset(Duration::from_secs(15)), ["2", "3"], [5_000, 15_000]),
        (Position::At(1_000_000 - 5 + 20_000), ["2", "3"], [0, 10_000]),
        (Position::Message(message_id(2)), ["2", "3"], [0, 10_000]),
    ] {
        let clock = clock();
        let (listener, _) = played(ReplayParts { start: Some(start), ..parts(&memory, &clock) }).await;
        assert_eq!(listener.texts(), texts, "{start:?}");
        assert_times(&listener, &due_ms);
    }
    let clock = clock();
    let nowhere = ReplayParts { start: Some(Position::Message(message_id(9))), ..parts(&memory, &clock) };
    let error = Replay::open(nowhere, &mut |_| {}).await.err().unwrap();
    assert!(error.to_string().contains(&message_id(9).to_string()), "{error}");
}

/// Runs a replay of lines each 10 s, and gives it these controls at these milliseconds; says what was heard when, and the last state.
async fn driven(controls: &[(u64, Control)]) -> (Vec<(u64, String)>, ReplayState) {
    let memory = said(&[0, 10_000, 20_000, 30_000]);
    let clock = clock();
    let (mut replay, handle) = Replay::open(parts(&memory, &clock), &mut |_| {}).await.unwrap();
    let mut listener = Listener::new();
    let heard = listener.heard.clone();
    let told = handle.clone();
    let drive = async move {
        let started = tokio::time::Instant::now();
        for (ms, control) in controls {
            tokio::time::sleep_until(started + Duration::from_millis(*ms)).await;
            told.tell(*control).await;
        }
    };
    let mut watch = |_| {};
    let (ended, ()) = tokio::join!(replay.run(&mut listener, &mut watch), drive);
    ended.unwrap();
    let heard = heard.lock().unwrap().clone();
    (heard, handle.state())
}

#[track_caller]
fn assert_heard(heard: &[(u64, String)], expected: &[(u64, &str)]) {
    let texts: Vec<_> = heard.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, expected.iter().map(|(_, text)| *text).collect::<Vec<_>>());
    for ((ms, _), (due, _)) in heard.iter().zip(expected) {
        assert!((*due..due + 5).contains(ms), "{heard:?} for {expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_moves_all_that_follows_and_a_speed_changes_it_from_now_on() {
    let (heard, state) = driven(&[(14_000, Control::Pause), (60_000, Control::Resume)]).await;
    assert_heard(&heard, &[(0, "0"), (10_000, "1"), (66_000, "2"), (76_000, "3")]);
    assert_eq!((state.played, state.total, state.is_paused), (4, 4, false));
    assert_eq!(state.position_ms.zip(state.begin_ms).map(|(at, begin)| at - begin), Some(30_000));

    let faster = Control::Speed(Speed::Times(5.0));
    let (heard, _) = driven(&[(15_000, faster), (17_000, Control::Speed(Speed::Times(1.0)))]).await;
    // 5 s of silence in 1 s, then 5 s of the next one in 1 s, and the rest of it in 5 s
    assert_heard(&heard, &[(0, "0"), (10_000, "1"), (16_000, "2"), (22_000, "3")]);

    let (heard, _) =
        driven(&[(12_000, Control::Pause), (13_000, Control::Speed(Speed::Max)), (20_000, Control::Resume)])
            .await;
    assert_heard(&heard, &[(0, "0"), (10_000, "1"), (20_000, "2"), (20_000, "3")]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_moved_forward_back_and_to_a_message() {
    let (heard, _) = driven(&[(12_000, Control::Seek(Position::By(10_000)))]).await;
    assert_heard(&heard, &[(0, "0"), (10_000, "1"), (20_000, "3")]);

    let (heard, state) = driven(&[(12_000, Control::Seek(Position::By(-10_000)))]).await;
    assert_heard(&heard, &[(0, "0"), (10_000, "1"), (20_000, "1"), (30_000, "2"), (40_000, "3")]);
    assert_eq!(state.played, 5);

    let there = Control::Seek(Position::Message(message_id(3)));
    let (heard, _) = driven(&[(5_000, there)]).await;
    assert_heard(&heard, &[(0, "0"), (5_000, "3")]);

    // nothing is before the beginning, and a message that is not there moves nothing
    let (heard, _) = driven(&[(12_000, Control::Seek(Position::By(-3_600_000)))]).await;
    assert_heard(
        &heard,
        &[(0, "0"), (10_000, "1"), (12_000, "0"), (22_000, "1"), (32_000, "2"), (42_000, "3")],
    );
    let (heard, _) = driven(&[(12_000, Control::Seek(Position::Message(message_id(77))))]).await;
    assert_heard(&heard, &[(0, "0"), (10_000, "1"), (20_000, "2"), (30_000, "3")]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_told_to_stop_ends_and_so_does_one_that_rests_when_nobody_can_resume_it() {
    let (heard, _) = driven(&[(14_000, Control::Stop)]).await;
    assert_heard(&heard, &[(0, "0"), (10_000, "1")]);

    let (memory, clock) = (said(&[0, 10_000]), clock());
    let (mut replay, handle) = Replay::open(parts(&memory, &clock), &mut |_| {}).await.unwrap();
    handle.tell(Control::Pause).await;
    drop(handle);
    let mut listener = Listener::new();
    let ended = tokio::time::timeout(Duration::from_secs(3600), replay.run(&mut listener, &mut |_| {})).await;
    assert_eq!((ended.unwrap().unwrap(), listener.texts().len()), (Ended::Stopped, 0));
}

/// Counts what is asked of a reader.
struct Counting<'a> {
    reader: &'a dyn Reader,
    pulled: AtomicU64,
}

impl Reader for Counting<'_> {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        self.reader.queues(topic)
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        self.reader.offsets(topic, queue)
    }

    fn offset_at<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.reader.offset_at(topic, queue, stored_ms)
    }

    fn pull<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        tag: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        self.pulled.fetch_add(1, Ordering::Relaxed);
        self.reader.pull(topic, queue, tag, from_offset, limit)
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_does_not_go_on_makes_nobody_read_ahead_and_holds_no_other_replay_up() {
    let memory = said(&Vec::from_iter(0..20_000));
    let counting = Counting { reader: &memory, pulled: AtomicU64::new(0) };
    let clock = clock();
    let quick = ReplayParts { speed: Speed::Max, ..parts(&counting, &clock) };
    let (mut slow, handle) =
        Replay::open(ReplayParts { ..parts(&counting, &clock) }, &mut |_| {}).await.unwrap();
    let after_opening = counting.pulled.load(Ordering::Relaxed);
    handle.tell(Control::Pause).await;
    let mut stuck = Listener::new();
    let mut watch = |_| {};
    let (slow, others) = (slow.run(&mut stuck, &mut watch), async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let read_ahead = counting.pulled.load(Ordering::Relaxed) - after_opening;
        // others play meanwhile, as many as there are
        let (all, first) = tokio::join!(played(quick), played(parts(&memory, &clock)));
        handle.tell(Control::Stop).await;
        (read_ahead, all.0.texts().len(), first.0.texts().len())
    });
    let (ended, (read_ahead, all, first)) = tokio::join!(slow, others);
    assert_eq!(ended.unwrap(), Ended::Stopped);
    assert!(read_ahead <= 3, "{read_ahead} pages");
    assert_eq!((all, first), (20_000, 20_000));
}

fn of_room_1() -> HistoryQuery {
    let place = RoomQuery {
        topic: "room".to_owned(),
        tag: None,
        shared: false,
        room: Some("1".to_owned()),
        kind: None,
    };
    HistoryQuery { places: vec![place], ..HistoryQuery::default() }
}

/// The last message gets that id.
fn name_last(rocketmq: &memory::Memory, id: u64) {
    let mut kept = rocketmq.lock();
    let last = kept.messages.last_mut().unwrap();
    last.keys = format!("1 {}", message_id(id));
    last.properties.insert("rbId", message_id(id).to_string());
}

#[tokio::test(start_paused = true)]
async fn one_that_follows_goes_on_into_what_is_said_now_without_a_gap_or_a_copy() {
    // given a lesson of which a part is in the archive alone, and more in RocketMQ alone
    let (rocketmq, store) = (Arc::new(memory::Memory::default()), PieceStore::in_memory());
    let mut archiver = whole::archiver(&rocketmq, &store);
    rocketmq.say_so_many(400);
    assert!(archiver.round(true).await.1.is_none());
    rocketmq.forget(300);
    rocketmq.say(["with an id".to_owned()]);
    name_last(&rocketmq, 7);
    let reader = Whole::new(rocketmq.clone(), store.clone());
    let clock = clock();
    let parts = ReplayParts {
        readers: Readers { until_now: &reader, follow: Some(&*rocketmq) },
        query: of_room_1(),
        speed: Speed::Max,
        ..parts(&reader, &clock)
    };
    let (mut replay, handle) = Replay::open(parts, &mut |_| {}).await.unwrap();
    let (mut listener, mut live_after) = (Listener::new(), None);
    let heard = listener.heard.clone();
    let mut watch = |event| {
        if let ReplayEvent::Live = event {
            live_after.get_or_insert(heard.lock().unwrap().len());
        }
    };
    let play = replay.run(&mut listener, &mut watch);
    let talk = async {
        // when more is said before it has played anything, and then again and again; meanwhile it is archived and forgotten
        for round in 0..20 {
            rocketmq.say((0..37).map(|number| format!("{round}.{number}")));
            rocketmq.say(["with an id".to_owned()]);
            name_last(&rocketmq, 7);
            tokio::time::sleep(Duration::from_millis(350)).await;
            if round % 4 == 3 {
                assert!(archiver.round(true).await.1.is_none());
                rocketmq.forget(90);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle.tell(Control::Stop).await;
    };
    let (ended, ()) = tokio::join!(play, talk);
    assert_eq!(ended.unwrap(), Ended::Stopped);
    assert!(handle.state().is_live);
    let mut expected: Vec<_> = (0..400).map(|number| format!("line {number}")).collect();
    expected.push("with an id".to_owned());
    expected.extend((0..20).flat_map(|round| (0..37).map(move |number| format!("{round}.{number}"))));
    assert_eq!(listener.texts(), expected);
    assert!(live_after.is_some_and(|count| count >= 401), "{live_after:?}");
}

/// Rule 15: what was played is not called back, and what comes later under its id is not hidden.
#[tokio::test(start_paused = true)]
async fn one_that_follows_plays_another_body_under_a_known_id_and_marks_it() {
    let rocketmq = memory::Memory::default();
    let say = |text: &str| {
        rocketmq.say([text.to_owned()]);
        name_last(&rocketmq, 7);
    };
    say("said");
    let clock = clock();
    let parts = ReplayParts {
        readers: Readers { until_now: &rocketmq, follow: Some(&rocketmq) },
        query: of_room_1(),
        speed: Speed::Max,
        ..parts(&rocketmq, &clock)
    };
    let (mut replay, handle) = Replay::open(parts, &mut |_| {}).await.unwrap();
    let (mut listener, mut watch) = (Listener::new(), |_| {});
    let talk = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ["forged", "said", "forged"].into_iter().for_each(say);
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle.tell(Control::Stop).await;
    };
    let (ended, ()) = tokio::join!(replay.run(&mut listener, &mut watch), talk);
    assert_eq!(ended.unwrap(), Ended::Stopped);
    assert_eq!(listener.texts(), ["said", "forged (conflict)"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_follows_says_when_its_topic_is_another_one_and_waits_while_rocketmq_is_away() {
    let rocketmq = memory::Memory::default();
    rocketmq.say_so_many(10);
    let clock = clock();
    let following = || ReplayParts {
        readers: Readers { until_now: &rocketmq, follow: Some(&rocketmq) },
        query: of_room_1(),
        speed: Speed::Max,
        ..parts(&rocketmq, &clock)
    };
    let (mut replay, _handle) = Replay::open(following(), &mut |_| {}).await.unwrap();
    let (mut listener, mut troubles) = (Listener::new(), 0);
    let heard = listener.heard.clone();
    let mut watch = |event| troubles += u32::from(matches!(event, ReplayEvent::Trouble(_)));
    let change = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rocketmq.lock().is_silent = true;
        tokio::time::sleep(Duration::from_secs(60)).await;
        rocketmq.lock().is_silent = false;
        rocketmq.say(["after it".to_owned()]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(heard.lock().unwrap().len(), 11);
        rocketmq.make_anew();
    };
    let (ended, ()) = tokio::join!(replay.run(&mut listener, &mut watch), change);
    let said = ended.unwrap_err().to_string();
    assert!(said.contains("11 was next") && said.contains("start the replay again"), "{said}");
    assert!(troubles > 5, "{troubles}");
}
