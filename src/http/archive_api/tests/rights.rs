//! Who may read what. The rights of the class count for nothing here.

use super::*;

const MESSAGES_7: &str = "/api/v1/rooms/7/messages";

/// Rule 43: the right to read all rooms of a class is no right to their archive.
#[tokio::test]
async fn only_an_operator_and_the_teacher_of_a_room_read_its_archive() {
    let world = World::start().await;
    world.say_something();
    let (teacher, student) = (Some(Role::Teacher), Some(Role::Student));
    let all = "room/message/+";
    let cases = [
        ("the operator", SECRET.to_owned(), 200),
        ("a teacher of the room", world.teacher_of_7(), 200),
        ("a teacher of another room", world.token(teacher, &["room/message/8"]), 403),
        ("a teacher of all rooms", world.token(teacher, &[all]), 403),
        (
            "a teacher by a wider filter",
            world.token(teacher, &["room/message/#", "room/#", "+/message/7"]),
            403,
        ),
        ("a student of the room", world.token(student, &["room/message/7"]), 403),
        ("a token without a role", world.token(None, &["room/message/7"]), 403),
        ("a wrong secret", "guessed".to_owned(), 401),
        ("no secret", String::new(), 401),
    ];
    for (who, token, status) in cases {
        let answer = world.get(MESSAGES_7, &token).await;
        assert_eq!(answer.status, status, "{who}: {answer:?}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{who}");
    }
    world.ask("GET", MESSAGES_7, &[], None).await.is_refused(401, "Authorization: Bearer");
    // A wildcard in the place of the room is no room, whatever a token names
    let of_all = world.token(teacher, &[all, "room/message/7"]);
    assert_eq!(world.get("/api/v1/rooms/+/messages", &of_all).await.status, 403);
    assert_eq!(world.get("/api/v1/rooms/%2B/messages", SECRET).await.status, 400);
    assert_eq!(world.get("/api/v1/rooms/a%2Fb/messages", SECRET).await.status, 400);
}

/// A token of the open login names no role, and its holder may send any client id with it.
#[tokio::test]
async fn nobody_becomes_a_teacher_by_a_name_in_the_request() {
    let world = World::start().await;
    let token = format!("Bearer {}", world.token(None, &["room/message/7"]));
    let headers = [("authorization", token.as_str()), ("x-client-id", "GID_teacher@@@1")];
    world.ask("GET", MESSAGES_7, &headers, None).await.is_refused(403, "role teacher");
}

#[tokio::test]
async fn a_right_ends_with_its_token() {
    let world = World::start().await;
    world.say_something();
    let token = world.teacher_of_7();
    assert_eq!(world.get(MESSAGES_7, &token).await.status, 200);
    world.clock.advance(Duration::from_secs(3600));
    world.get(MESSAGES_7, &token).await.is_refused(401, "expired");
}

#[tokio::test]
async fn what_is_private_and_what_is_not_judged_yet_only_an_operator_sees() {
    let world = World::start().await;
    world.say_something();
    let private = |answer: &Answer| {
        answer.bodies().iter().filter(|body| ["for one only", "not judged yet"].contains(body)).count()
    };
    assert_eq!(private(&world.get(MESSAGES_7, SECRET).await), 2);
    let teacher = world.get(MESSAGES_7, &world.teacher_of_7()).await;
    assert_eq!((private(&teacher), teacher.bodies().len()), (0, 6));
    let asked_for = world.get(&format!("{MESSAGES_7}?kind=p2p"), &world.teacher_of_7()).await;
    assert!(asked_for.bodies().is_empty());
}

#[tokio::test]
async fn with_the_operators_secret_alone_tokens_count_for_nothing() {
    let world = World::start_with(|parts| parts.authenticator = None).await;
    assert_eq!(world.get(MESSAGES_7, SECRET).await.status, 200);
    world.get(MESSAGES_7, &world.teacher_of_7()).await.is_refused(401, "set [access]");

    let world = World::start_with(|parts| parts.operator_secret = None).await;
    assert_eq!(world.get(MESSAGES_7, &world.teacher_of_7()).await.status, 200);
    assert_eq!(world.get(MESSAGES_7, SECRET).await.status, 401);
    assert_eq!(world.get(MESSAGES_7, "").await.status, 401, "an empty secret is none");
}

#[tokio::test]
async fn the_archive_is_served_without_a_classroom_and_nothing_else_is() {
    let world = World::start().await;
    world.get("/", "").await.is_refused(404, "no classroom");
    world.get("/api/config", SECRET).await.is_refused(404, "no such path");
    world.get("/api/v1/nothing", SECRET).await.is_refused(404, "no such path");
    world.ask("DELETE", MESSAGES_7, &[], None).await.is_refused(405, "another method");
    let foreign = [("host", "evil.example"), ("authorization", "Bearer x")];
    assert_eq!(world.ask("GET", MESSAGES_7, &foreign, None).await.status, 421);
}
