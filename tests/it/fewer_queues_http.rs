//! A topic that has fewer queues than before, over HTTP: no answer that lacks the rooms of the others is called whole.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::dev::http;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::{free_port, wait_until};

const SOON: Duration = Duration::from_secs(60);
/// The topic of the rooms.
const HEARD: &str = "shrunkHttp";
/// What is sent to the classroom, and its records.
const SENT: &str = "shrunkHttpSend";
const AUDIT: &str = "shrunkHttpAudit";
const ROOMS: u64 = 24;
const READ_AND_WRITE: u32 = 6;
const OPERATOR: &str = "the operator's secret";

/// The pages of a class, and the API of its archive.
fn class_and_archive(web: &str) -> String {
    format!(
        "[[binding]]\nfilter = \"{SENT}/#\"\norder_key_field = \"roomId\"\nsender = {{ user_property = \"client\" }}\n\
         [[downlink]]\ntopic = \"{HEARD}\"\n\
         [classroom]\nsend_topic = \"{SENT}\"\nheard_topic = \"{HEARD}\"\naudit_topic = \"{AUDIT}\"\n\
         [access]\naccess_key = \"key\"\ninstance = \"instance\"\nsecret = \"the access secret\"\n\
         [login]\nsecret = \"{OPERATOR}\"\n[web]\nlisten = \"{web}\"\n\
         [archive]\ncut_every_s = 1\ntopics = [\"{HEARD}\"]\n"
    )
}

/// A token of a teacher who may read all rooms of the class.
fn token() -> String {
    let rooms = format!("{HEARD}/message/+");
    let output: Output = roombridge_cli(&[
        "token",
        "issue",
        "--access-key",
        "key",
        "--instance",
        "instance",
        "--secret",
        "the access secret",
        "--role",
        "teacher",
        "--resource",
        &rooms,
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What is answered at once, as JSON; of lines the first one.
#[track_caller]
fn answer(method: &str, url: &str, token: &str, body: Option<&str>) -> Value {
    let (status, text) = http(method, url, &[("authorization", &format!("Bearer {token}"))], body);
    assert!(status == 200 || status == 201, "{method} {url}: {status} {text}");
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

#[test]
fn what_rocketmq_hands_out_to_nobody_is_missed_by_everybody_who_reads_over_http() {
    // Given rooms in 8 queues, of which half are taken from the readers
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[(HEARD, 8), (SENT, 1), (AUDIT, 1)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let config = format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"{HEARD}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [origin]\nkey = \"the same for both\"\n[[binding]]\nfilter = \"{HEARD}/#\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    );
    let mut bridge = Bridge::start(&config);
    let to_room = |room| Message::new(format!("{HEARD}/message/{room}"), "the first line");
    publish_messages(&mosquitto, "somebody", (0..ROOMS).map(to_room).collect());
    let stored = rocketmq.read_at_least(HEARD, ROOMS as usize, SOON);
    let hidden = stored.iter().filter(|message| message.queue_id >= 4).count();
    assert!(hidden > 0 && hidden < stored.len(), "rooms are in both halves of the queues");
    // So that nothing is delivered again, and stored in a queue that is left.
    bridge.terminate();
    bridge.wait_exit(SOON);
    rocketmq.update_topic(HEARD, 4, READ_AND_WRITE);

    // When the rooms are read over HTTP
    let web = format!("127.0.0.1:{}", free_port());
    let _bridge = Bridge::start(&(config + &class_and_archive(&web)));
    let token = token();
    let url = |path: &str| format!("http://{web}{path}");
    let history = |room: u64| answer("GET", &url(&format!("/api/rooms/{room}/history")), &token, None);
    let page = |room: u64| answer("GET", &url(&format!("/api/v1/rooms/{room}/messages")), OPERATOR, None);
    let first_event = |room: u64| {
        let replays = url(&format!("/api/v1/rooms/{room}/replays"));
        let made = answer("POST", &replays, OPERATOR, Some(r#"{"speed":"max"}"#));
        answer("GET", &url(made["stream"].as_str().unwrap()), OPERATOR, None)
    };
    wait_until("the route has 4 queues", SOON, || history(1)["complete"] == false);

    // Then each answer says that it may lack something, whether it has the room or not
    let has_lines = |answer: &Value| !answer["messages"].as_array().unwrap().is_empty();
    let rooms = (0..ROOMS).filter(|room| {
        let (history, page) = (history(*room), page(*room));
        assert_eq!(history["complete"], false, "{history}");
        assert_eq!(page["partial"], true, "{page}");
        assert_eq!(page["why_codes"], json!(["not_handed_out"]), "{page}");
        let why = page["why"][0].as_str().unwrap();
        assert!(why.contains(&format!("does not hand out {hidden} message")), "{why}");
        assert_eq!(has_lines(&history), has_lines(&page), "room {room}");
        has_lines(&page)
    });
    assert_eq!(rooms.count(), stored.len() - hidden);
    let told = first_event(1);
    assert_eq!(told["event"], "partial", "{told}");
    assert_eq!(told["why_codes"], json!(["not_handed_out"]), "{told}");

    // And when the topic has its queues back, then everything is there, and is called whole
    rocketmq.update_topic(HEARD, 8, READ_AND_WRITE);
    let is_whole = |room: u64| {
        let (history, page) = (history(room), page(room));
        history["complete"] == true && has_lines(&history) && page["partial"] == false && has_lines(&page)
    };
    wait_until("each room is whole", 3 * SOON, || (0..ROOMS).all(&is_whole));
    assert_ne!(first_event(1)["event"], "partial");
}
