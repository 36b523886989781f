//! The archive over HTTP, as an application's server and a teacher's page use it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::Bridge;
use crate::support::dev::http;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::{free_port, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn get(address: &str, path: &str, token: &str) -> (u16, Value) {
    let authorization = format!("Bearer {token}");
    let url = format!("http://{address}{path}");
    let (status, text) = http("GET", &url, &[("authorization", &authorization)], None);
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn bodies(answer: &Value) -> Vec<&str> {
    answer["messages"].as_array().unwrap().iter().map(|line| line["body"].as_str().unwrap()).collect()
}

/// Without a classroom, without tokens: an archive, an address and the operator's secret are enough.
#[test]
fn an_operator_reads_over_http_what_rocketmq_has_forgotten() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("archived-for-http", 1);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let address = format!("127.0.0.1:{}", free_port());
    let bridge = Bridge::start(&format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-http\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"archived-for-http\"\n[archive]\ncut_every_s = 1\n\
         [web]\nlisten = \"{address}\"\n[login]\nsecret = \"the secret\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    ));
    let said: Vec<String> = (0..9).map(|number| format!("line {number}")).collect();
    let messages = said.iter().map(|body| Message::new("room/message/1", body.as_str()));
    publish_messages(&mosquitto, "anna", messages.collect());
    wait_until("all is archived", SOON, || bridge.metrics().value("roombridge_archived_total", &[]) == 9.0);
    rocketmq.mqadmin(&["deleteTopic", "-t", "archived-for-http", "-c", "DefaultCluster"]);

    let path = "/api/v1/rooms/1/messages";
    let (status, newest) = get(&address, &format!("{path}?limit=5"), "the secret");
    assert_eq!((status, &newest["partial"]), (200, &json!(false)), "{newest}");
    let older = format!("{path}?limit=5&before={}", newest["before"].as_str().unwrap());
    let (_, older) = get(&address, &older, "the secret");
    assert_eq!([bodies(&older), bodies(&newest)].concat(), said);
    assert_eq!(older["before"], Value::Null);
    for token in ["", "guessed"] {
        assert_eq!(get(&address, path, token).0, 401);
    }
    let log = bridge.log_text();
    assert!(log.contains("messages of room \"1\", private ones included"), "{log}");
    assert!(!log.contains("the secret") && !log.contains("line 3"), "{log}");
}

#[cfg(feature = "embedded")]
mod in_a_class {
    use super::*;
    use crate::support::class::Class;

    /// Rule 43: in the class everybody reads every room; the archive is for those who were given the room.
    #[test]
    fn a_teacher_who_was_given_the_room_reads_its_archive_and_the_class_does_not() {
        let class = Class::start();
        let web = class.dev.address("web");
        let login = |query: &str| {
            let url = format!("http://{}/login{query}", class.dev.address("login"));
            let (status, token) = http("GET", &url, &[("authorization", "Bearer dev")], None);
            assert_eq!(status, 200, "{token}");
            token
        };
        let line = json!({"peer": "GID_student@@@anna", "roomId": "9", "msg": "hello"}).to_string();
        let said = vec![Message::new("roomSend/message", line.clone())];
        publish_messages(class.login(), "GID_student@@@anna", said);
        class.dev.history("9", 1);

        let path = "/api/v1/rooms/9/messages";
        for token in [login("?role=teacher&room=9"), "dev".to_owned()] {
            let (status, answer) = get(&web, path, &token);
            assert_eq!((status, bodies(&answer)), (200, vec![line.as_str()]), "{answer}");
            assert_eq!(answer["messages"][0]["client_id"], "GID_student@@@anna");
        }
        for (who, token) in [
            ("everybody's token", class.token.clone()),
            ("a student's token for the room", login("?role=student&room=9")),
            ("a teacher's token for all rooms", login("?role=teacher")),
            ("a teacher's token for another room", login("?role=teacher&room=8")),
        ] {
            assert_eq!(get(&web, path, &token).0, 403, "{who}");
            assert_eq!(
                get(&web, "/api/rooms/9/members", &token).0,
                if who.contains("another") { 403 } else { 200 },
                "{who}"
            );
        }
        let (status, document) = get(&web, "/api/v1/openapi.json", "");
        assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    }
}
