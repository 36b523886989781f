//! A part of a running bridge that dies ends the process in order.

use std::time::Duration;

use roombridge::testing::app::Bridge;
use roombridge::testing::config::{Config, ProcessEnvironment};
use roombridge::testing::lifecycle::Lifecycle;

use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::free_port;
use crate::support::scratch::Scratch;

const SOON: Duration = Duration::from_secs(30);

/// Hazard 30: what is on its way still ends and is acknowledged, and the error names what died.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_dies_drains_the_bridge_and_is_named() {
    // given a bridge that has a message in hand
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let scratch = Scratch::new("dying");
    let config = format!(
        "data_dir = \"{}\"\n[mqtt]\nurl = \"{}\"\nclient_id = \"dying\"\n[rocketmq]\n\
         name_servers = [\"127.0.0.1:{}\"]\n[http]\nlisten = \"127.0.0.1:{}\"\n[spool]\nmin_free_bytes = 0\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"dying\"\n",
        scratch.join("data").display(),
        mosquitto.url(),
        free_port(),
        free_port()
    );
    let config = Config::load(&scratch.write("roombridge.toml", &config), &ProcessEnvironment).unwrap();
    let lifecycle = Lifecycle::new(SOON);
    let bridge = Bridge::prepare(config, false).await.unwrap();
    let readiness = bridge.readiness();
    let running = tokio::spawn(bridge.run(lifecycle.clone()));
    tokio::time::timeout(SOON, async {
        while !readiness.is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the bridge is ready");
    let port = mosquitto.port();
    let publishing = move || publish_messages(port, "somebody", vec![Message::new("room/message/1", "hi")]);
    tokio::task::spawn_blocking(publishing).await.unwrap();

    // when a part of it dies
    lifecycle.spawn("a part of this test", async { panic!("of old age") });

    // then it stops by itself, long before its deadline, and says which part it was
    let ended = tokio::time::timeout(SOON / 2, running).await;
    let error = ended.expect("the bridge ends").unwrap().unwrap_err().to_string();
    assert!(error.contains("a part of this test died: of old age"), "{error}");

    // and the message is where it was acknowledged from: in the spool
    let spool =
        roombridge::testing::spool::SpoolInspection::read(&scratch.join("data/spool.sqlite3")).unwrap();
    assert_eq!(spool.messages(), 1);
}
