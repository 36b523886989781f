//! A class in `roombridge dev`: tokens from the login, MQTT clients of another make, the API, the commands.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::Publish;
use serde_json::{Value, json};

use crate::support::class::Class;
use crate::support::dev::{http, stdout};
use crate::support::java::{self, NewMessage};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::ports::wait_until;

const TEACHER: &str = "GID_teacher@@@1";
const ANNA: &str = "GID_student@@@anna";
const BEN: &str = "GID_student@@@ben";
const PATIENCE: Duration = Duration::from_secs(20);

impl Class {
    /// Hears the room; what is for this client alone comes without a subscription.
    fn member(&self, client_id: &str, room: &str) -> Subscriber {
        Subscriber::start(self.login(), client_id, &format!("room/message/{room}"))
    }

    /// Publishes under another connection of the same person: a client id can have one only.
    fn says(
        &self,
        member: Subscriber,
        client_id: &str,
        room: &str,
        messages: &[(&str, Value)],
    ) -> Subscriber {
        member.stop();
        let messages = messages.iter();
        let messages = messages.map(|(topic, body)| Message::new(*topic, body.to_string()));
        publish_messages(self.login(), client_id, messages.collect());
        self.member(client_id, room)
    }

    fn api(&self, method: &str, path: &str, token: &str, body: Option<&str>) -> (u16, Value) {
        let url = format!("http://{}{path}", self.dev.address("web"));
        let authorization = format!("Bearer {token}");
        let (status, text) = http(method, &url, &[("authorization", &authorization)], body);
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn members(&self, room: &str) -> Vec<String> {
        let (status, answer) = self.api("GET", &format!("/api/rooms/{room}/members"), &self.token, None);
        assert_eq!(status, 200, "{answer}");
        let members = answer["members"].as_array().unwrap().iter();
        members.map(|member| member["clientId"].as_str().unwrap().to_owned()).collect()
    }
}

fn chat(client_id: &str, room: &str, text: &str) -> (&'static str, Value) {
    ("roomSend/message", json!({"peer": client_id, "roomId": room, "msg": text}))
}

fn heard(subscriber: &Subscriber, topic: &str) -> Vec<Value> {
    let received = subscriber.received();
    let of_topic = received.iter().filter(|publish| publish.topic == topic.as_bytes());
    of_topic.map(|publish| serde_json::from_slice(&publish.payload).unwrap_or(Value::Null)).collect()
}

fn user<'a>(publish: &'a Publish, wanted: &str) -> Option<&'a str> {
    let properties = publish.properties.as_ref()?;
    properties.user_properties.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

fn until_heard(subscriber: &Subscriber, topic: &str, count: usize) -> Vec<Value> {
    wait_until(&format!("{count} on {topic}"), PATIENCE, || heard(subscriber, topic).len() >= count);
    heard(subscriber, topic)
}

#[test]
fn a_class_chats_and_a_mute_silences_one_until_it_is_lifted() {
    // Given a teacher and two students in room 123456
    let class = Class::start();
    let room = "room/message/123456";
    let teacher = class.member(TEACHER, "123456");
    let ben = class.member(BEN, "123456");
    let anna = class.member(ANNA, "123456");

    // When Anna speaks, then all hear the same bytes, and who really said it
    let anna = class.says(anna, ANNA, "123456", &[chat(ANNA, "123456", "hello")]);
    for member in [&teacher, &ben] {
        let said = until_heard(member, room, 1);
        assert_eq!(said, [chat(ANNA, "123456", "hello").1]);
        assert_eq!(user(&member.received()[0], "clientId"), Some(ANNA));
        assert!(user(&member.received()[0], "rbId").is_some());
    }

    // When the teacher mutes Ben, then he is told without having subscribed anything for it, and is not heard
    let p2p_ben = format!("room/p2p/{BEN}");
    let mute = ("roomSend/command", json!({"type": "shutUp", "peer": BEN, "roomId": "123456"}));
    let teacher = class.says(teacher, TEACHER, "123456", &[mute]);
    assert_eq!(until_heard(&ben, &p2p_ben, 1)[0]["type"], "shutUp");
    let ben = class.says(ben, BEN, "123456", &[chat(BEN, "123456", "can you hear me?")]);
    let answers = until_heard(&ben, &p2p_ben, 1);
    assert_eq!((&answers[0]["type"], &answers[0]["reason"]), (&json!("refused"), &json!("muted")));

    // And Anna still is; when the mute is lifted, so is Ben
    let anna = class.says(anna, ANNA, "123456", &[chat(ANNA, "123456", "I can speak")]);
    let lift = ("roomSend/command", json!({"type": "unShutUp", "peer": BEN, "roomId": "123456"}));
    let teacher = class.says(teacher, TEACHER, "123456", &[lift]);
    until_heard(&ben, &p2p_ben, 2);
    let _ben = class.says(ben, BEN, "123456", &[chat(BEN, "123456", "thank you")]);
    until_heard(&anna, room, 1);
    let said: Vec<String> = class
        .dev
        .history("123456", 3)
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line["payload"].as_str().unwrap()).unwrap()["msg"].to_string()
        })
        .collect();
    assert_eq!(said, ["\"hello\"", "\"I can speak\"", "\"thank you\""]);
    drop(teacher);
}

