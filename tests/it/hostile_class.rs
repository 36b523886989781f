//! A hostile class: what students try who have read the documents. Nothing of it may work, and nobody else may notice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::attempt::Attempt;
use crate::support::class::Class;
use crate::support::dev::{Dev, http};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::ports::wait_until;

const TEACHER: &str = "GID_teacher@@@1";
const MALLORY: &str = "GID_student@@@mallory";
const VICTIM: &str = "GID_student@@@victim";
const PATIENCE: Duration = Duration::from_secs(20);

impl Class {
    fn issue(&self, arguments: &[&str]) -> String {
        let arguments = [&["token", "issue"], arguments].concat();
        let output = crate::support::dev::cli_at_home(self.dev.scratch(), &arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What of the room's chat the others have heard, by text.
    fn heard(&self, subscriber: &Subscriber) -> Vec<String> {
        let received = subscriber.received();
        let chat = received.iter().filter(|publish| publish.topic.starts_with(b"room/message/"));
        chat.map(|publish| {
            let body: Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
            body["msg"].as_str().unwrap_or_default().to_owned()
        })
        .collect()
    }
}

fn chat(peer: &str, text: &str) -> Value {
    json!({"peer": peer, "roomId": "1", "msg": text})
}

fn answers(subscriber: &Subscriber, client: &str) -> Vec<Value> {
    let topic = format!("room/p2p/{client}");
    let received = subscriber.received();
    let of_client = received.iter().filter(|publish| publish.topic == topic.as_bytes());
    of_client.map(|publish| serde_json::from_slice(&publish.payload).unwrap()).collect()
}

/// Hazard 24: an id that is a wildcard would read everybody's P2P messages; a share must not hide a filter.
#[test]
fn no_id_and_no_filter_leads_to_what_is_for_another() {
    let class = Class::start();
    for id in ["#", "+", "a/b", "GID_student@@@#", "GID_student@@@+", "room/p2p", "GID_student@@@\u{7f}"] {
        assert!(Attempt::connect(class.login(), id).is_err(), "{id} got in");
    }
    for filter in [
        "#",
        "room/#",
        "+/#",
        "room/+/+",
        "room/p2p/#",
        "room/p2p/+",
        &format!("room/p2p/{VICTIM}"),
        &format!("$share/g/room/p2p/{VICTIM}"),
        "$share/g/room/#",
        "roomSend/#",
        "roomSend/message",
        "$SYS/#",
    ] {
        let mut mallory = Attempt::connect(class.login(), MALLORY).unwrap();
        let answer = mallory.subscribe(filter);
        assert!(
            answer.as_ref().is_err() || answer.as_ref().is_ok_and(|code| code == "NotAuthorized"),
            "{filter}: {answer:?}"
        );
        assert!(answer.is_err() || mallory.is_cut(), "{filter}: the connection goes on");
    }
    let mut mallory = Attempt::connect(class.login(), MALLORY).unwrap();
    for filter in ["room/message/+", "room/status", "room/system", &format!("room/p2p/{MALLORY}")] {
        let answer = mallory.subscribe(filter).unwrap();
        assert!(answer.starts_with("Success"), "{filter}: {answer}");
    }
}

/// Hazard 23: whatever a token lists, nobody speaks past the checks.
#[test]
fn nobody_publishes_where_the_room_listens_not_even_by_a_will_or_a_token_that_says_so() {
    let class = Class::start();
    let generous = class.issue(&[
        "--secret",
        "dev",
        "--resource",
        "room/#",
        "--resource",
        "roomSend/#",
        "--client-id",
        MALLORY,
    ]);
    let victim = Subscriber::start(class.login(), VICTIM, "room/message/1");
    for token in [&class.token, &generous] {
        let target = || class.with("Token|dev|dev", &format!("RW|{token}"));
        for topic in ["room/message/1", &format!("room/p2p/{VICTIM}"), "room/status", "room/system", "$SYS/x"]
        {
            let mut mallory = Attempt::connect(target(), MALLORY).unwrap();
            let answer = mallory.publish(topic, chat(TEACHER, "forged").to_string());
            assert!(
                answer.as_ref().is_err() || answer.as_ref().is_ok_and(|code| code == "NotAuthorized"),
                "{topic}: {answer:?}"
            );
            assert!(answer.is_err() || mallory.is_cut(), "{topic}: the connection goes on");
            let will = Attempt::connect_with_will(target(), MALLORY, Some(topic));
            assert!(will.is_err(), "{topic}: a will was accepted");
        }
    }
    // What the class does goes on, and none of the forged lines was heard
    publish_messages(
        class.login(),
        TEACHER,
        vec![Message::new("roomSend/message", chat(TEACHER, "good morning").to_string())],
    );
    wait_until("the teacher is heard", PATIENCE, || !class.heard(&victim).is_empty());
    assert_eq!(class.heard(&victim), ["good morning"]);
    assert_eq!(answers(&victim, VICTIM), Vec::<Value>::new());
}

/// Hazard 27: a wrong password with the teacher's client id must not throw the teacher out.
#[test]
fn forged_expired_and_foreign_tokens_get_nobody_in_and_disturb_nobody() {
    let class = Class::start();
    let teacher = Subscriber::start(class.login(), TEACHER, "room/message/1");
    let mut tampered = class.token.clone();
    tampered.replace_range(tampered.len() - 4.., "AAAA");
    let foreign = class.issue(&["--secret", "another"]);
    let other_instance = class.issue(&["--secret", "dev", "--instance", "elsewhere"]);
    let of_another = class.issue(&["--secret", "dev", "--client-id", VICTIM]);
    let read_only = class.issue(&["--secret", "dev", "--actions", "R"]);
    let token = "Token|dev|dev";
    for (what, username, password) in [
        ("no password", token, String::new()),
        ("no token", token, "RW|nonsense".to_owned()),
        ("a tampered token", token, format!("RW|{tampered}")),
        ("a foreign token", token, format!("RW|{foreign}")),
        ("a token of another instance", token, format!("RW|{other_instance}")),
        ("another client's token", token, format!("RW|{of_another}")),
        ("more than the token permits", token, format!("RW|{read_only}")),
        ("one good and one bad", token, format!("RW|{}|R|{tampered}", class.token)),
        ("another access key", "Token|other|dev", format!("RW|{}", class.token)),
        ("a wrong signature", "Signature|dev|dev", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
        ("the bridge's name", "roombridge", "guessed".to_owned()),
    ] {
        for id in [TEACHER, MALLORY] {
            let got_in = Attempt::connect(class.with(username, &password), id);
            assert!(got_in.is_err(), "{what} got in as {id}");
        }
    }
    // The bridge's own ids are nobody else's
    for id in ["roombridge", "roombridge-down"] {
        assert!(Attempt::connect(class.login(), id).is_err(), "{id}");
    }
    publish_messages(
        class.login(),
        VICTIM,
        vec![Message::new("roomSend/message", chat(VICTIM, "hello").to_string())],
    );
    wait_until("the teacher is still there", PATIENCE, || class.heard(&teacher) == ["hello"]);
}

/// Hazards 21, 25, 26: bodies that lie about their sender, their room, their rights.
#[test]
fn no_body_gets_anything_that_its_sender_may_not_have() {
    let class = Class::start();
    let victim = Subscriber::start(class.login(), VICTIM, "room/message/+");
    let script = "<script>alert(1)</script>\u{202e}\u{1b}[31m";
    let say = |body: Value| Message::new("roomSend/message", body.to_string());
    let order = |body: Value| Message::new("roomSend/command", body.to_string());
    let attempts = vec![
        say(chat(TEACHER, "I am the teacher")),
        say(json!({"peer": "#", "roomId": "1", "msg": "nobody"})),
        say(json!({"peer": MALLORY, "roomId": "*", "msg": "all rooms"})),
        say(json!({"peer": MALLORY, "roomId": "a||b", "msg": "two rooms"})),
        say(json!({"peer": MALLORY, "roomId": "../system", "msg": "elsewhere"})),
        say(json!({"peer": MALLORY, "roomId": "1/../../p2p/x", "msg": "elsewhere"})),
        order(json!({"type": "shutUp", "peer": VICTIM})),
        order(json!({"type": "shutUp", "peer": "#"})),
        Message::new("roomSend/message", "\u{0}\u{1}no JSON"),
        Message::new("roomSend/nothing", "{}"),
        Message::new("roomSend/message", vec![b'['; 60_000]),
        say(chat(MALLORY, script))
            .user_property("rbOrigin", "1;hop=0;id=x;topic=roomSend;mac=AAAA")
            .user_property("x-mqtt-client-id", TEACHER)
            .user_property("x-mqtt-sender", "teacher#1")
            .user_property("clientId", TEACHER)
            .response_topic(&format!("room/p2p/{VICTIM}"), b"x"),
    ];
    // Slowly enough for the limit of one client.
    for attempt in attempts {
        publish_messages(class.login(), MALLORY, vec![attempt]);
        std::thread::sleep(Duration::from_millis(250));
    }
    // Then the only line that was heard is the last one, as it is, under its sender's own name
    wait_until("the line is heard", PATIENCE, || !class.heard(&victim).is_empty());
    assert_eq!(class.heard(&victim), [script]);
    let line =
        victim.received().into_iter().find(|publish| publish.topic == "room/message/1".as_bytes()).unwrap();
    let properties = line.properties.unwrap().user_properties;
    let claims: Vec<_> = properties.iter().filter(|(name, _)| name == "clientId").collect();
    assert_eq!(claims, [&("clientId".to_owned(), MALLORY.to_owned())]);

    // The victim was not muted, and got no answer that was meant for another
    assert_eq!(answers(&victim, VICTIM), Vec::<Value>::new());
    let mutes = std::fs::read_to_string(class.dev.data().join("bridge/mutes.json")).unwrap_or_default();
    assert!(!mutes.contains(VICTIM), "{mutes}");
    // What could not be understood is a dead letter, and the bridge is well
    let letters = class.dev.json_lines(&["deadletter", "list"]);
    assert!(letters.iter().any(|letter| letter["reason"] == "refused_by_classroom"), "{letters:?}");
    assert_eq!(class.dev.get("/readyz").0, 200);
}

/// Hazard 21: chat and mute at the same moment: what was sent after the mute is not heard.
#[test]
fn what_is_said_right_after_a_mute_is_not_heard() {
    let class = Class::start();
    let witness = Subscriber::start(class.login(), TEACHER, "room/message/1");
    let mute = json!({"type": "shutUp", "peer": MALLORY, "roomId": "1"}).to_string();
    witness.stop();
    publish_messages(class.login(), TEACHER, vec![Message::new("roomSend/command", mute)]);
    // The mute is acknowledged: whatever comes now came later.
    let lines =
        (0..5).map(|n| Message::new("roomSend/message", chat(MALLORY, &format!("late {n}")).to_string()));
    publish_messages(class.login(), MALLORY, lines.collect());
    publish_messages(
        class.login(),
        VICTIM,
        vec![Message::new("roomSend/message", chat(VICTIM, "done").to_string())],
    );
    wait_until("the class goes on", PATIENCE, || {
        let lines = class.dev.json_lines(&["history", "1"]);
        lines.iter().any(|line| line["payload"].as_str().is_some_and(|body| body.contains("done")))
    });
    let heard: Vec<String> =
        class.dev.json_lines(&["history", "1"]).iter().map(|line| line["payload"].to_string()).collect();
    assert!(heard.iter().all(|body| !body.contains("late")), "{heard:?}");
}

/// The token decides, not the name that its holder chose: without it each student could call itself GID_teacher.
#[test]
fn a_student_with_the_name_of_a_teacher_mutes_nobody() {
    let class = Class::start();
    let impostor = "GID_teacher@@@impostor";
    let token =
        class.issue(&["--secret", "dev", "--client-id", impostor, "--role", "student", "--expires", "1h"]);
    let mute = json!({"type": "shutUp", "peer": VICTIM, "roomId": "1"}).to_string();
    publish_messages(
        class.login_with(&format!("RW|{token}")),
        impostor,
        vec![Message::new("roomSend/command", mute)],
    );
    let line = chat(VICTIM, "not muted").to_string();
    publish_messages(class.login(), VICTIM, vec![Message::new("roomSend/message", line)]);
    wait_until("the victim is heard", PATIENCE, || {
        let lines = class.dev.json_lines(&["history", "1"]);
        lines.iter().any(|line| line["payload"].as_str().is_some_and(|body| body.contains("not muted")))
    });
}

/// Hazard 28: requests of foreign pages, by foreign names.
#[test]
fn a_page_of_others_changes_nothing_and_a_name_of_others_leads_nowhere() {
    let class = Class::start();
    let web = class.dev.address("web");
    let notice = format!("http://{web}/api/rooms/1/notice");
    let body = Some(r#"{"text":"x"}"#);
    let foreign = [("origin", "https://evil.example"), ("authorization", "Bearer dev")];
    assert_eq!(http("POST", &notice, &foreign, body).0, 403);
    let null = [("origin", "null"), ("authorization", "Bearer dev")];
    assert_eq!(http("POST", &notice, &null, body).0, 403);
    for address in [web.as_str(), &class.dev.address("login")] {
        let rebound = [("host", "evil.example:8080")];
        assert_eq!(http("GET", &format!("http://{address}/login"), &rebound, None).0, 421, "{address}");
    }
    // The broker's WebSocket serves the class's own pages
    let websocket = class.dev.address("websocket");
    let own = format!("http://{web}");
    for (origin, answer) in [("https://evil.example", "403"), ("null", "403"), (own.as_str(), "101")] {
        let status = upgrade(&websocket, origin);
        assert!(status.contains(answer), "{origin}: {status}");
    }
    // and says once which page it refused, and how to allow it
    upgrade(&websocket, "https://evil.example");
    let told = || class.dev.output().matches("--allow-origin https://evil.example").count();
    wait_until("the refusal is in the log", PATIENCE, || told() == 1);
    assert!(!class.dev.output().contains("handshake failed"), "{}", class.dev.output());
    // Being on this machine is no permission
    for path in ["history", "members", "mutes"] {
        assert_eq!(http("GET", &format!("http://{web}/api/rooms/1/{path}"), &[], None).0, 401, "{path}");
    }
    assert_eq!(http("POST", &notice, &[], body).0, 401);
    // Hazard 25: no room leads to other rooms
    let authorization = format!("Bearer {}", class.token);
    for room in ["*", "a%7C%7Cb", "%2E%2E", "a%2Fb", "+", "%23"] {
        let answer = http(
            "GET",
            &format!("http://{web}/api/rooms/{room}/history"),
            &[("authorization", &authorization)],
            None,
        );
        assert!(answer.0 == 400 || answer.0 == 404, "{room}: {answer:?}");
    }
}

/// RFC 9112, 3.2, and RFC 9110, 15.5.2: as proxies and client libraries expect it of every server.
#[test]
fn a_request_without_a_host_is_refused_and_one_without_a_token_is_told_what_to_show() {
    // Given the pages and the login of a class
    let class = Class::start();
    for (name, path) in [("web", "/api/rooms/1/history"), ("login", "/login?role=teacher")] {
        let address = class.dev.address(name);
        let own = format!("Host: {address}");
        let whole = format!("http://{address}{path}");

        // When a request names no host, or one that is none, then it is wrong, also where its first line names one
        for (target, header, code) in [
            (path, "Accept: */*", "bad_request"),
            (&whole, "Accept: */*", "bad_request"),
            (path, "Host: localhost:x", "bad_host"),
            (path, "Host: [::1", "bad_host"),
            (&whole, "Host: mallory@localhost", "bad_host"),
        ] {
            let answer = raw(&address, &format!("GET {target}"), header);
            let is_refused = answer.starts_with("HTTP/1.1 400") && answer.contains(&format!("\"{code}\""));
            assert!(is_refused, "{name} {target} {header}: {answer}");
        }

        // When it shows no token, then the answer names the scheme of one
        let answer = raw(&address, &format!("GET {path}"), &own);
        let head = answer.to_lowercase();
        assert!(head.starts_with("http/1.1 401") && head.contains("www-authenticate: bearer"), "{answer}");

        // And a question about the server is no question about a path
        let answer = raw(&address, "OPTIONS *", &own);
        let head = answer.to_lowercase();
        assert!(head.starts_with("http/1.1 204") && head.contains("allow: get,head"), "{name}: {answer}");
    }
}

/// What is answered to that request, as it comes.
fn raw(address: &str, request: &str, header: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{request} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_page_that_dev_was_told_to_allow_may_connect() {
    let allowed = ["--auth", "required", "--allow-origin", "https://Class.Example/,http://localhost:3000"];
    let dev = Dev::start_with(&allowed);
    let websocket = dev.address("websocket");
    for (origin, answer) in
        [("https://class.example", "101"), ("http://localhost:3000", "101"), ("http://localhost:3001", "403")]
    {
        let status = upgrade(&websocket, origin);
        assert!(status.contains(answer), "{origin}: {status}");
    }
}

/// The status line of the answer to a browser that wants to open a WebSocket for a page of that origin.
fn upgrade(address: &str, origin: &str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {origin}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = String::new();
    let _ = BufReader::new(stream).read_line(&mut status);
    status
}
