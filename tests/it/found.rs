//! What was said is found again: by words, by person, by lesson, and played from there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roombridge::testing::config::Config;
use roombridge::testing::model::{OutgoingProperties, QueueName, Sent};
use roombridge::testing::pipeline::ports::{Batch, OutgoingMessage, Sink};
use roombridge::testing::rocketmq::{Connector, Producer, RocketMqReader};
use serde_json::{Value, json};

use crate::support::class::Class;
use crate::support::dev::{stderr, stdout};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::wait_until;

const TEACHER: &str = "GID_teacher@@@1";
const ANNA: &str = "GID_student@@@anna";
const BEN: &str = "GID_student@@@ben";
const SOON: Duration = Duration::from_secs(30);

fn says(class: &Class, client_id: &str, room: &str, texts: &[&str]) {
    let line = |text: &&str| {
        let body = json!({"peer": client_id, "roomId": room, "msg": text});
        Message::new("roomSend/message", body.to_string())
    };
    publish_messages(class.login(), client_id, texts.iter().map(line).collect());
}

/// Asks until the index has seen everything: who comes and goes is stored a moment later.
#[track_caller]
fn lines(class: &Class, arguments: &[&str]) -> Vec<Value> {
    let mut output = None;
    wait_until("the answer is whole", SOON, || {
        let asked = class.dev.cli(&[arguments, &["--json"]].concat());
        let is_whole = asked.status.success();
        output = Some(asked);
        is_whole
    });
    stdout(&output.unwrap()).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn search(class: &Class, arguments: &[&str]) -> Value {
    let mut answers = lines(class, &[&["search"], arguments].concat());
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn texts(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["text"].as_str().unwrap()).collect()
}

#[test]
fn a_line_is_found_by_its_words_and_played_from_there() {
    let class = Class::start();
    let none = class.dev.cli(&["search", "hello"]);
    if none.status.code() == Some(1) {
        assert!(stderr(&none).contains("rebuild-index"), "{}", stderr(&none));
    }
    says(&class, ANNA, "7", &["今天讲勾股定理", "Hello, homework!", "\u{1b}[31m red hello"]);
    says(&class, BEN, "7", &["hello again"]);
    says(&class, BEN, "8", &["hello from another room"]);
    class.dev.history("7", 4);
    class.dev.history("8", 1);

    // Two Chinese characters, with what to mark and how to play from there
    let found = search(&class, &["定理", "--room", "7"]);
    assert_eq!(texts(&found), ["今天讲勾股定理"]);
    let hit = &found["hits"][0];
    assert_eq!(
        (&hit["room"], &hit["client_id"], &hit["marks"]),
        (&json!("7"), &json!(ANNA), &json!([[5, 7]]))
    );
    assert_eq!((&found["total"], &found["not_indexed_yet"]), (&json!({"exactly": 1}), &json!(0)));
    let command = hit["replay"].as_str().unwrap().strip_prefix("roombridge ").unwrap();
    let arguments: Vec<&str> = command.split(' ').chain(["--speed", "max"]).collect();
    let played = class.dev.json_lines(&arguments);
    assert_eq!((played.len(), &played[0]["id"]), (4, &hit["id"]));

    // Words in any order and any case, without one, of one person, page by page, the shortest first
    assert_eq!(texts(&search(&class, &["HELLO"])).len(), 4);
    assert_eq!(texts(&search(&class, &["homework hello"])), ["Hello, homework!"]);
    assert_eq!(texts(&search(&class, &["hello -again", "--from-client", BEN])), ["hello from another room"]);
    assert_eq!(texts(&search(&class, &["hello", "--best", "--limit", "1"])), ["hello again"]);
    let first = search(&class, &["hello", "--room", "7", "--limit", "2"]);
    let next = first["next"].as_str().unwrap().to_owned();
    let second = search(&class, &["hello", "--room", "7", "--limit", "2", "--before", &next]);
    assert_eq!(texts(&first).len() + texts(&second).len(), 3);
    assert_eq!(second["next"], Value::Null);
    assert!(texts(&search(&class, &["hello", "--to", "1h"])).is_empty());

    // For people: no control character reaches the terminal, and nothing found is said
    let shown = stdout(&class.dev.cli(&["search", "red"]));
    assert!(
        shown.contains("\\u{1b}[31m red hello") && shown.contains("    roombridge replay 7 --lesson "),
        "{shown}"
    );
    assert!(stderr(&class.dev.cli(&["search", "nobody"])).contains("nothing found"));
    let turned = class.dev.cli(&["search", "hello", "--since", "30m", "--to", "2h"]);
    assert_eq!(turned.status.code(), Some(1));
    let why = "--since is not before --to, so nothing can lie between";
    assert!(stderr(&turned).contains(why), "{}", stderr(&turned));
    for wrong in [&["search", "?!"][..], &["search", "x", "--limit", "0"], &["search", "x", "--before", "x"]]
    {
        assert!(!class.dev.cli(wrong).status.success(), "{wrong:?}");
    }
}

/// Another producer stores these bodies in the line's queue, with the line's KEYS and `rbId`.
fn store_under_its_id(class: &Class, line: &Value, bodies: &[&str]) {
    let text = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\nclient_id = \"x\"\n[rocketmq]\nname_servers = [\"{}\"]\n",
        class.dev.address("name_server")
    );
    let config = Config::from_toml("test", &text, &std::collections::BTreeMap::new()).unwrap().rocketmq;
    let of_line = |name: &str| line[name].as_str().unwrap().to_owned();
    let message = |body: &&str| {
        let mut properties = OutgoingProperties::new(&format!("7 {}", of_line("id")), &of_line("tag"), 0);
        properties.push("topic", &of_line("mqtt_topic"));
        properties.push("rbId", &of_line("id"));
        properties.push("clientId", BEN);
        OutgoingMessage { properties, body: Bytes::copy_from_slice(body.as_bytes()) }
    };
    let messages = bodies.iter().map(message).collect();
    let id = i32::try_from(line["queue_id"].as_i64().unwrap()).unwrap();
    let queue = QueueName { broker: of_line("broker").as_str().into(), id };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sent = runtime.block_on(async {
        let connector = Connector::new(&config);
        let producer = Producer::new(config, &connector, Arc::new(RocketMqReader::new(&connector)));
        producer
            .send(Arc::new(Batch { topic: of_line("rocketmq_topic").as_str().into(), queue, messages }))
            .await
    });
    assert!(sent.iter().all(|sent| matches!(sent, Sent::Stored)), "{sent:?}");
}

