//! The list of mutes: what it answers, what it forgets, and how it comes back after a restart.

use proptest::prelude::*;

use super::*;

const DAY_MS: u64 = 24 * 3_600_000;

fn change(source: u64, who: &str, where_: Option<&str>, act: MuteAction, at_ms: u64) -> MuteChange {
    MuteChange {
        client: client(who),
        room: where_.map(room),
        action: act,
        by: client(TEACHER),
        at_ms,
        source_id: format!("00000000000000bb-{source:x}"),
    }
}

fn mute(source: u64, where_: Option<&str>, until_ms: Option<u64>, at_ms: u64) -> MuteChange {
    change(source, HAN, where_, MuteAction::Mute { until_ms }, at_ms)
}

fn lift(source: u64, where_: Option<&str>, at_ms: u64) -> MuteChange {
    change(source, HAN, where_, MuteAction::Unmute, at_ms)
}

fn of(changes: impl IntoIterator<Item = MuteChange>) -> Mutes {
    let mut mutes = Mutes::default();
    changes.into_iter().for_each(|change| mutes.apply(change));
    mutes
}

fn is_muted(mutes: &Mutes, where_: &str, at_ms: u64) -> bool {
    mutes.in_force(&client(HAN), &room(where_), at_ms).is_some()
}

#[test]
fn a_lift_for_all_rooms_lifts_all_and_a_lift_in_one_room_leaves_the_mute_for_all() {
    let mutes = of([mute(1, Some("1"), None, 10), mute(2, None, None, 20), lift(3, Some("1"), 30)]);
    assert!(is_muted(&mutes, "1", 30) && is_muted(&mutes, "2", 30), "the one for all rooms stands");

    let mutes = of([mute(1, Some("1"), None, 10), lift(2, None, 20), mute(3, Some("2"), None, 30)]);
    assert!(is_muted(&mutes, "1", 19) && !is_muted(&mutes, "1", 20));
    assert!(!is_muted(&mutes, "1", 30) && is_muted(&mutes, "2", 30));
}

#[test]
fn the_list_of_a_room_names_each_mute_with_its_end() {
    let mutes = of([
        mute(1, Some("1"), Some(100), 10),
        mute(2, None, Some(200), 20),
        change(3, LI, Some("2"), MuteAction::Mute { until_ms: None }, 20),
    ]);
    let listed = |where_: &str, at_ms| -> Vec<_> {
        let mutes = mutes.list(&room(where_), at_ms).into_iter();
        mutes.map(|mute| (mute.client.as_str().to_owned(), mute.room.is_some(), mute.until_ms())).collect()
    };
    let han = |in_room, until_ms| (HAN.to_owned(), in_room, Some(until_ms));
    assert_eq!(listed("1", 99), [han(true, 100), han(false, 200)]);
    assert_eq!(listed("1", 100), [han(false, 200)]);
    assert_eq!(listed("2", 150), [(LI.to_owned(), true, None), han(false, 200)]);
    assert_eq!(listed("3", 200), []);

    let longest = mutes.in_force(&client(HAN), &room("1"), 50).unwrap();
    assert_eq!(longest.until_ms(), Some(200), "the answer names the end that counts");
    let mutes = of([mute(1, Some("1"), None, 10), mute(2, None, Some(200), 20)]);
    let longest = mutes.in_force(&client(HAN), &room("1"), 50).unwrap();
    assert_eq!(longest.until_ms(), None, "until lifted is longer than any end");
}

#[test]
fn a_change_that_comes_again_changes_nothing() {
    let story = [mute(1, None, None, 10), lift(2, None, 20), mute(3, None, Some(50), 30)];
    let once = of(story.clone());
    // Delivered again after a crash: all changes, and some from the middle.
    let again = of(story.iter().chain(&story).chain(&story[..1]).cloned());
    assert_eq!(once, again);
    assert!(is_muted(&again, "1", 49) && !is_muted(&again, "1", 50));
}

