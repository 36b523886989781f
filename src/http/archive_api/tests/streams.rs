//! Exports and replays: what is written while it is read.

use serde_json::json;

use super::document::assert_documented;
use super::*;

const REPLAYS: &str = "/api/v1/rooms/7/replays";
const OF_REPLAY: &str = "/api/v1/replays/{id}";

impl World {
    async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        let authorization = format!("Bearer {token}");
        self.ask("POST", path, &[("authorization", &authorization)], Some(&body.to_string())).await
    }

    /// A replay that this token makes, by its path.
    async fn replay(&self, token: &str, body: &Value) -> String {
        let made = self.post(REPLAYS, token, body).await;
        assert_documented("POST", "/api/v1/rooms/{room}/replays", &made);
        assert_eq!(made.status, 201, "{made:?}");
        made.body["stream"].as_str().unwrap().trim_end_matches("/stream").to_owned()
    }
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    match &answer.body {
        Value::String(text) => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        one => vec![one.clone()],
    }
}

fn played(events: &[Value]) -> Vec<&str> {
    let messages = events.iter().filter(|event| event["event"] == "message");
    messages.map(|event| event["message"]["body"].as_str().unwrap_or("(bytes)")).collect()
}

const OF_7: [&str; 6] = ["line 0", "line 1", "line 2", "line 3", "line 4", "(bytes)"];

#[tokio::test]
async fn an_export_has_all_fields_and_only_an_operator_gets_private_lines() {
    let world = World::start().await;
    let path = "/api/v1/rooms/7/export";
    assert_eq!(world.get(path, SECRET).await.body, "", "nothing was stored yet");
    world.say_something();
    let teacher = world.get(path, &world.teacher_of_7()).await;
    let exported = lines(&teacher);
    assert_eq!(exported.len(), 6);
    assert_eq!(
        (&exported[0]["schema"], &exported[0]["room"], &exported[0]["queue_offset"]),
        (&json!(1), &json!("7"), &json!(0))
    );
    assert!(exported.iter().all(|line| line["room"] == "7" && line["properties"].is_array()));
    let disposition = teacher.headers["content-disposition"].to_str().unwrap();
    assert!(disposition.starts_with("attachment; filename=\"room-7-"), "{disposition}");
    assert_eq!(teacher.headers["x-content-type-options"], "nosniff");
    assert_eq!(teacher.headers["cache-control"], "no-store");
    assert_documented("GET", "/api/v1/rooms/{room}/export", &teacher);

    assert_eq!(lines(&world.get(&format!("{path}?private=true"), SECRET).await).len(), 8);
    assert_eq!(lines(&world.get(path, SECRET).await).len(), 6);
    world.get(&format!("{path}?private=true"), &world.teacher_of_7()).await.is_refused(403, "operators only");
    let student = world.token(Some(Role::Student), &["room/message/7"]);
    assert_eq!(world.get(path, &student).await.status, 403);
    world.rocketmq.lock().away = vec!["broker-b".to_owned()];
    world.get(path, SECRET).await.is_refused(502, "broker-b");
}

#[tokio::test]
async fn a_replay_is_read_as_lines_or_as_events_and_ends() {
    let world = World::start().await;
    world.say_something();
    let token = world.teacher_of_7();
    let replay = world.replay(&token, &json!({"speed": "max"})).await;
    let shown = world.get(&replay, &token).await;
    assert_documented("GET", OF_REPLAY, &shown);
    assert_eq!(
        (&shown.body["total"], &shown.body["played"]),
        (&json!(8), &json!(0)),
        "it waits for its reader"
    );

    let read = world.get(&format!("{replay}/stream"), &token).await;
    assert_eq!(read.headers["content-type"], "application/x-ndjson");
    let events = lines(&read);
    assert_eq!(played(&events), OF_7);
    assert_eq!(events.last().unwrap(), &json!({"event": "end", "why": "everything was played"}));
    world.get(&replay, &token).await.is_refused(404, "has ended");

    let replay = world.replay(&token, &json!({"speed": "max", "start": {"offset_s": 6}})).await;
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("accept", "text/event-stream")];
    let read = world.ask("GET", &format!("{replay}/stream"), &headers, None).await;
    let text = read.body.as_str().unwrap();
    assert!(text.starts_with("event: message\ndata: {") && text.ends_with("}\n\n"), "{text}");
    assert_eq!(text.matches("event: message").count(), 3, "{text}");
}

