use proptest::prelude::*;

use super::*;
use crate::model::TopicFilter;

const ME: &str = "GID_student@@@001";

fn student() -> Grants {
    Grants::student(&Parents::default(), client(ME))
}

/// A member whose token lists these resources for reading and writing.
fn with_resources(resources: &[&str]) -> Grants {
    let filters = |texts: &[&str]| texts.iter().map(|text| TopicFilter::parse(text).unwrap()).collect();
    let (read, write) = (filters(resources), filters(resources));
    Grants::limited(&Parents::default(), Some(client(ME)), Role::Student, read, write, None)
}

#[test]
fn a_student_reads_the_class_and_writes_to_the_bridge() {
    let student = student();
    for filter in
        ["room/message/123456", "room/message/+", "room/status", "room/system", "room/p2p/GID_student@@@001"]
    {
        assert!(student.may_read(filter), "{filter}");
    }
    for topic in ["roomSend/message", "roomSend/command", "roomSend"] {
        assert!(student.may_write(topic), "{topic}");
    }
    assert_eq!(student.role(), Role::Student);
    assert_eq!(student.client_id(), Some(ME));
    assert_eq!(student.expires_at_ms(), None);
    assert!(!student.is_operator());
}

#[test]
fn a_student_reads_and_writes_nothing_else() {
    let student = student();
    for filter in [
        "#",
        "+/#",
        "room/#",
        "room/+",
        "room/message/#",
        "room/+/123456",
        "room/command",
        "roomSend/#",
        "roomSend/message",
        "$SYS/#",
        "other",
        "",
        "room/message/\0",
    ] {
        assert!(!student.may_read(filter), "{filter:?}");
    }
    for topic in [
        "room/message/123456",
        "room",
        "room/p2p/GID_student@@@002",
        "room/p2p/GID_student@@@001",
        "$SYS/x",
        "other",
        "roomSend/+",
        "roomSend/#",
        "",
        "roomSend/\0",
    ] {
        assert!(!student.may_write(topic), "{topic:?}");
    }
}

#[test]
fn a_teacher_may_do_the_same_and_is_known_as_one() {
    let teacher = Grants::teacher(&Parents::default(), client("GID_teacher@@@001"));
    assert_eq!(teacher.role(), Role::Teacher);
    assert!(teacher.may_read("room/message/+") && teacher.may_write("roomSend/command"));
    assert!(!teacher.may_read("room/#") && !teacher.may_write("room/system"));
    assert!(!teacher.may_read("room/p2p/GID_student@@@001"));
}

/// Hazard 23: the demo's token lists `room/#` for reading and writing; it must not open what others say in private, nor
/// a way past the checks.
#[test]
fn a_token_for_all_of_the_class_opens_neither_others_p2p_nor_the_down_parent() {
    let greedy = with_resources(&["room/#", "roomSend/#", "#", "$SYS/#"]);
    for filter in [
        "#",
        "+/#",
        "room/#",
        "room/+/#",
        "room/+/+",
        "room/p2p/#",
        "room/p2p/+",
        "room/p2p/GID_student@@@002",
        "+/p2p/GID_student@@@002",
        "room/p2p/GID_student@@@002/x",
        "exam/p2p/GID_student@@@002",
        "room/p2p/gid_student@@@001",
    ] {
        assert!(!greedy.may_read(filter), "{filter}");
    }
    for topic in [
        "room",
        "room/",
        "room/message/123456",
        "room/status",
        "room/p2p/GID_student@@@002",
        "roomSend/p2p/GID_student@@@002",
        "exam/p2p/GID_student@@@002",
    ] {
        assert!(!greedy.may_write(topic), "{topic}");
    }
    assert!(greedy.may_read("room/message/#") && greedy.may_read("room/status"));
    assert!(greedy.may_read("room/+") && greedy.may_write("roomSend/message"));
    assert!(greedy.may_read("$SYS/uptime"), "what is listed and no rule forbids");
}

/// Hazard 23: below the up parent are messages before the checks, for example the lines of muted students.
#[test]
fn nobody_reads_what_was_not_checked_yet() {
    let greedy = with_resources(&["#"]);
    for filter in ["roomSend/message", "roomSend/#", "roomSend", "+/message", "+"] {
        assert!(!greedy.may_read(filter), "{filter}");
    }
}

