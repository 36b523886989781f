//! HTTP itself: forms of Host, methods, and errors that the framework makes.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Sends these lines as they are, and returns status, head and body of the answer.
async fn say(world: &World, lines: &[&str]) -> (u16, String, String) {
    let address = world.address.to_string();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = format!("{}\r\n\r\n", lines.join("\r\n")).replace("ADDRESS", &address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn code_of(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body:?}"));
    assert!(body["error"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{body}");
    body["code"].as_str().unwrap().to_owned()
}

/// RFC 9112, 3.2: a request says for whom it is, once; what stands in its first line counts.
#[tokio::test]
async fn a_request_names_its_host_in_every_legal_form_and_in_no_other() {
    let world = World::start().await;
    for lines in [
        ["GET /api/v1/openapi.json HTTP/1.1", "Host: ADDRESS", "Connection: close"],
        ["GET http://ADDRESS/api/v1/openapi.json HTTP/1.1", "Host: evil.example", "Connection: close"],
    ] {
        assert_eq!(say(&world, &lines).await.0, 200, "{lines:?}");
    }
    let as_ipv6 = format!("Host: [::ffff:127.0.0.1]:{}", world.address.port());
    let lines = ["GET /api/v1/openapi.json HTTP/1.1", &as_ipv6, "Connection: close"];
    assert_eq!(say(&world, &lines).await.0, 200, "{lines:?}");
    for (lines, status, code) in [
        (["GET /api/v1/rooms HTTP/1.1", "Host: evil.example", "Connection: close"], 421, "unknown_host"),
        (
            ["GET http://evil.example/api/v1/rooms HTTP/1.1", "Host: ADDRESS", "Connection: close"],
            421,
            "unknown_host",
        ),
        (["GET /api/v1/rooms HTTP/1.1", "Accept: */*", "Connection: close"], 400, "bad_request"),
        (["GET http://ADDRESS/api/v1 HTTP/1.1", "Accept: */*", "Connection: close"], 400, "bad_request"),
        (["GET /api/v1/rooms HTTP/1.1", "Host: localhost:x", "Connection: close"], 400, "bad_host"),
        (["GET /api/v1/rooms HTTP/1.1", "Host: [::1", "Connection: close"], 400, "bad_host"),
        (["GET /api/v1/rooms HTTP/1.1", "Host: a@b", "Connection: close"], 400, "bad_host"),
        (["GET /api/v1/rooms HTTP/1.1", "Host:", "Connection: close"], 400, "bad_host"),
        (["GET http://ADDRESS/api/v1/rooms HTTP/1.1", "Host: a@b", "Connection: close"], 400, "bad_host"),
        (
            ["GET /api/v1/rooms HTTP/1.1", "Host: ADDRESS\r\nHost: evil.example", "Connection: close"],
            400,
            "bad_request",
        ),
    ] {
        let (answered, _, body) = say(&world, &lines).await;
        assert_eq!((answered, &*code_of(&body)), (status, code), "{lines:?}");
    }
}

/// RFC 9110, 9.3: HEAD is GET without the body, OPTIONS and a wrong method name the right ones.
#[tokio::test]
async fn head_options_and_a_wrong_method_are_answered_as_http_says() {
    let world = World::start().await;
    let ask = async |method: &str, path: &str| {
        say(&world, &[&format!("{method} {path} HTTP/1.1"), "Host: ADDRESS", "Connection: close"]).await
    };
    let (status, head, body) = ask("HEAD", "/api/v1/openapi.json").await;
    assert!(
        status == 200 && head.contains("content-type: application/json") && body.is_empty(),
        "{head}{body}"
    );
    let (status, head, body) = ask("HEAD", "/api/v1/rooms").await;
    assert_eq!((status, &*body), (401, ""));
    assert!(head.contains("www-authenticate: bearer"), "{head}");

    let (status, head, body) = ask("OPTIONS", "/api/v1/rooms").await;
    assert!(status == 204 && head.contains("allow: get,head") && body.is_empty(), "{status} {head}{body}");
    // Of the server, whatever its paths are
    let (status, head, body) = ask("OPTIONS", "*").await;
    let is_told = head.contains("allow: get,head,post,delete");
    assert!(status == 204 && is_told && body.is_empty(), "{status} {head}{body}");
    for method in ["PUT", "BREW"] {
        let (status, head, body) = ask(method, "/api/v1/rooms").await;
        assert!(status == 405 && head.contains("allow: get,head"), "{status} {head}");
        assert_eq!(code_of(&body), "wrong_method");
    }
}

/// RFC 9110, 9.3.2: a replay must not begin for somebody who reads nothing of it.
#[tokio::test]
async fn a_head_of_a_stream_has_its_headers_and_leaves_everything_to_the_reader() {
    // Given a replay that waits for its reader
    let world = World::start().await;
    world.say_something();
    let token = world.teacher_of_7();
    let replay = format!("/api/v1/replays/{}", world.replay_id(&token, &json!({"speed": "max"})).await);
    let (line, shown) = (format!("HEAD {replay}/stream HTTP/1.1"), format!("Authorization: Bearer {token}"));

    // When somebody asks for the headers of its stream
    let (status, head, body) = say(&world, &[&line, "Host: ADDRESS", &shown, "Connection: close"]).await;

    // Then they come without a length, which nobody knows, and the reader gets everything
    assert!(status == 200 && head.contains("content-type: application/x-ndjson"), "{status} {head}");
    assert!(!head.contains("content-length") && body.is_empty(), "{head}{body}");
    assert_eq!(world.get(&replay, &token).await.body["played"], 0);
    let read = world.get(&format!("{replay}/stream"), &token).await;
    assert_eq!(read.body.as_str().unwrap().matches("\"event\":\"message\"").count(), 6, "{read:?}");
}

#[tokio::test]
async fn each_error_below_api_is_json_with_a_code() {
    let world = World::start().await;
    let token = world.teacher_of_7();
    for (path, status, code) in [
        ("/api", 404, "no_such_path"),
        ("/api/", 404, "no_such_path"),
        ("/api/v1/nothing", 404, "no_such_path"),
        ("/api/v1/rooms/7/messages?limit=x", 400, "bad_request"),
        ("/api/v1/rooms/7/messages?limit=1&limit=2", 400, "bad_request"),
        ("/api/v1/rooms/%ff/messages", 400, "bad_request"),
        ("/api/v1/rooms/8/messages", 403, "not_permitted"),
        ("/api/v1/replays/nothing", 404, "no_such_replay"),
    ] {
        let answer = world.get(path, &token).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{path}: {answer:?}");
        assert!(answer.body["error"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{answer:?}");
    }
    // The scheme of the header is read in any case of letters.
    let shown = format!("bEARER {token}");
    let answer = world.ask("GET", "/api/v1/rooms/7/messages", &[("authorization", &shown)], None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}