#[test]
fn who_is_here_is_known_and_leaving_is_seen() {
    let class = Class::start();
    let _anna = class.member(ANNA, "7");
    let status = Subscriber::start(class.login(), TEACHER, "room/status");
    wait_until("Anna is a member", PATIENCE, || class.members("7") == [ANNA]);

    let ben = class.member(BEN, "7");
    wait_until("both are members", PATIENCE, || class.members("7") == [ANNA, BEN]);
    wait_until("the room hears that Ben has come", PATIENCE, || {
        let came = heard(&status, "room/status");
        came.iter().any(|notice| notice["clientId"] == BEN && notice["eventType"] == "connect")
    });

    ben.stop();
    wait_until("Ben has left", PATIENCE, || class.members("7") == [ANNA]);
    wait_until("the room hears of it", PATIENCE, || {
        let left = heard(&status, "room/status");
        left.iter().any(|notice| notice["clientId"] == BEN && notice["eventType"] == "tcpclean")
    });
}

/// What a page cannot show in its reader's language it would have to show in ours.
#[test]
fn each_error_of_the_class_is_json_with_a_code() {
    let class = Class::start();
    let url = |path: &str| format!("http://{}{path}", class.dev.address("web"));
    let teacher = [("authorization", "bearer dev")];
    let plain = [teacher[0], ("content-type", "text/plain")];
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(3 << 20));
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20));
    let notice = "/api/rooms/7/notice";
    for (method, path, headers, body, status, code) in [
        ("GET", "/api/rooms/7/history?limit=x", &teacher[..], None, 400, "bad_request"),
        ("GET", "/api/rooms/7/history", &[], None, 401, "no_token"),
        ("GET", "/api/rooms/7/history", &teacher, None, 401, "token_refused"),
        ("GET", "/api/rooms/a%20b/history", &teacher, None, 400, "bad_room"),
        ("GET", "/api/rooms/%ff/history", &teacher, None, 400, "bad_request"),
        ("GET", "/api/nothing", &teacher, None, 404, "no_such_path"),
        ("GET", notice, &teacher, None, 405, "wrong_method"),
        ("POST", notice, &plain, None, 415, "wrong_content_type"),
        ("POST", notice, &teacher, Some("{"), 400, "bad_request"),
        ("POST", notice, &teacher, Some("{}"), 422, "bad_body"),
        ("POST", notice, &teacher, Some(r#"{"text":""}"#), 400, "bad_notice"),
        ("POST", notice, &teacher, Some(&long), 400, "bad_notice"),
        ("POST", notice, &teacher, Some(&large), 413, "body_too_large"),
    ] {
        let (answered, text) = http(method, &url(path), headers, body);
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text:?}"));
        assert_eq!((answered, answer["code"].as_str()), (status, Some(code)), "{method} {path}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{answer}");
    }
}

