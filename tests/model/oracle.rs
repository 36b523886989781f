//! What must be true, whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roombridge::testing::telemetry::Metrics;

use crate::rocketmq::{DEAD_LETTER_TOPIC, ILLEGAL, number_of};
use crate::scenario::{STRAY, TOO_LARGE_BYTES};
use crate::world::World;

/// The MQTT broker got a PUBACK: from now on the message is ours alone.
pub fn acknowledged(world: &World, number: usize) {
    world.facts.lock().unwrap().acknowledged.insert(number);
    if !is_kept(world, number) {
        world.violation(format!("conservation: #{number} was PUBACKed and is neither stored nor spooled"));
    }
}

/// Stored, spooled, a dead letter, or given up by a choice of the user.
fn is_kept(world: &World, number: usize) -> bool {
    let facts = world.facts.lock().unwrap();
    let is_stray = facts.published[number].topic.starts_with(STRAY);
    if is_stray || facts.dropped.contains(&number) {
        return true;
    }
    drop(facts);
    let store = world.store.lock().unwrap();
    if store.stored.contains(&number) || store.dead.contains(&number) {
        return true;
    }
    drop(store);
    spooled(world).contains(&number) || buried(world).contains(&number)
}

fn spooled(world: &World) -> BTreeSet<usize> {
    let rows = world.disks.iter().flat_map(|disk| disk.rows());
    rows.filter_map(|(_, row)| number_of(world, &row.message)).collect()
}

/// On a disk, not in RocketMQ.
fn buried(world: &World) -> BTreeSet<usize> {
    let letters = world.disks.iter().flat_map(|disk| disk.letters());
    letters.filter_map(|letter| world.number_of_id(&letter.id)).collect()
}

/// Another bridge has the session: what lies in the spools of the others comes later than what it sends now.
pub fn session_changed_hands(world: &Arc<World>) {
    order_is_not_promised(world, spooled(world));
}

/// These reached a spool, or may have, while another bridge had the session.
pub fn order_is_not_promised(world: &World, numbers: impl IntoIterator<Item = usize>) {
    let mut facts = world.facts.lock().unwrap();
    for number in numbers {
        let room = facts.published[number].topic.clone();
        facts.unordered_rooms.insert(room);
    }
}

/// The books of one process balance.
pub fn check_books(world: &World, name: &str, metrics: &Metrics) {
    let text = metrics.render();
    let sum = |name: &str| -> f64 {
        let name = format!("roombridge_{name}{{");
        let lines = text.lines().filter(|line| line.starts_with(&name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let came = sum("received_total") + sum("spool_depth_at_start");
    let ends = ["stored_total", "dead_lettered_total", "filtered_total", "dropped_total"];
    let here = ["spool_depth", "in_flight"];
    let went: f64 = ends.iter().chain(&here).map(|name| sum(name)).sum();
    if came != went {
        let terms: Vec<_> = ["received_total", "spool_depth_at_start"]
            .iter()
            .chain(&ends)
            .chain(&here)
            .map(|name| format!("{name}={}", sum(name)))
            .collect();
        world.violation(format!("books of {name}: {came} came in, {went} are accounted for: {terms:?}"));
    }
}

/// At the end, when all faults are over and everything has had its time.
pub fn judge(world: &World) {
    let numbers = world.facts.lock().unwrap().published.len();
    for number in 0..numbers {
        let (acknowledged, lost_elsewhere) = {
            let facts = world.facts.lock().unwrap();
            let acknowledged = facts.acknowledged.contains(&number);
            (acknowledged, facts.lost_elsewhere.contains(&number))
        };
        if is_kept(world, number) {
            continue;
        }
        if acknowledged {
            world.violation(format!("conservation: #{number} was PUBACKed and is gone"));
        } else if !lost_elsewhere {
            world.violation(format!("liveness: #{number} was never stored"));
        }
    }
    let left = spooled(world);
    if !left.is_empty() {
        world.violation(format!("liveness: {left:?} are left in the spool"));
    }
    judge_dead_letters(world);
    judge_queues(world);
}

fn judge_dead_letters(world: &World) {
    if world.setup.may_be_refused {
        return;
    }
    let mut dead = world.store.lock().unwrap().dead.clone();
    dead.extend(buried(world));
    for number in dead {
        let body = world.facts.lock().unwrap().published[number].body.clone();
        if !body.starts_with(ILLEGAL) && body.len() < TOO_LARGE_BYTES {
            world.violation(format!("dead letters: #{number} could have been stored"));
        }
    }
}

fn judge_queues(world: &World) {
    let buried = buried(world);
    let store = world.store.lock().unwrap();
    let facts = world.facts.lock().unwrap();
    let mut wrong = Vec::new();
    let mut copies: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue_of_room: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((topic, queue), rows) in store.queues.iter().filter(|((topic, _), _)| topic != DEAD_LETTER_TOPIC) {
        let mut seen = BTreeSet::new();
        let mut newest: BTreeMap<&str, usize> = BTreeMap::new();
        for number in rows.iter().filter_map(|row| row.number) {
            *copies.entry(number).or_default() += 1;
            let room = facts.published[number].topic.as_str();
            queue_of_room.entry(room.to_owned()).or_default().insert(queue.to_string());
            if !seen.insert(number) {
                continue;
            }
            let before = newest.insert(room, number);
            // Kept in the memory of one bridge only, while another went on.
            let was_rescued = world.setup.two_bridges && facts.lost_elsewhere.contains(&number);
            // A full spool dropped it. If its PUBACK does not reach the broker either, it comes again behind newer messages.
            let was_dropped = facts.dropped.contains(&number);
            // One that became a dead letter may have a copy that did not.
            let was_buried = buried.contains(&number) || store.dead.contains(&number);
            let is_promised =
                !was_rescued && !was_dropped && !was_buried && !facts.unordered_rooms.contains(room);
            if is_promised && before.is_some_and(|before| before > number) {
                wrong.push(format!("order: #{number} comes first after #{before:?} in {topic}/{queue}"));
            }
        }
    }
    for (number, count) in copies {
        // Each process may send again what the last one could not remove from the spool.
        let allowed = facts.copies_allowed.get(&number).copied().unwrap_or(0) * facts.starts;
        if count > allowed {
            wrong.push(format!("copies: #{number} lies there {count} times, {allowed} are allowed"));
        }
    }
    let spread = queue_of_room.iter().filter(|(_, queues)| queues.len() > 1);
    for (room, queues) in spread.filter(|_| !world.setup.two_bridges) {
        wrong.push(format!("order: {room} lies in {queues:?}"));
    }
    drop((store, facts));
    wrong.into_iter().for_each(|what| world.violation(what));
}