#[test]
fn after_a_clock_is_set_back_the_later_command_counts() {
    let lifted = of([mute(1, None, None, 1_000), lift(2, None, 500)]);
    assert!(!is_muted(&lifted, "1", 600) && !is_muted(&lifted, "1", 2_000));

    let muted = of([lift(1, None, 1_000), mute(2, None, None, 500)]);
    assert!(!is_muted(&muted, "1", 499) && is_muted(&muted, "1", 600) && is_muted(&muted, "1", 2_000));
}

#[test]
fn what_has_ended_is_forgotten_a_day_later_and_what_stands_is_not() {
    let mut mutes = of([
        mute(1, Some("1"), Some(START_MS + 60_000), START_MS),
        mute(2, Some("2"), None, START_MS),
        mute(3, Some("3"), None, START_MS),
        lift(4, Some("3"), START_MS + 10),
    ]);
    mutes.forget(START_MS + DAY_MS);
    assert!(is_muted(&mutes, "1", START_MS + 59_999), "a line that is read late is judged all the same");
    assert!(is_muted(&mutes, "3", START_MS + 9));

    mutes.forget(START_MS + DAY_MS + 60_000);
    assert_eq!(mutes, {
        let mut standing = of([mute(2, Some("2"), None, START_MS)]);
        standing.forget(START_MS);
        standing
    });
}

#[test]
fn a_teacher_who_mutes_and_lifts_without_end_costs_bounded_memory() {
    let mut mutes = of([mute(1, Some("9"), None, START_MS)]);
    for number in 0..10_000 {
        let at_ms = START_MS + number * 10;
        mutes.apply(mute(2 * number + 2, Some("1"), None, at_ms));
        mutes.apply(lift(2 * number + 3, Some("1"), at_ms + 5));
    }
    assert!(mutes.to_snapshot().len() < 256 * 250, "{}", mutes.to_snapshot().len());
    let last_ms = START_MS + 99_990;
    assert!(is_muted(&mutes, "1", last_ms) && !is_muted(&mutes, "1", last_ms + 5));
    assert!(is_muted(&mutes, "9", last_ms), "what stands did not give way");
}

#[test]
fn a_full_list_takes_lifts_and_no_new_mutes() {
    let mut mutes = Mutes::default();
    let of_number = |number: u64, act| change(number, &format!("GID_x@@@{number}"), None, act, START_MS);
    for number in 0..50_000 {
        let change = of_number(number, MuteAction::Mute { until_ms: None });
        assert!(mutes.can_take(&change));
        mutes.apply(change);
    }
    assert!(!mutes.can_take(&of_number(50_001, MuteAction::Mute { until_ms: None })));
    let lift = change(60_000, "GID_x@@@7", None, MuteAction::Unmute, START_MS + 1);
    assert!(mutes.can_take(&lift));
    mutes.apply(lift);
    assert!(mutes.in_force(&client("GID_x@@@7"), &room("1"), START_MS + 1).is_none());
    assert!(mutes.in_force(&client("GID_x@@@8"), &room("1"), START_MS + 1).is_some());

    mutes.forget(START_MS + 2 * DAY_MS);
    assert!(mutes.can_take(&of_number(50_001, MuteAction::Mute { until_ms: None })), "a place became free");
}

