//! The list of rooms, from the index.

use serde_json::json;

use super::*;

#[tokio::test]
async fn an_operator_lists_the_rooms_page_by_page_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let world = World::start_with(|parts| parts.folder = path.clone()).await;
    world.say_something();
    world.get("/api/v1/rooms", SECRET).await.is_refused(503, "no index");
    world.index_something(&path);

    let all = world.get("/api/v1/rooms", SECRET).await;
    let of_7 = json!({
        "room": "7", "first_at": "2026-11-20T09:00:00.000Z", "last_at": "2026-11-20T09:00:10.000Z", "lines": 6, "people": 3, "lessons": 1
    });
    assert_eq!((all.status, &all.body["rooms"][0]), (200, &of_7), "{all:?}");
    assert_eq!((&all.body["rooms"][1]["room"], &all.body["after"]), (&"8".into(), &Value::Null));

    let first = world.get("/api/v1/rooms?limit=1", SECRET).await;
    let after = first.body["after"].as_str().unwrap();
    let second = world.get(&format!("/api/v1/rooms?limit=1&after={after}"), SECRET).await;
    assert_eq!(
        (&second.body["rooms"], &second.body["after"]),
        (&json!([all.body["rooms"][1]]), &Value::Null)
    );
    let of_another = format!("/api/v1/rooms?since=5&limit=1&after={after}");
    world.get(&of_another, SECRET).await.is_refused(400, "this question");
    let later = world.get("/api/v1/rooms?since=2026-11-20T09:00:10Z", SECRET).await;
    assert_eq!(later.body["rooms"].as_array().unwrap().len(), 1);

    // The names of rooms alone say who has lessons.
    let all_rooms = world.token(Some(Role::Teacher), &["room/message/+", "room/message/7"]);
    for token in [world.teacher_of_7(), all_rooms] {
        world.get("/api/v1/rooms", &token).await.is_refused(403, "operators only");
    }
    world.ask("GET", "/api/v1/rooms", &[], None).await.is_refused(401, "Authorization");
}