#[tokio::test]
async fn a_replay_is_driven_while_nobody_reads_and_only_by_who_made_it() {
    let world = World::start().await;
    world.say_something();
    let token = world.teacher_of_7();
    let replay = world.replay(&token, &json!({"speed": "0.01"})).await;
    let control = format!("{replay}/control");
    for (told, status) in [
        (json!({"do": "pause"}), 202),
        (json!({"do": "speed", "speed": "max"}), 202),
        (json!({"do": "seek", "to": {"offset_s": 8}}), 202),
        (json!({"do": "resume"}), 202),
        (json!({"do": "dance"}), 422),
        (json!({"do": "speed", "speed": "fast"}), 400),
        (json!({"do": "seek", "to": {"offset_s": -1}}), 400),
        (json!({"do": "seek", "to": {"at": "yesterday"}}), 400),
        (json!({"do": "seek", "to": {"message": "x"}}), 400),
    ] {
        let answer = world.post(&control, &token, &told).await;
        assert_eq!(answer.status, status, "{told}: {answer:?}");
        assert_documented("POST", "/api/v1/replays/{id}/control", &answer);
    }
    // Another teacher of the room, the operator and a stranger do not find it
    for other in [world.teacher_of_7(), SECRET.to_owned()] {
        world.get(&replay, &other).await.is_refused(404, "somebody else");
        world.post(&control, &other, &json!({"do": "pause"})).await.is_refused(404, "somebody else");
    }
    assert_eq!(world.ask("GET", &replay, &[], None).await.status, 401);
    assert_eq!(played(&lines(&world.get(&format!("{replay}/stream"), &token).await)), OF_7[4..]);

    let replay = world.replay(&token, &json!({})).await;
    let authorization = format!("Bearer {token}");
    let ended = world.ask("DELETE", &replay, &[("authorization", &authorization)], None).await;
    assert_eq!(ended.status, 204);
}

#[tokio::test]
async fn a_replay_ends_with_its_token() {
    let world = Arc::new(World::start().await);
    world.say_something();
    let token = world.teacher_of_7();
    // At this pace it would last for minutes
    let replay = world.replay(&token, &json!({"speed": "0.01"})).await;
    let reading = tokio::spawn({
        let (world, token, path) = (world.clone(), token.clone(), format!("{replay}/stream"));
        async move { world.get(&path, &token).await }
    });
    while world.get(&replay, &token).await.body["played"] != 1 {}
    // The clock by which it plays stands still.
    world.clock.set_wall_ms(NOW_MS + 3_600_000);
    let events = lines(&reading.await.unwrap());
    assert_eq!(events.last().unwrap()["why"], "the token has expired");
}

#[tokio::test]
async fn one_token_makes_so_many_replays_and_no_more() {
    let world = World::start().await;
    world.say_something();
    for _ in 0..4 {
        world.replay(SECRET, &json!({})).await;
    }
    let refused = world.post(REPLAYS, SECRET, &json!({})).await;
    refused.is_refused(429, "replays with this token");
    assert_documented("POST", "/api/v1/rooms/{room}/replays", &refused);
    // Others are not in its way
    world.replay(&world.teacher_of_7(), &json!({})).await;
    for (wrong, status, code) in [
        (json!({"speed": "0"}), 400, "bad_request"),
        (json!({"follow": true, "to": "5"}), 400, "bad_request"),
        (json!({"skip_silence_s": -1}), 400, "bad_request"),
        (json!({"form": 1}), 422, "bad_body"),
        (json!({"speed": 4}), 422, "bad_body"),
    ] {
        let refused = world.post(REPLAYS, &world.teacher_of_7(), &wrong).await;
        assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)), "{wrong}");
        assert_documented("POST", "/api/v1/rooms/{room}/replays", &refused);
    }
}

