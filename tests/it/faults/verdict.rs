//! The end of a story: waits until nothing moves any more, hears the witnesses and draws up the row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lesson::{Found, Key, acknowledged, key_of};
use super::row::Row;
use super::story::{DEAD_LETTERS, Rest, Stage, Story, TOPIC};
use super::watch::Seen;
use crate::support::bridge::Bridge;
use crate::support::java_bodies::{StoredBody, read_bodies};
use crate::support::mqtt_client::{Published, Publisher};
use crate::support::mqtt_subscriber::Subscriber;

/// How long everything may take to be stored when the fault is over.
const PATIENCE: Duration = Duration::from_secs(100);
/// Without a PUBACK for so long nothing more is expected to come.
const QUIET: Duration = Duration::from_secs(4);

pub struct Verdict;

impl Verdict {
    #[track_caller]
    pub fn hear<T>(mut story: Story, ask: impl FnOnce() -> T) -> (Row, T, Rest) {
        let (fault_ended, made_before) = story.fault_ended.take().expect("the fault has ended");
        story.watch.let_publishers_go();
        let finishing = Instant::now();
        let published = finish(story.publishers);
        let last_wait = finishing.elapsed();
        let acked = acknowledged(&published);
        let books_balanced = wait_for_rest(&story.stage, &story.bridge, &acked);
        let seen = story.watch.end();
        let answer = ask();
        let lost_by_plain_subscriber = story.plain.as_ref().map(|plain| lost_by(plain, &acked));

        let witnessed = story.stage.witness.acknowledged();
        let wiped = match story.read_wiped.take() {
            Some(read) => read(&mut story.stage.rocketmq),
            None => Vec::new(),
        };
        let wiped = Found::among(story.stage.setup.lesson, &wiped);
        let (found, dead) = read(&story.stage, &story.bridge, &witnessed.first, &wiped);
        let kept = |key: &Key| found.keys.contains(key) || dead.contains(key) || wiped.keys.contains(key);
        let lost: Vec<&Key> = witnessed.first.keys().filter(|key| !kept(key)).collect();
        if !lost.is_empty() {
            println!("lost: {:?}\n{}", &lost[..lost.len().min(20)], story.bridge.log_text());
        }
        let never_came = acked.iter().filter(|key| !witnessed.first.contains_key(key) && !kept(key));
        let wiped_away = wiped.keys.iter().filter(|key| !found.keys.contains(key));
        let recovered = recovered_at(&witnessed.first, &made_before, &seen);
        let setup = &story.stage.setup;
        let row = Row {
            published: published.iter().map(|published| published.made).sum(),
            acked_to_publisher: acked.len() as u64,
            pubacked_by_bridge: witnessed.first.len() as u64,
            pubacks: witnessed.pubacks,
            stored: found.keys.union(&wiped.keys).count() as u64,
            duplicates: found.duplicates,
            dead_lettered: dead.len() as u64,
            lost: lost.len() as u64,
            lost_elsewhere: (never_came.count() + wiped_away.count()) as u64,
            lost_by_plain_subscriber,
            order_violations: found.order_violations,
            damaged: found.damaged,
            foreign: found.foreign,
            most_spooled: seen.most_spooled,
            recovery_s: recovered.map_or(0.0, |at| at.saturating_duration_since(fault_ended).as_secs_f64()),
            longest_wait_s: seen.longest_wait.max(last_wait).as_secs_f64(),
            books_balanced,
            ..setup.row()
        };
        (row, answer, Rest { stage: story.stage, bridge: story.bridge })
    }
}

/// All at the same time: one that waits must not let the others go on.
#[track_caller]
fn finish(publishers: Arc<Vec<Publisher>>) -> Vec<Published> {
    let publishers = Arc::into_inner(publishers).expect("the watch has let the publishers go");
    std::thread::scope(|scope| {
        let finishing: Vec<_> =
            publishers.into_iter().map(|publisher| scope.spawn(|| publisher.finish())).collect();
        let finished = finishing.into_iter().map(|thread| thread.join().expect("a publisher finishes"));
        finished.collect()
    })
}

