//! Pages of a room: their order, their ends, their cursors, and what is wrong with a question.

use serde_json::json;

use super::document::assert_documented;
use super::*;

const PATH: &str = "/api/v1/rooms/7/messages";

#[tokio::test]
async fn a_room_is_read_from_its_end_page_by_page_without_a_gap_and_without_a_copy() {
    let world = World::start().await;
    world.say_something();
    let token = world.teacher_of_7();
    let whole = world.get(PATH, &token).await;
    assert_eq!(whole.bodies(), ["line 0", "line 1", "line 2", "line 3", "line 4", "(bytes)"]);
    assert_eq!((&whole.body["partial"], &whole.body["before"]), (&Value::Bool(false), &Value::Null));
    let last = &whole.body["messages"][5];
    assert_eq!(
        (&last["body"], &last["body_base64"], &last["client_id"]),
        (&Value::Null, &"//4=".into(), &"anna".into())
    );

    let (mut pages, mut path) = (Vec::new(), format!("{PATH}?limit=4"));
    loop {
        let page = world.get(&path, &token).await;
        pages.push(page.bodies().iter().map(|body| (*body).to_owned()).collect::<Vec<_>>());
        let Some(before) = page.body["before"].as_str() else { break };
        path = format!("{PATH}?limit=4&before={before}");
    }
    pages.reverse();
    assert_eq!(pages.concat(), whole.bodies());
}

#[tokio::test]
async fn a_question_may_name_a_time_a_person_and_a_kind() {
    let world = World::start().await;
    world.say_something();
    let get = async |arguments: &str| world.get(&format!("{PATH}?{arguments}"), SECRET).await;
    assert_eq!(get("from_client=ben&kind=message").await.bodies(), ["line 1", "line 4", "not judged yet"]);
    let second = NOW_MS - 3_600_000 + 2000;
    assert_eq!(get(&format!("from={second}&to={}", second + 2001)).await.bodies(), ["line 1", "line 2"]);
    assert_eq!(get(&format!("to={}", second + 1)).await.bodies(), ["line 0", "line 1"]);
    assert_eq!(get(&format!("from={NOW_MS}")).await.bodies(), Vec::<&str>::new());
    assert_eq!(
        get("from=2026-11-20T09:00:08Z&kind=message").await.bodies(),
        ["line 4", "(bytes)", "not judged yet"]
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_said() {
    let world = World::start().await;
    world.say_something();
    for (arguments, word) in [
        ("limit=0", "1 to 1000"),
        ("limit=1001", "1 to 1000"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("from=yesterday", "milliseconds since"),
        ("from=5&to=5", "later than from"),
        ("kind=letter", "message, command"),
        ("form=5&to=9", "form"),
        ("before=yesterday", "first page"),
        ("before=", "first page"),
    ] {
        let answer = world.get(&format!("{PATH}?{arguments}"), SECRET).await;
        answer.is_refused(400, word);
    }
}

/// A cursor is bound to its question and to the right by which it was given out.
#[tokio::test]
async fn a_cursor_of_another_question_another_right_or_another_process_is_refused() {
    let world = World::start().await;
    world.say_something();
    let page = world.get(&format!("{PATH}?limit=2"), SECRET).await;
    let before = page.body["before"].as_str().unwrap();
    let with = |arguments: &str| format!("{arguments}limit=2&before={before}");
    assert_eq!(world.get(&format!("{PATH}?{}", with("")), SECRET).await.status, 200);
    for (path, token) in [
        (format!("{PATH}?{}", with("kind=p2p&")), SECRET.to_owned()),
        (format!("{PATH}?{}", with("from=1&")), SECRET.to_owned()),
        (format!("/api/v1/rooms/8/messages?{}", with("")), SECRET.to_owned()),
        (format!("{PATH}?{}", with("")), world.teacher_of_7()),
    ] {
        world.get(&path, &token).await.is_refused(400, "none that an answer to this question gave");
    }
    let restarted = World::start().await;
    restarted.say_something();
    restarted.get(&format!("{PATH}?{}", with("")), SECRET).await.is_refused(410, "before a restart");
}

#[tokio::test]
async fn an_answer_without_a_brokers_part_says_so() {
    let world = World::start().await;
    world.say_something();
    world.rocketmq.lock().away = vec!["broker-b".to_owned()];
    let answer = world.get(PATH, SECRET).await;
    assert_eq!(answer.body["partial"], true);
    assert!(answer.body["why"][0].as_str().unwrap().contains("broker-b"), "{answer:?}");
    assert_eq!(answer.body["why_codes"], json!(["broker_away"]));
}

/// "Nothing was said" must not be told of a room whose queue RocketMQ does not hand out.
#[tokio::test]
async fn an_answer_without_what_rocketmq_does_not_hand_out_says_so() {
    // Given a room whose topic has fewer read queues than before
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let world = World::start_with(|parts| parts.folder = path.clone()).await;
    world.say_something();
    world.rocketmq.lock().withhold(3);
    let token = world.teacher_of_7();
    for is_indexed in [false, true] {
        if is_indexed {
            world.index_something(&path);
        }
        for (arguments, lines) in [("", 6), ("?limit=4", 4), ("?from=1", 6)] {
            // When a page is asked for
            let answer = world.get(&format!("{PATH}{arguments}"), &token).await;

            // Then it has what is there, and says what may be missing, for people and for programs
            assert_documented("GET", "/api/v1/rooms/{room}/messages", &answer);
            assert_eq!(answer.bodies().len(), lines, "{arguments}");
            let told = (&answer.body["partial"], &answer.body["why_codes"]);
            assert_eq!(told, (&json!(true), &json!(["not_handed_out"])), "indexed: {is_indexed}, {answer:?}");
            let why = answer.body["why"][0].as_str().unwrap();
            assert!(why.contains("does not hand out 3 messages of topic room"), "{why}");
        }
    }

    // And when the topic has its queues back, then nothing is missing
    world.rocketmq.lock().withheld.clear();
    let answer = world.get(PATH, &token).await;
    let told = (&answer.body["partial"], &answer.body["why"], &answer.body["why_codes"]);
    assert_eq!(told, (&json!(false), &json!([]), &json!([])));
}

/// Too much at once is refused at once; others are answered meanwhile.
#[tokio::test]
async fn a_caller_who_asks_too_much_at_once_is_told_when_to_try_again() {
    let world = Arc::new(World::start().await);
    world.say_something();
    world.rocketmq.lock().delay = Duration::from_millis(500);
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.get(PATH, SECRET).await })
        })
        .collect();
    let mut refused = 0;
    for answer in futures::future::join_all(asked).await {
        let answer = answer.unwrap();
        if answer.status != 200 {
            answer.is_refused(429, "with this token");
            assert_eq!(answer.headers["retry-after"], "1");
            refused += 1;
        }
    }
    assert_eq!(refused, 4);
    world.rocketmq.lock().delay = Duration::ZERO;
    assert_eq!(world.get(PATH, SECRET).await.status, 200, "what has ended makes room");
}