/// As the routes of the class answer: no JSON, JSON that says something else, and too much of it are three different things.
#[tokio::test]
async fn what_is_wrong_with_a_body_is_said_by_its_code() {
    // Given a replay
    let world = World::start().await;
    world.say_something();
    let token = world.teacher_of_7();
    let control = format!("{}/control", world.replay(&token, &json!({})).await);
    let authorization = format!("Bearer {token}");
    // Hardly larger than allowed: of a body that nobody reads to its end, the client hears a cut before the answer.
    let large = json!({"do": "speed", "speed": "x".repeat(2 << 20)}).to_string();

    // When it is told something that it cannot be told, then the answer says why
    for (body, status, code) in [
        ("{", 400, "bad_request"),
        (r#"{"do":"pause"} {}"#, 400, "bad_request"),
        ("{}", 422, "bad_body"),
        (r#"{"do":1}"#, 422, "bad_body"),
        (r#"{"do":"speed"}"#, 422, "bad_body"),
        (r#"{"do":"speed","speed":4}"#, 422, "bad_body"),
        (r#"{"do":"seek","to":{"offset_s":"soon"}}"#, 422, "bad_body"),
        (&large, 413, "body_too_large"),
    ] {
        let answer = world.ask("POST", &control, &[("authorization", &authorization)], Some(body)).await;
        let shown = body.get(..40).unwrap_or(body);
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{shown}: {answer:?}");
        assert_documented("POST", "/api/v1/replays/{id}/control", &answer);
    }
    let refused = world.ask("POST", REPLAYS, &[("authorization", &authorization)], Some(&large)).await;
    assert_eq!(refused.status, 413, "{refused:?}");
    assert_documented("POST", "/api/v1/rooms/{room}/replays", &refused);
}

/// Whoever looks at a replay later cannot know what was not there to be played.
#[tokio::test]
async fn a_replay_says_first_what_it_may_lack() {
    let world = World::start().await;
    world.say_something();
    let token = world.teacher_of_7();
    let stream = async || {
        let replay = world.replay(&token, &json!({"speed": "max"})).await;
        lines(&world.get(&format!("{replay}/stream"), &token).await)
    };
    // Given a room of which nothing is missing, then nothing is said
    assert_eq!(stream().await[0]["event"], "message");

    // Given a topic with fewer read queues than before, and a broker that is away
    world.rocketmq.lock().withhold(3);
    world.rocketmq.lock().away = vec!["broker-b".to_owned()];

    // When a replay is read, then its first event says both, and the rest is played
    let events = stream().await;
    assert_eq!(events[0]["event"], "partial", "{events:?}");
    assert_eq!(events[0]["why_codes"], json!(["broker_away", "not_handed_out"]));
    let why: Vec<_> = events[0]["why"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(why[0].contains("broker-b") && why[1].contains("does not hand out 3 messages"), "{why:?}");
    assert_eq!(played(&events), OF_7);
}

/// Somebody opens an export and reads nothing. It fills what lies between, and then waits.
#[tokio::test]
async fn who_does_not_read_an_export_is_in_nobodys_way() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start().await;
    for _ in 0..300 {
        world.rocketmq.lock().store("room/message/7", "7", "anna", &[b'x'; 100_000]);
    }
    let path = "/api/v1/rooms/7/export";
    let mut stalled = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {SECRET}\r\n\r\n", world.address);
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stalled.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let whole = world.get(path, &world.teacher_of_7()).await;
    assert_eq!(whole.body.as_str().unwrap().lines().count(), 300);
    // It was not cut: whoever reads on gets the rest.
    let mut rest = vec![0; 20_000_000];
    stalled.read_exact(&mut rest).await.unwrap();
}