/// Rule 15: whoever can write to RocketMQ can write any id; that hides no line, and makes none believed.
#[test]
fn a_line_with_the_id_of_another_one_is_shown_beside_it_and_both_are_marked() {
    let class = Class::start();
    says(&class, ANNA, "7", &["the exam is on Monday", "thank you"]);
    let said = class.dev.history("7", 2);
    let copy = said[0]["payload"].as_str().unwrap();
    let forged = copy.replace("Monday", "Friday");
    store_under_its_id(&class, &said[0], &[copy, &*forged]);

    let shown = class.dev.history("7", 3);
    let payloads: Vec<_> = shown.iter().map(|line| line["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, [copy, said[1]["payload"].as_str().unwrap(), &*forged]);
    let marks: Vec<_> = shown.iter().map(|line| (&line["duplicates"], line.get("conflict"))).collect();
    let (yes, no) = (Some(&Value::Bool(true)), None);
    assert_eq!(marks, [(&json!(1), yes), (&json!(0), no), (&json!(0), yes)]);
    assert_eq!(class.dev.json_lines(&["history", "7", "--limit", "1"]), shown[2..]);
    let told = stdout(&class.dev.cli(&["history", "7"]));
    assert_eq!(told.matches("(conflict: another message has the same id)").count(), 2, "{told}");

    let marked = |words: &str| {
        let found = search(&class, &[words, "--room", "7"]);
        let hits = found["hits"].as_array().unwrap().iter();
        let marked = |hit: &Value| (hit["text"].as_str().unwrap().to_owned(), hit["conflict"] == true);
        hits.map(marked).collect::<Vec<_>>()
    };
    let (monday, friday) = ("the exam is on Monday".to_owned(), "the exam is on Friday".to_owned());
    assert_eq!(marked("exam"), [(friday, true), (monday.clone(), true)]);
    assert_eq!(marked("Monday"), [(monday, true)], "also where the other one was not looked for");
    assert_eq!(marked("thank"), [("thank you".to_owned(), false)]);
    let told = stdout(&class.dev.cli(&["search", "Monday"]));
    assert!(told.contains("Monday  (conflict: another message has the same id)"), "{told}");
}

#[test]
fn the_lessons_of_a_room_are_listed_and_chosen() {
    let class = Class::start();
    says(&class, ANNA, "7", &["one", "two"]);
    class.dev.history("7", 2);
    let marked = class.dev.cli(&["lesson", "start", "7", "--title", "Fractions"]);
    assert!(marked.status.success(), "{}", stderr(&marked));
    class.dev.history("7", 3);
    says(&class, BEN, "7", &["three", "four", "five"]);
    class.dev.history("7", 6);
    assert!(class.dev.cli(&["lesson", "end", "7"]).status.success());
    class.dev.history("7", 7);
    says(&class, TEACHER, "8", &["elsewhere"]);
    class.dev.history("8", 1);

    let lessons = lines(&class, &["lessons", "7"]);
    let found: Vec<_> = lessons.iter().map(|lesson| (&lesson["lines"], &lesson["title"])).collect();
    assert_eq!(found, [(&json!(2), &Value::Null), (&json!(3), &json!("Fractions"))]);
    assert_eq!(lessons[0]["people"], json!([{"client_id": ANNA, "lines": 2}]));
    assert_eq!((&lessons[1]["begun_by_mark"], &lessons[1]["ended_by_mark"]), (&json!(true), &json!(true)));
    let rooms = lines(&class, &["rooms"]);
    let of: Vec<_> = rooms.iter().map(|room| (&room["room"], &room["lines"], &room["lessons"])).collect();
    assert_eq!(of, [(&json!("7"), &json!(5), &json!(2)), (&json!("8"), &json!(1), &json!(1))]);

    // The last one, one by its name, one by any message in it; played, shown and exported alike
    let of_lesson = |lesson: &str| class.dev.json_lines(&["history", "7", "--lesson", lesson]);
    let last = of_lesson("last");
    assert_eq!((last.len(), &last[0]["tag"]), (5, &json!("lesson/start/7")));
    let first = of_lesson(lessons[0]["id"].as_str().unwrap());
    assert_eq!(first.len(), 2);
    assert_eq!(of_lesson(first[1]["id"].as_str().unwrap()), first);
    assert_eq!(class.dev.json_lines(&["replay", "7", "--speed", "max", "--lesson", "last"]), last);
    let exported = class.dev.cli(&["export", "7", "--lesson", "last"]);
    assert_eq!(stdout(&exported).lines().count(), 5);

    // Both began on the same day: they are listed, and neither is taken
    let day = &stdout(&class.dev.cli(&["lessons", "7"])).lines().nth(1).unwrap()[..10].to_owned();
    let several = class.dev.cli(&["history", "7", "--lesson", day]);
    assert_eq!((several.status.code(), several.stdout.len()), (Some(2), 0));
    assert!(
        stderr(&several).contains("Fractions") && stderr(&several).contains("2 lessons"),
        "{}",
        stderr(&several)
    );
    for (lesson, code) in [("2020-01-01", 1), ("00000000000000aa-1", 1), ("tomorrow", 2)] {
        assert_eq!(
            class.dev.cli(&["history", "7", "--lesson", lesson]).status.code(),
            Some(code),
            "{lesson}"
        );
    }
}