/// Until all has come and is stored, or nothing has moved for a while: what a broken MQTT broker forgot never comes.
/// Returns whether the books balance then.
#[track_caller]
fn wait_for_rest(stage: &Stage, bridge: &Bridge, acked: &HashSet<Key>) -> bool {
    let start = Instant::now();
    let (mut count, mut since) = (0, Instant::now());
    loop {
        let now = stage.witness.acknowledged_count();
        if now != count {
            (count, since) = (now, Instant::now());
        }
        let metrics = bridge.get("/metrics").map(|_| bridge.metrics());
        let books = metrics.map(|metrics| metrics.books());
        let at_rest = books.as_ref().is_some_and(|books| books.in_flight == 0.0 && books.spool_depth == 0.0);
        let all_came = count >= acked.len();
        if at_rest && (all_came || since.elapsed() > QUIET) {
            let balanced = books.as_ref().is_some_and(|books| books.balanced());
            // Scraped between two counters, perhaps.
            if balanced || since.elapsed() > 2 * QUIET {
                println!("at rest after {:?}: {books:?}", start.elapsed());
                return balanced;
            }
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{count} of {} PUBACKed, {books:?} after {PATIENCE:?}\n{}",
            acked.len(),
            bridge.log_text()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The topic and the dead letters. RocketMQ shows a message some milliseconds after it confirmed it.
fn read(
    stage: &Stage,
    bridge: &Bridge,
    pubacked: &HashMap<Key, Instant>,
    wiped: &Found,
) -> (Found, HashSet<Key>) {
    let name_server = stage.rocketmq.name_server();
    let mut attempt = 1;
    loop {
        let dead = read_bodies(&name_server, DEAD_LETTERS);
        let mut dead: HashSet<Key> = dead.iter().filter_map(|row| key_of(&row.body)).collect();
        dead.extend(local_dead_letters(bridge));
        let stored: Vec<StoredBody> = read_bodies(&name_server, TOPIC);
        let found = Found::among(stage.setup.lesson, &stored);
        let is_kept = |key: &Key| found.keys.contains(key) || dead.contains(key) || wiped.keys.contains(key);
        if attempt == 4 || pubacked.keys().all(is_kept) {
            return (found, dead);
        }
        attempt += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Those that RocketMQ did not take within a second, as an operator's tool sees them.
fn local_dead_letters(bridge: &Bridge) -> Vec<Key> {
    let file = bridge.data_dir().join("dead-letters.sqlite3");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database =
        rusqlite::Connection::open_with_flags(file, flags).expect("there are dead letters, if none");
    let mut payloads = database.prepare("SELECT payload FROM letters").expect("a table");
    let payloads = payloads.query_map((), |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    payloads.filter_map(|payload| key_of(&payload.expect("a payload"))).collect()
}

/// When the last message that was made before the fault ended was safe, and the spool empty.
fn recovered_at(first: &HashMap<Key, Instant>, made_before: &[u64], seen: &Seen) -> Option<Instant> {
    let old = |key: &Key| {
        let made = made_before.get(usize::from(key.publisher));
        made.is_some_and(|made| u64::from(key.number) < *made)
    };
    let acked = first.iter().filter(|(key, _)| old(key)).map(|(_, at)| *at).max();
    acked.max(seen.spooled_at)
}

fn lost_by(plain: &Subscriber, acked: &HashSet<Key>) -> u64 {
    let (mut count, mut since) = (usize::MAX, Instant::now());
    loop {
        let received = plain.received();
        if received.len() != count {
            (count, since) = (received.len(), Instant::now());
        }
        let keys: HashSet<Key> = received.iter().filter_map(|publish| key_of(&publish.payload)).collect();
        let lost = acked.difference(&keys).count() as u64;
        if lost == 0 || since.elapsed() > QUIET {
            return lost;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
