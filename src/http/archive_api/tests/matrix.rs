//! Who may do what, for every path that the served document has: one without a row here is a failure.

use std::collections::BTreeSet;

use super::*;

/// Whom a path is for.
#[derive(Debug, Clone, Copy)]
enum For {
    Everybody,
    Operator,
    /// And the operator.
    TeacherOfRoom7,
    /// The teacher who made it; not the operator.
    ItsMaker,
}

/// Method and path of the document, what is asked for, and whom it is for.
const ROWS: [(&str, &str, &str, For); 13] = [
    ("GET", "/api/v1/openapi.json", "", For::Everybody),
    ("GET", "/api/v1/rooms", "", For::Operator),
    ("GET", "/api/v1/rooms/{room}/messages", "", For::TeacherOfRoom7),
    ("GET", "/api/v1/rooms/{room}/lessons", "", For::TeacherOfRoom7),
    ("GET", "/api/v1/rooms/{room}/export", "", For::TeacherOfRoom7),
    ("GET", "/api/v1/rooms/{room}/export", "?private=true", For::Operator),
    ("GET", "/api/v1/search", "?q=line", For::Operator),
    ("GET", "/api/v1/search", "?q=line&room=7", For::TeacherOfRoom7),
    ("POST", "/api/v1/rooms/{room}/replays", "", For::TeacherOfRoom7),
    ("GET", "/api/v1/replays/{id}", "", For::ItsMaker),
    ("DELETE", "/api/v1/replays/{id}", "", For::ItsMaker),
    ("GET", "/api/v1/replays/{id}/stream", "", For::ItsMaker),
    ("POST", "/api/v1/replays/{id}/control", "", For::ItsMaker),
];

/// In the order of [`expected`].
fn callers(world: &World, teacher_of_7: &str) -> [(&'static str, Option<String>); 6] {
    let (student, teacher) = (Some(Role::Student), Some(Role::Teacher));
    [
        ("nobody", None),
        ("a student of the room", Some(world.token(student, &["room/message/7"]))),
        ("a teacher of another room", Some(world.token(teacher, &["room/message/8"]))),
        ("a teacher of all rooms", Some(world.token(teacher, &["room/message/+", "room/system"]))),
        ("the teacher of the room", Some(teacher_of_7.to_owned())),
        ("the operator", Some(SECRET.to_owned())),
    ]
}

/// `done`: the status of whoever may.
fn expected(whom: For, done: u16) -> [u16; 6] {
    match whom {
        For::Everybody => [done; 6],
        For::Operator => [401, 403, 403, 403, 403, done],
        For::TeacherOfRoom7 => [401, 403, 403, 403, done, done],
        For::ItsMaker => [401, 403, 403, 403, done, 404],
    }
}

fn done(method: &str, path: &str) -> u16 {
    match (method, path) {
        ("POST", path) if path.ends_with("/control") => 202,
        ("POST", _) => 201,
        ("DELETE", _) => 204,
        _ => 200,
    }
}

#[tokio::test]
async fn each_path_of_the_document_is_for_those_of_its_row_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let world = World::start_with(|parts| parts.folder = path.clone()).await;
    world.say_something();
    world.index_something(&path);
    let document = world.get("/api/v1/openapi.json", "").await.body;
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    let documented: BTreeSet<_> = document["paths"].as_object().unwrap().iter().flat_map(of_path).collect();
    let rows = ROWS.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(rows.collect::<BTreeSet<_>>(), documented, "each path has a row");

    for (method, path, arguments, whom) in ROWS {
        for number in 0..6 {
            // Each asks after a replay of its own, so that one that was ended or read is not asked for again.
            let teacher = world.teacher_of_7();
            let (who, token) = callers(&world, &teacher).into_iter().nth(number).unwrap();
            let mut asked = path.replace("{room}", "7") + arguments;
            if path.contains("{id}") {
                let speed = serde_json::json!({"speed": "max"});
                asked = asked.replace("{id}", &world.replay_id(&teacher, &speed).await);
            }
            let authorization = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<_> =
                authorization.iter().map(|token| ("authorization", token.as_str())).collect();
            let body = (path.ends_with("/control")).then_some(r#"{"do":"pause"}"#);
            let answer = world.ask(method, &asked, &headers, body).await;
            let status = expected(whom, done(method, path))[number];
            assert_eq!(answer.status, status, "{method} {asked} by {who}: {answer:?}");
            if path.contains("/replays/") && answer.status != 204 {
                // As many as may run at once would not do for all rows.
                let maker = format!("Bearer {teacher}");
                let replay = asked.trim_end_matches("/stream").trim_end_matches("/control").to_owned();
                world.ask("DELETE", &replay, &[("authorization", &maker)], None).await;
            }
        }
    }
}