#[test]
fn a_snapshot_that_is_none_says_so() {
    let error = |json: &str| Mutes::from_snapshot(json).unwrap_err().to_string();
    assert!(error("").contains("not what this program wrote"));
    assert!(error(r#"{"version":1,"changes":[{}]}"#).contains("not what this program wrote"));
    assert!(error(r#"{"version":2,"changes":"other"}"#).contains("version 2"));
    let snapshot = of([mute(1, Some("1"), None, 10)]).to_snapshot();
    assert!(error(&snapshot.replace(HAN, "#")).contains("client id"), "no wildcard by way of the file");
}

#[test]
fn the_written_form_never_changes() {
    let snapshot = of([mute(1, Some("1"), Some(20), 10), lift(2, None, 30)]).to_snapshot();
    let expected = concat!(
        r#"{"version":1,"changes":[{"client":"GID_student@@@002","room":"1","act":{"mute":{"untilMs":20}},"#,
        r#""by":"GID_teacher@@@001","atMs":10,"sourceId":"00000000000000bb-1"},{"client":"GID_student@@@002","#,
        r#""room":null,"act":"unmute","by":"GID_teacher@@@001","atMs":30,"sourceId":"00000000000000bb-2"}]}"#
    );
    assert_eq!(snapshot, expected);
}

/// One step of a student's story: where, what happens, and the pause before it.
fn story() -> impl Strategy<Value = Vec<MuteChange>> {
    let place = prop_oneof![Just(None), Just(Some("1")), Just(Some("2"))];
    let act = prop_oneof![Just(None), (1_u64..200).prop_map(Some), Just(Some(u64::MAX))];
    prop::collection::vec((place, act, 0_u64..100), 0..30).prop_map(|steps| {
        let mut now_ms = START_MS;
        let steps = steps.into_iter().enumerate();
        steps
            .map(|(number, (place, length_ms, pause_ms))| {
                now_ms += pause_ms;
                let act = match length_ms {
                    None => MuteAction::Unmute,
                    Some(u64::MAX) => MuteAction::Mute { until_ms: None },
                    Some(length_ms) => MuteAction::Mute { until_ms: Some(now_ms + length_ms) },
                };
                change(number as u64, HAN, place, act, now_ms)
            })
            .collect()
    })
}

/// The rules, written down directly: the end of the mute for all rooms, and of the one in this room.
fn reference(story: &[MuteChange], where_: &str, at_ms: u64) -> bool {
    let (mut all_ms, mut room_ms) = (0, 0);
    for change in story.iter().filter(|change| change.at_ms <= at_ms) {
        let end_ms = match change.action {
            MuteAction::Mute { until_ms } => until_ms.unwrap_or(u64::MAX),
            MuteAction::Unmute => 0,
        };
        match &change.room {
            None if end_ms == 0 => (all_ms, room_ms) = (0, 0),
            None => all_ms = end_ms,
            Some(room) if room.as_str() == where_ => room_ms = end_ms,
            Some(_) => {}
        }
    }
    at_ms < all_ms.max(room_ms)
}

proptest! {
    #[test]
    fn it_answers_as_the_rules_are_told(story in story(), at in 0_u64..3_500, where_ in "1|2|3") {
        let mutes = of(story.clone());
        let at_ms = START_MS + at;
        prop_assert_eq!(is_muted(&mutes, &where_, at_ms), reference(&story, &where_, at_ms));
        let listed = mutes.list(&room(&where_), at_ms).len();
        prop_assert_eq!(listed > 0, is_muted(&mutes, &where_, at_ms));
    }

    #[test]
    fn a_restart_in_the_middle_changes_nothing(
        story in story(),
        cut in any::<prop::sample::Index>(),
        redelivered in 0_usize..5,
    ) {
        let cut = cut.index(story.len() + 1);
        let before = of(story[..cut].iter().cloned());
        let mut after = Mutes::from_snapshot(&before.to_snapshot()).unwrap();
        prop_assert_eq!(&after, &before);
        for change in &story[cut.saturating_sub(redelivered)..] {
            after.apply(change.clone());
        }
        prop_assert_eq!(after, of(story));
    }

    #[test]
    fn forgetting_changes_no_answer_about_the_last_day(story in story(), gone in 0_u64..3_500, at in 0_u64..3_500) {
        let mut mutes = of(story.clone());
        mutes.forget(START_MS + DAY_MS + gone);
        let at_ms = START_MS + gone + at;
        prop_assert_eq!(is_muted(&mutes, "1", at_ms), reference(&story, "1", at_ms));
    }
}