#[test]
fn the_own_p2p_topic_is_always_readable() {
    let narrow = with_resources(&["room/status"]);
    assert!(narrow.may_read("room/p2p/GID_student@@@001"));
    assert!(narrow.may_read("roomSend/p2p/GID_student@@@001"));
    assert!(!narrow.may_read("room/p2p/GID_student@@@001/#"));
    assert!(!narrow.may_read("exam/p2p/GID_student@@@001"), "no parent of ours");
}

/// Hazard 24: the broker hands over `$share/g/...` as it came; the group must not hide what is asked for.
#[test]
fn a_shared_subscription_is_judged_by_its_filter() {
    let greedy = with_resources(&["#", "room/#"]);
    assert!(greedy.may_read("$share/g/room/message/1"));
    for filter in [
        "$share/g/room/#",
        "$share/g/room/p2p/GID_student@@@002",
        "$share/g/$share/g/room/#",
        "$share/g",
        "$share/",
        "$share//room/message/1",
        "$share/+/room/message/1",
        "$share",
    ] {
        assert!(!greedy.may_read(filter), "{filter}");
    }
    assert!(!student().may_read("$share/g/roomSend/message"));
    assert!(student().may_read("$share/g/room/message/+"));
}

#[test]
fn an_operator_may_do_everything_that_mqtt_can_say() {
    let operator = Grants::operator();
    assert!(operator.is_operator());
    for filter in ["#", "room/p2p/+", "$SYS/#", "$share/bridges/room/#"] {
        assert!(operator.may_read(filter), "{filter}");
    }
    assert!(operator.may_write("room/message/123456") && operator.may_write("room/p2p/x"));
    assert!(!operator.may_write("room/+") && !operator.may_read("room/#/x"));
}

proptest! {
    /// Hazard 23: whatever a token lists, no filter that is permitted matches what must stay hidden.
    #[test]
    fn no_permitted_filter_matches_a_hidden_topic(
        resources in proptest::collection::vec("(\\+|room|roomSend|p2p)(/(\\+|p2p|message|x)){0,2}(/#)?|#", 1..4),
        filter in "(\\+|room|roomSend|p2p)(/(\\+|p2p|message|x)){0,3}(/#)?|#",
    ) {
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        let grants = with_resources(&resources);
        if grants.may_read(&filter) {
            let permitted = TopicFilter::parse(&filter).unwrap();
            for hidden in ["room/p2p/x", "x/p2p/y/z", "room/p2p/p2p", "roomSend", "roomSend/message", "roomSend/x/y"] {
                prop_assert!(!permitted.covers(&TopicFilter::parse(hidden).unwrap()), "{} matches {}", filter, hidden);
            }
            let resources: Vec<_> = resources.iter().map(|text| TopicFilter::parse(text).unwrap()).collect();
            prop_assert!(resources.iter().any(|resource| resource.covers(&permitted)));
        }
    }

    #[test]
    fn nothing_is_written_below_the_down_parent_nor_to_a_p2p_topic(
        resources in proptest::collection::vec("(\\+|room|roomSend)(/(\\+|p2p|message)){0,2}(/#)?|#", 1..4),
        topic in "(room|roomSend|exam)(/(p2p|message|x|)){0,3}",
    ) {
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        if with_resources(&resources).may_write(&topic) {
            prop_assert!(topic != "room" && !topic.starts_with("room/"), "{}", topic);
            let levels: Vec<_> = topic.split('/').collect();
            prop_assert!(!matches!(levels[..], [_, "p2p", _, ..]), "{}", topic);
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let student = student();
        let _ = (student.may_read(&text), student.may_write(&text));
    }
}

/// Whole classes have the right to read all rooms; to be given one room is something else.
#[test]
fn a_topic_is_named_by_itself_only() {
    let of_one_room = with_resources(&["room/message/7"]);
    assert!(of_one_room.names("room/message/7"));
    assert!(!of_one_room.names("room/message/8"));
    for wildcard in ["room/message/+", "room/message/7/#", "room/+/7", "+/message/7", "#", "room/#"] {
        let grants = with_resources(&[wildcard]);
        assert!(!grants.names("room/message/7"), "{wildcard}");
        assert!(!grants.names(wildcard), "{wildcard} is no topic");
    }
    // What nobody in a class may read, no token names.
    assert!(!with_resources(&["roomSend/message"]).names("roomSend/message"));
    assert!(!with_resources(&["room/p2p/GID_student@@@002"]).names("room/p2p/GID_student@@@002"));
    assert!(Grants::operator().names("room/message/7"));
}
