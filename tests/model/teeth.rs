//! The oracle has teeth: each lie is found within a few seeds.

use crate::lies::Lie;
use crate::run::play;

/// Most of the seeds that a lie may need.
const SEEDS: u64 = 300;

fn is_caught(lie: Lie, kind: &str) {
    let caught = (0..SEEDS).find(|seed| {
        let violations = play(*seed, Some(lie)).violations;
        violations.iter().any(|violation| violation.starts_with(kind))
    });
    println!("{lie:?}: seed {caught:?}");
    assert!(caught.is_some(), "no seed below {SEEDS} shows that {lie:?} breaks {kind:?}");
}

#[test]
fn the_oracle_catches_a_rocketmq_that_stores_nothing() {
    is_caught(Lie::SinkStoresNothing, "conservation");
}

#[test]
fn the_oracle_catches_a_rocketmq_that_changes_bytes() {
    is_caught(Lie::SinkChangesBytes, "integrity");
}

#[test]
fn the_oracle_catches_a_queue_that_never_answers() {
    is_caught(Lie::SinkNeverAnswers, "liveness");
}

#[test]
fn the_oracle_catches_a_spool_that_reorders_its_rows() {
    is_caught(Lie::SpoolReorders, "order");
}

#[test]
fn the_oracle_catches_a_spool_that_answers_before_the_disk_has_it() {
    is_caught(Lie::SpoolAnswersFirst, "conservation");
}

#[test]
fn the_oracle_catches_a_drain_that_forgets_its_rows() {
    is_caught(Lie::DrainForgets, "conservation");
}

#[test]
fn the_oracle_catches_a_spool_that_drops_the_batch_in_flight() {
    is_caught(Lie::SpoolDropsLent, "conservation");
}

#[test]
fn the_oracle_catches_ids_that_begin_anew_with_each_process() {
    is_caught(Lie::IdsBeginAnew, "identity");
}

#[test]
fn the_oracle_catches_a_puback_before_its_time() {
    is_caught(Lie::AcknowledgesEarly, "conservation");
}

#[test]
fn the_oracle_catches_deliveries_that_are_counted_twice() {
    is_caught(Lie::CountsTwice, "books");
}

#[test]
fn the_oracle_catches_a_puback_for_what_went_to_another_bridge() {
    is_caught(Lie::ForgetsTheTakeover, "conservation");
}