#[test]
fn a_notice_is_seen_whether_by_command_by_a_teacher_or_by_a_server() {
    let class = Class::start();
    let system = Subscriber::start(class.login(), ANNA, "room/system");

    let told = class.dev.cli(&["notice", "7", "five more minutes"]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(stdout(&told).contains("told room 7"));
    let (status, answer) = class.api("POST", "/api/rooms/7/notice", "dev", Some(r#"{"text":"by a server"}"#));
    assert_eq!(status, 202, "{answer}");
    let seen = until_heard(&system, "room/system", 2);
    let texts: Vec<_> = seen.iter().map(|notice| notice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["five more minutes", "by a server"]);
    assert!(seen.iter().all(|notice| notice["roomId"] == "7"));

    // A student's token gives none, and neither does a wrong secret
    for token in [class.token.as_str(), "wrong"] {
        let (status, _) = class.api("POST", "/api/rooms/7/notice", token, Some(r#"{"text":"x"}"#));
        assert!(status == 401 || status == 403, "{status}");
    }
    let teacher = http(
        "GET",
        &format!("http://{}/login?clientId={TEACHER}&role=teacher", class.dev.address("login")),
        &[("authorization", "Bearer dev")],
        None,
    );
    assert_eq!(teacher.0, 200, "{}", teacher.1);
    let (status, _) =
        class.api("POST", "/api/rooms/7/notice", &teacher.1, Some(r#"{"text":"by a teacher"}"#));
    assert_eq!(status, 202);
    until_heard(&system, "room/system", 3);

    // Who comes later finds it in the room's history, and in no other's
    let wanted = ["five more minutes", "by a server", "by a teacher"];
    let noticed = |room: &str| -> Vec<_> {
        let (status, answer) = class.api("GET", &format!("/api/rooms/{room}/history"), &class.token, None);
        assert_eq!(status, 200, "{answer}");
        let lines = answer["messages"].as_array().unwrap().iter();
        lines
            .map(|line| {
                assert_eq!(line["kind"], "notice");
                let body: Value = serde_json::from_str(line["body"].as_str().unwrap()).unwrap();
                body["text"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    assert_eq!(noticed("7"), wanted);
    assert!(noticed("8").is_empty());
    let archived = class.dev.json_lines(&["history", "7"]);
    assert_eq!(archived.len(), 3);
    assert!(archived.iter().all(|record| record["kind"] == "system" && record["room"] == "7"));
}

#[test]
fn a_teacher_marks_a_lesson_and_nobody_in_the_class_hears_it() {
    let class = Class::start();
    let everything = Subscriber::start(class.login(), ANNA, "room/message/7");
    let notices = Subscriber::start(class.login(), BEN, "room/system");
    let marked = class.dev.cli(&["lesson", "start", "7", "--title", "Fractions"]);
    assert!(marked.status.success(), "{}", String::from_utf8_lossy(&marked.stderr));
    assert!(stdout(&marked).contains("marked the start of a lesson in room 7"), "{}", stdout(&marked));
    let teacher = http(
        "GET",
        &format!("http://{}/login?clientId={TEACHER}&role=teacher", class.dev.address("login")),
        &[("authorization", "Bearer dev")],
        None,
    );
    let path = "/api/rooms/7/lesson";
    let (status, answer) = class.api("POST", path, &teacher.1, Some(r#"{"mark":"end"}"#));
    assert_eq!(status, 202, "{answer}");

    // A student marks none, nobody marks with a wrong secret, and there are two kinds of marks
    for token in [class.token.as_str(), "wrong"] {
        let (status, _) = class.api("POST", path, token, Some(r#"{"mark":"start"}"#));
        assert!(status == 401 || status == 403, "{status}");
    }
    let url = format!("http://{}{path}", class.dev.address("web"));
    let (status, _) = http("POST", &url, &[("authorization", "Bearer dev")], Some(r#"{"mark":"pause"}"#));
    assert_eq!(status, 422);

    // An operator finds both in the room's history, as the class's own records
    let found = class.dev.history("7", 2);
    let tags: Vec<_> = found.iter().map(|mark| mark["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, ["lesson/start/7", "lesson/end/7"]);
    assert!(found.iter().all(|mark| mark["kind"] == "system" && mark["room"] == "7"));
    let body: Value = serde_json::from_str(found[0]["payload"].as_str().unwrap()).unwrap();
    assert_eq!((&body["lesson"], &body["title"]), (&json!("start"), &json!("Fractions")));

    // but no page does, neither live nor later
    let told = class.dev.cli(&["notice", "7", "the last word"]);
    assert!(told.status.success());
    until_heard(&notices, "room/system", 1);
    assert_eq!(notices.received().len(), 1);
    assert_eq!(everything.received().len(), 0);
    let (status, answer) = class.api("GET", "/api/rooms/7/history", &class.token, None);
    assert_eq!(status, 200, "{answer}");
    let kinds: Vec<_> = answer["messages"].as_array().unwrap().iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["notice"]);
    let metrics = class.dev.metrics();
    assert_eq!(metrics.value("roombridge_filtered_total", &[("reason", "from_mqtt")]), 2.0);
    assert!(metrics.books().balanced());
}

/// Hazard 22: what was said before the fence is in the history, what comes after it is heard live; nothing is missing.
#[test]
fn a_late_joiner_has_the_whole_conversation_once() {
    let class = Class::start();
    let anna = class.member(ANNA, "9");
    let lines =
        |from: usize, to: usize| -> Vec<_> { (from..to).map(|n| chat(ANNA, "9", &n.to_string())).collect() };
    let anna = class.says(anna, ANNA, "9", &lines(0, 5));

    // When Ben joins while Anna goes on speaking
    let ben = class.member(BEN, "9");
    let anna = class.says(anna, ANNA, "9", &lines(5, 8));
    let fence =
        Message::new("roomSend/message", json!({"type": "fence", "roomId": "9", "ref": "f1"}).to_string());
    ben.stop();
    publish_messages(class.login(), BEN, vec![fence]);
    let ben = class.member(BEN, "9");
    let anna = class.says(anna, ANNA, "9", &lines(8, 10));
    // What Anna said before may come late, so the last line counts, and not how many Ben has heard.
    wait_until("the last line is heard", PATIENCE, || {
        heard(&ben, "room/message/9").iter().any(|body| body["msg"] == "9")
    });

    // Then history and live together are all of it
    let (status, answer) = class.api("GET", "/api/rooms/9/history", &class.token, None);
    assert_eq!(status, 200, "{answer}");
    let mut ids = std::collections::BTreeMap::new();
    for line in answer["messages"].as_array().unwrap() {
        let body: Value = serde_json::from_str(line["body"].as_str().unwrap()).unwrap();
        ids.insert(line["id"].as_str().unwrap().to_owned(), body["msg"].as_str().unwrap().to_owned());
        assert_eq!(line["sender"], ANNA);
    }
    for publish in ben.received().iter().filter(|publish| publish.topic == "room/message/9".as_bytes()) {
        let body: Value = serde_json::from_slice(&publish.payload).unwrap();
        ids.insert(user(publish, "rbId").unwrap().to_owned(), body["msg"].as_str().unwrap().to_owned());
    }
    let mut texts: Vec<_> = ids.into_values().collect();
    texts.sort();
    assert_eq!(texts, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    drop(anna);
}

/// The vendor's own back end tags nothing: what it says is heard, and must be there for who comes later.
#[test]
fn what_an_application_server_says_is_in_the_history_of_the_room_page_by_page() {
    let class = Class::start();
    let anna = class.member(ANNA, "777");
    let message = |text: &str| NewMessage::new("room", text).property("mqttSecondTopic", "message/777");
    let said =
        [message("no tag"), message("its tag").tags("message/777"), message("any tag").tags("whatever")];
    java::send_messages(&class.dev.address("name_server"), &said);
    until_heard(&anna, "room/message/777", 3);

    let ask = |arguments: &str| {
        let path = format!("/api/rooms/777/history{arguments}");
        let (status, answer) = class.api("GET", &path, &class.token, None);
        assert_eq!((status, &answer["complete"]), (200, &Value::Bool(true)), "{answer}");
        answer
    };
    let texts = |answer: &Value| -> Vec<String> {
        let lines = answer["messages"].as_array().unwrap().iter();
        lines.map(|line| line["body"].as_str().unwrap().to_owned()).collect()
    };
    // Those of one millisecond have no order between queues.
    let all = ask("");
    let mut found = texts(&all);
    found.sort();
    assert_eq!(found, ["any tag", "its tag", "no tag"], "{all}");
    assert_eq!((&all["truncated"], &all["before"]), (&Value::Bool(false), &Value::Null));
    let newest = ask("?limit=2");
    assert_eq!(texts(&newest), texts(&all)[1..]);
    let before = newest["before"].as_str().unwrap();
    let rest = ask(&format!("?limit=2&before={before}"));
    assert_eq!(texts(&rest), texts(&all)[..1]);
    assert_eq!(rest["truncated"], false);
    assert_eq!(class.api("GET", "/api/rooms/777/history?before=yesterday", &class.token, None).0, 400);
    assert_eq!(class.dev.history("777", 3).len(), 3);
}
