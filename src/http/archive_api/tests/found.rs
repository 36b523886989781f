//! Lessons and hits, from the index, compared with the messages.

use serde_json::json;

use super::document::assert_documented;
use super::*;

const SEARCH: &str = "/api/v1/search";
const LESSONS: &str = "/api/v1/rooms/7/lessons";

async fn indexed() -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let world = World::start_with(|parts| {
        parts.folder = path.clone();
        parts.topics = vec!["room".to_owned()];
    })
    .await;
    (world, folder)
}

fn hits(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_documented("GET", SEARCH, answer);
    let hits = answer.body["hits"].as_array().unwrap().iter();
    hits.map(|hit| hit["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_teacher_searches_the_room_and_an_operator_all_rooms_page_by_page() {
    let (world, folder) = indexed().await;
    world.say_something();
    let no_index = world.get(&format!("{SEARCH}?q=line"), SECRET).await;
    assert_eq!(no_index.status, 503, "{no_index:?}");
    assert_documented("GET", SEARCH, &no_index);
    world.index_something(folder.path());

    let teacher = world.teacher_of_7();
    let all = world.get(&format!("{SEARCH}?q=line&room=7"), &teacher).await;
    assert_eq!(hits(&all), ["line 4", "line 3", "line 2", "line 1", "line 0"]);
    assert_eq!(
        (&all.body["total"], &all.body["partial"]),
        (&json!({"exactly": 5}), &json!(false)),
        "{all:?}"
    );
    assert_eq!(all.body["hits"][0]["marks"], json!([[0, 4]]));
    let of_all_rooms = world.get(&format!("{SEARCH}?q=room"), SECRET).await;
    assert_eq!(hits(&of_all_rooms).len(), 5);
    assert_eq!(of_all_rooms.body["hits"][0]["room"], "8");
    let of_ben = world.get(&format!("{SEARCH}?q=line&room=7&from_client=ben&best=true"), &teacher).await;
    assert_eq!(hits(&of_ben).len(), 2);

    let first = world.get(&format!("{SEARCH}?q=line&room=7&limit=3"), &teacher).await;
    assert_eq!(hits(&first), ["line 4", "line 3", "line 2"]);
    let before = first.body["before"].as_str().unwrap();
    let second = world.get(&format!("{SEARCH}?q=line&room=7&limit=3&before={before}"), &teacher).await;
    assert_eq!(hits(&second), ["line 1", "line 0"]);
    let of_another = world.get(&format!("{SEARCH}?q=lines&room=7&before={before}"), &teacher).await;
    of_another.is_refused(400, "this question");
    assert_documented("GET", SEARCH, &of_another);
    let by_another_right = format!("{SEARCH}?q=line&room=7&limit=3&before={before}");
    world.get(&by_another_right, SECRET).await.is_refused(400, "this question");
    for wrong in ["", "?q=", "?q=-line", "?q=a&limit=101", "?q=a&kind=letter", "?q=a&best=true&before=x"] {
        assert_eq!(world.get(&format!("{SEARCH}{wrong}"), SECRET).await.status, 400, "{wrong}");
    }
}

/// Rule 15, with an index and without one.
#[tokio::test]
async fn two_bodies_under_one_id_are_both_on_a_page_and_both_found_and_marked() {
    let (world, folder) = indexed().await;
    world.say_something();
    world.rocketmq.lock().forge_first(b"line that is forged");
    let path = "/api/v1/rooms/7/messages?kind=message";
    let of = |answer: &Answer, list: &str, text: &str| {
        let lines = answer.body[list].as_array().unwrap().iter();
        let marked = lines.filter(|line| line["conflict"] == true);
        marked.map(|line| line[text].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for is_indexed in [false, true] {
        if is_indexed {
            world.index_something(folder.path());
        }
        let page = world.get(path, &world.teacher_of_7()).await;
        assert_documented("GET", "/api/v1/rooms/{room}/messages", &page);
        assert_eq!(of(&page, "messages", "body"), ["line 0", "line that is forged"]);
        assert_eq!(page.bodies().len(), 7);
    }
    for (words, conflicts) in
        [("line", &["line that is forged", "line 0"][..]), ("0", &["line 0"]), ("1", &[])]
    {
        let found = world.get(&format!("{SEARCH}?q={words}&room=7"), &world.teacher_of_7()).await;
        assert!(!hits(&found).is_empty(), "{words}");
        assert_eq!(of(&found, "hits", "text"), conflicts, "{words}");
    }
}

/// "Nothing found" must not be said where nobody looked.
#[tokio::test]
async fn what_the_index_has_not_seen_yet_is_said() {
    let (world, folder) = indexed().await;
    world.say_something();
    world.index_something(folder.path());
    world.rocketmq.lock().store("room/message/7", "7", "ben", b"a word that is new");
    let found = world.get(&format!("{SEARCH}?q=word"), SECRET).await;
    assert_eq!((hits(&found).len(), &found.body["partial"]), (0, &json!(true)));
    assert!(found.body["why"][0].as_str().unwrap().starts_with("1 message"), "{found:?}");
    assert_eq!(found.body["why_codes"], json!(["index_behind"]));
    assert_eq!(world.get(LESSONS, SECRET).await.body["partial"], true);
}

/// It reaches neither the archive nor its index, so a search that finds nothing has not looked there.
#[tokio::test]
async fn what_rocketmq_does_not_hand_out_is_said_by_a_search_and_a_list_of_lessons() {
    // Given an index of all that RocketMQ hands out
    let (world, folder) = indexed().await;
    world.say_something();
    world.index_something(folder.path());
    world.rocketmq.lock().withhold(2);

    // When it is asked, then the answer says that there is more
    let found = world.get(&format!("{SEARCH}?q=nothing"), SECRET).await;
    assert!(hits(&found).is_empty());
    let lessons = world.get(LESSONS, SECRET).await;
    assert_documented("GET", "/api/v1/rooms/{room}/lessons", &lessons);
    for answer in [found, lessons] {
        assert_eq!(answer.body["why_codes"], json!(["not_handed_out"]), "{answer:?}");
        assert!(answer.body["why"][0].as_str().unwrap().contains("2 messages of topic room"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_lesson_is_listed_and_chosen_for_messages_export_and_replay() {
    let (world, folder) = indexed().await;
    world.say_something();
    world.index_something(folder.path());
    let teacher = world.teacher_of_7();
    let found = world.get(LESSONS, &teacher).await;
    assert_documented("GET", "/api/v1/rooms/{room}/lessons", &found);
    let lesson = &found.body["lessons"][0];
    assert_eq!(
        (&lesson["lines"], &lesson["length_s"], &lesson["begun_by_mark"]),
        (&6.into(), &json!(10.0), &false.into())
    );
    assert_eq!(lesson["people"][0], json!({"client_id": "anna", "lines": 3}));
    let id = lesson["id"].as_str().unwrap();
    for choice in ["last", "2026-11-20", id] {
        let messages = world.get(&format!("/api/v1/rooms/7/messages?lesson={choice}"), &teacher).await;
        assert_eq!(messages.bodies().len(), 6, "{choice}");
        assert_documented("GET", "/api/v1/rooms/{room}/messages", &messages);
    }
    // What was said later is of no lesson yet that the index knows
    world.clock.set_wall_ms(NOW_MS + 3_600_000 - 1);
    let exported = world.get("/api/v1/rooms/7/export?lesson=last", &teacher).await;
    assert_eq!(exported.body.as_str().unwrap().lines().count(), 6);
    let replay = world.replay_id(&teacher, &json!({"lesson": "last", "speed": "max"})).await;
    let shown = world.get(&format!("/api/v1/replays/{replay}"), &teacher).await;
    // Two more messages of the room were said after it.
    assert_eq!(shown.body["total"], 6);

    let none = world.get("/api/v1/rooms/7/messages?lesson=2020-01-01", &teacher).await;
    none.is_refused(404, "/api/v1/rooms/7/lessons");
    assert_documented("GET", "/api/v1/rooms/{room}/messages", &none);
    for wrong in ["lesson=first", "lesson=last&from=5", "lesson="] {
        assert_eq!(
            world.get(&format!("/api/v1/rooms/7/messages?{wrong}"), &teacher).await.status,
            400,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn lessons_come_page_by_page_and_several_of_a_day_are_named() {
    let (world, folder) = indexed().await;
    for _ in 0..4 {
        world.rocketmq.lock().store("room/message/7", "7", "anna", b"a lesson of one line");
        world.rocketmq.lock().later(Duration::from_secs(3600));
    }
    world.index_something(folder.path());
    let all = world.get(LESSONS, SECRET).await;
    let lessons = all.body["lessons"].as_array().unwrap();
    assert_eq!((lessons.len(), &all.body["before"]), (4, &Value::Null));
    let newest = world.get(&format!("{LESSONS}?limit=3"), SECRET).await;
    assert_eq!(newest.body["lessons"].as_array().unwrap()[..], lessons[1..]);
    let before = newest.body["before"].as_str().unwrap();
    let oldest = world.get(&format!("{LESSONS}?limit=3&before={before}"), SECRET).await;
    assert_eq!((&oldest.body["lessons"], &oldest.body["before"]), (&json!([lessons[0]]), &Value::Null));
    world
        .get(&format!("{LESSONS}?before={before}"), &world.teacher_of_7())
        .await
        .is_refused(400, "this question");
    let several = world.get("/api/v1/rooms/7/messages?lesson=2026-11-20", SECRET).await;
    several.is_refused(400, lessons[0]["id"].as_str().unwrap());
}
