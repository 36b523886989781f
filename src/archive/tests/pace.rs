//! The pace of a replay as a rule, over every lesson, speed and lateness.

use std::time::Duration;

use proptest::prelude::*;

use super::super::replay::pace::{Due, Pace};
use crate::archive::Speed;

/// When each message is played, if each output takes that long and each look at the clock is that late.
fn played(pace: &mut Pace, at_ms: &[u64], late: &[Duration], now: &mut Duration) -> Vec<Duration> {
    let mut moments = Vec::new();
    for (number, at_ms) in at_ms.iter().enumerate() {
        while let Due::In(ahead) = pace.due(*at_ms, *now) {
            if ahead.is_zero() {
                break;
            }
            *now += ahead;
        }
        moments.push(*now);
        pace.passed(*at_ms);
        *now += late[number % late.len()];
    }
    moments
}

fn times(gaps_ms: &[u64]) -> Vec<u64> {
    let mut at_ms = 1_800_000_000_000;
    let add = |gap: &u64| {
        at_ms += gap;
        at_ms
    };
    gaps_ms.iter().map(add).collect()
}

fn lateness() -> impl Strategy<Value = Vec<Duration>> {
    let late = prop_oneof![4 => 0..3_u64, 1 => 0..20_000_u64];
    prop::collection::vec(late.prop_map(Duration::from_millis), 1..20)
}

proptest! {
    /// Never early; and what no output held up is on time, to the microsecond, however long it plays.
    #[test]
    fn each_is_due_at_its_own_time_and_what_was_late_makes_nothing_late(
        gaps_ms in prop::collection::vec(prop_oneof![0..50_u64, 0..60_000_u64], 1..400),
        late in lateness(),
        factor in prop_oneof![Just(1.0), Just(2.0), 0.01..100.0_f64],
    ) {
        let at_ms = times(&gaps_ms);
        let mut now = Duration::from_secs(77);
        let moments = played(&mut Pace::new(Speed::Times(factor), None), &at_ms, &late, &mut now);
        let mut free = Duration::ZERO;
        for (number, moment) in moments.iter().enumerate() {
            let due = (at_ms[number] - at_ms[0]) as f64 / factor / 1000.0;
            let was = (*moment - Duration::from_secs(77)).as_secs_f64();
            prop_assert!(was >= due - 1e-6, "early: {was} for {due}");
            let expected = due.max(free.as_secs_f64());
            prop_assert!((was - expected).abs() < 2e-6, "{was} for {expected}");
            free = *moment - Duration::from_secs(77) + late[number % late.len()];
        }
    }

    /// A pause moves what follows by its length, and a change of the speed counts from its moment.
    #[test]
    fn pauses_and_speeds_add_up(
        steps in prop::collection::vec((0..5_000_u64, 0..3_u8, 0.1..10.0_f64), 1..60),
    ) {
        let mut pace = Pace::new(Speed::Times(1.0), None);
        let (mut now, mut position, mut factor, mut paused) = (Duration::from_secs(5), 0.0, 1.0, false);
        pace.begin_at(Some(0));
        pace.due(u64::MAX / 2, now);
        for (ms, what, to) in steps {
            now += Duration::from_millis(ms);
            if !paused {
                position += ms as f64 * factor;
            }
            match what {
                0 => {
                    pace.pause(now);
                    paused = true;
                }
                1 => {
                    pace.resume(now);
                    paused = false;
                }
                _ => {
                    pace.set_speed(Speed::Times(to), now);
                    factor = to;
                }
            }
            let shown = pace.position_ms(u64::MAX / 2, now).unwrap() as f64;
            prop_assert!((shown - position).abs() <= 1.0, "{shown} for {position}");
        }
        pace.resume(now);
        let next_ms = position as u64 + 1_000;
        let Due::In(ahead) = pace.due(next_ms, now) else { panic!("it was resumed") };
        let expected = (next_ms as f64 - position) / factor / 1000.0;
        prop_assert!((ahead.as_secs_f64() - expected).abs() < 1e-5, "{ahead:?} for {expected}");
    }

    #[test]
    fn no_silence_is_longer_than_wanted_and_what_is_left_out_is_the_rest(
        gaps_ms in prop::collection::vec(0..60_000_u64, 1..200),
        longest_ms in 0..30_000_u64,
    ) {
        let at_ms = times(&gaps_ms);
        let mut pace = Pace::new(Speed::Times(1.0), Some(Duration::from_millis(longest_ms)));
        let mut now = Duration::ZERO;
        let moments = played(&mut pace, &at_ms, &[Duration::ZERO], &mut now);
        for (pair, gap) in moments.windows(2).zip(&gaps_ms[1..]) {
            prop_assert_eq!(pair[1] - pair[0], Duration::from_millis((*gap).min(longest_ms)));
        }
    }
}
