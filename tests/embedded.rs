//! The embedded MQTT broker and RocketMQ: ready fast, on free ports, and yesterday's messages are there after a restart.
#![cfg(feature = "embedded")]
#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rocketmq_client_rust::{
    ClientRuntime, ClientRuntimeConfig, DefaultMQAdminExt, DefaultMQProducer, SendStatus, TelemetryHandle,
    TopicAdmin,
};
use rocketmq_model::common::message::message_queue::MessageQueue;
use rocketmq_model::common::message::message_single::Message;
use rocketmq_model::topic::TopicConfig;
use rocketmq_runtime::{RuntimeConfig, RuntimeOwner};
use roombridge_embedded::{
    ClientPolicy, EmbeddedError, MqttBroker, MqttBrokerOptions, RocketMq, RocketMqOptions, start_mqtt_broker,
    start_rocketmq,
};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const READY_LIMIT: Duration = Duration::from_secs(2);
const QUEUES: u32 = 8;
/// A free port of one test may be the neighbour of another test's port.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// `RUST_LOG=info cargo test --test embedded -- --nocapture` shows what the brokers log.
fn show_logs() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}

async fn mqtt_on(data_dir: &Path) -> MqttBroker {
    show_logs();
    let started = Instant::now();
    let options = MqttBrokerOptions {
        tcp_port: 0,
        websocket_port: 0,
        data_dir: data_dir.to_path_buf(),
        client_policy: ClientPolicy::default(),
    };
    let broker = start_mqtt_broker(options).await.unwrap();
    let took = started.elapsed();
    println!("MQTT broker ready after {} ms", took.as_millis());
    assert!(took < READY_LIMIT, "{took:?}");
    broker
}

async fn rocketmq_on(data_dir: &Path) -> RocketMq {
    rocketmq_at(data_dir, 0, 0).await
}

async fn rocketmq_at(data_dir: &Path, name_server_port: u16, broker_port: u16) -> RocketMq {
    show_logs();
    let started = Instant::now();
    let options = RocketMqOptions { name_server_port, broker_port, data_dir: data_dir.to_path_buf() };
    let rocketmq = start_rocketmq(options).await.unwrap();
    let took = started.elapsed();
    println!("RocketMQ ready after {} ms", took.as_millis());
    assert!(took < READY_LIMIT, "{took:?}");
    rocketmq
}

fn print_memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS: ?");
    println!("{when}: {resident}");
}

struct MqttClient {
    client: AsyncClient,
    events: EventLoop,
}

impl MqttClient {
    async fn connect(port: u16, id: &str) -> (Self, ConnAck) {
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_clean_start(false).set_session_expiry_interval(Some(3600));
        let (client, events) = AsyncClient::new(options, 64);
        let mut this = Self { client, events };
        let answer = this
            .wait(|packet| match packet {
                Packet::ConnAck(answer) => Some(answer),
                _ => None,
            })
            .await;
        (this, answer)
    }

    async fn wait<T>(&mut self, wanted: impl Fn(Packet) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && let Some(found) = wanted(packet)
                {
                    return found;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the awaited MQTT packet")
    }

    async fn subscribe(&mut self, filter: &str) {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        self.wait(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    }

    async fn publish(&mut self, topic: &str, payload: String) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
        self.wait(|packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
    }

    async fn next_publish(&mut self) -> Publish {
        self.wait(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_message_reaches_the_subscriber_with_the_sender_s_client_id() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = TempDir::new().unwrap();
    let broker = mqtt_on(folder.path()).await;
    let (mut subscriber, _) = MqttClient::connect(broker.tcp_port(), "subscriber").await;
    subscriber.subscribe("room/#").await;

    let (mut publisher, _) = MqttClient::connect(broker.tcp_port(), "publisher").await;
    publisher.publish("room/7/chat", "hello".to_owned()).await;

    let received = subscriber.next_publish().await;
    assert_eq!(&received.payload[..], b"hello");
    let properties = received.properties.expect("properties").user_properties;
    assert!(properties.contains(&("x-mqtt-client-id".to_owned(), "publisher".to_owned())), "{properties:?}");

    let stopping = Instant::now();
    broker.shutdown().await;
    println!("MQTT broker stopped after {} ms", stopping.elapsed().as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_websocket_answers_under_its_path() {
    let _alone = ONE_AT_A_TIME.lock().await;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = TempDir::new().unwrap();
    let broker = mqtt_on(folder.path()).await;

    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", broker.websocket_port())).await.unwrap();
    let request = "GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let length = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();

    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    drop(stream);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_queued_for_an_absent_session_survive_a_restart_of_the_mqtt_broker() {
    let _alone = ONE_AT_A_TIME.lock().await;
    const COUNT: usize = 50;
    let folder = TempDir::new().unwrap();
    let broker = mqtt_on(folder.path()).await;
    let (mut subscriber, _) = MqttClient::connect(broker.tcp_port(), "absent").await;
    subscriber.subscribe("room/#").await;
    subscriber.client.disconnect().await.unwrap();
    while subscriber.events.poll().await.is_ok() {}

    let (mut publisher, _) = MqttClient::connect(broker.tcp_port(), "publisher").await;
    for number in 0..COUNT {
        publisher.publish("room/7/chat", format!("m{number}")).await;
    }
    // The publisher stays connected: the stop has to cope with open connections.
    let stopping = Instant::now();
    broker.shutdown().await;
    println!("MQTT broker with an open connection stopped after {} ms", stopping.elapsed().as_millis());

    let broker = mqtt_on(folder.path()).await;
    let (mut subscriber, answer) = MqttClient::connect(broker.tcp_port(), "absent").await;
    assert!(answer.session_present);
    for number in 0..COUNT {
        let received = subscriber.next_publish().await;
        assert_eq!(received.payload, format!("m{number}").as_bytes());
    }
    broker.shutdown().await;
}

/// One RocketMQ client with the runtime that the crate demands.
struct RocketMqClient {
    owner: Option<RuntimeOwner>,
    runtime: std::sync::Arc<ClientRuntime>,
    producer: DefaultMQProducer,
    name_server: String,
}

impl RocketMqClient {
    async fn connect(rocketmq: &RocketMq) -> Self {
        let owner = RuntimeOwner::plan(RuntimeConfig::default()).unwrap().build().unwrap();
        let context = owner.root_context().component("client");
        let runtime =
            ClientRuntime::try_new(context, ClientRuntimeConfig::default(), TelemetryHandle::noop()).unwrap();
        let name_server = rocketmq.name_server_address();
        let mut producer = DefaultMQProducer::builder(runtime.clone())
            .producer_group("embedded-test")
            .name_server_addr(name_server.as_str())
            .build();
        producer.start().await.unwrap();
        Self { owner: Some(owner), runtime, producer, name_server }
    }

    async fn create_topic(&mut self, broker_port: u16, topic: &str) {
        let mut admin = DefaultMQAdminExt::with_admin_ext_group(self.runtime.clone(), "embedded-test-admin");
        admin.set_namesrv_addr(self.name_server.as_str());
        admin.start().await.unwrap();
        let broker = format!("127.0.0.1:{broker_port}");
        TopicAdmin::create_and_update_topic_config(
            &admin,
            broker.into(),
            TopicConfig::with_queues(topic.to_owned(), QUEUES, QUEUES),
        )
        .await
        .unwrap();
        admin.shutdown().await;
        self.queues(topic).await;
    }

    /// The broker tells the name server of its topics. If its word is lost, it says it again within 10 seconds.
    async fn queues(&mut self, topic: &str) -> Vec<MessageQueue> {
        let asking = Instant::now();
        loop {
            match self.producer.fetch_publish_message_queues(topic).await {
                Ok(queues) => return queues,
                Err(error) => assert!(asking.elapsed() < PATIENCE, "nobody knows {topic:?}: {error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives the id back that holds the message's place in the commit log (and the broker's port).
    async fn send(&self, topic: &str, body: &str) -> String {
        let message = Message::builder()
            .topic(topic)
            .tags("chat")
            .body(bytes::Bytes::copy_from_slice(body.as_bytes()))
            .build_unchecked();
        let result = self.producer.send(message).await.unwrap().unwrap();
        assert_eq!(result.send_status, SendStatus::SendOk);
        result.offset_msg_id.unwrap()
    }

    async fn stop(mut self) {
        self.producer.shutdown().await;
        self.runtime.shutdown().await;
        if let Some(owner) = self.owner.take() {
            owner.shutdown_background();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_message_is_there_after_a_restart_of_rocketmq() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = TempDir::new().unwrap();
    let rocketmq = rocketmq_on(folder.path()).await;
    print_memory("both clients and RocketMQ, started");
    let mut client = RocketMqClient::connect(&rocketmq).await;
    client.create_topic(rocketmq.broker_port(), "room").await;
    let first_send = Instant::now();
    let id = client.send("room", "of yesterday").await;
    println!("first send took {} ms", first_send.elapsed().as_millis());
    client.stop().await;
    let stopping = Instant::now();
    let (name_server_port, broker_port) = (rocketmq.name_server_port(), rocketmq.broker_port());
    rocketmq.shutdown().await;
    println!("RocketMQ stopped after {} ms", stopping.elapsed().as_millis());

    let rocketmq = rocketmq_at(folder.path(), name_server_port, broker_port).await;
    let ready = Instant::now();
    let mut client = RocketMqClient::connect(&rocketmq).await;
    let queues = client.queues("room").await;
    assert_eq!(queues.len(), QUEUES as usize);
    let mut stored = 0;
    for queue in &queues {
        stored += client.producer.max_offset(queue).await.unwrap();
    }
    assert_eq!(stored, 1);
    let found = client.producer.view_message("room", &id).await.unwrap();
    assert_eq!(found.body().unwrap(), "of yesterday");
    client.send("room", "of today").await;
    println!("a send after the restart was acknowledged {} ms after ready", ready.elapsed().as_millis());
    print_memory("after use");
    client.stop().await;
    rocketmq.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_never_made_by_a_send() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = TempDir::new().unwrap();
    let rocketmq = rocketmq_on(folder.path()).await;
    let client = RocketMqClient::connect(&rocketmq).await;

    let message = Message::builder().topic("unknown").body(bytes::Bytes::from_static(b"x")).build_unchecked();
    assert!(client.producer.send(message).await.is_err());

    client.stop().await;
    rocketmq.shutdown().await;
}

/// A taken port whose neighbours are free, so that each group around it lacks exactly this one.
fn taken() -> (TcpListener, u16) {
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
    for _ in 0..100 {
        let listener = bind(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        if [port - 3, port - 1, port + 2].into_iter().all(|neighbour| bind(neighbour).is_ok()) {
            return (listener, port);
        }
    }
    panic!("no port with free neighbours");
}

fn assert_taken(error: EmbeddedError, taken_port: u16, taken_flag: &str) {
    let text = error.to_string();
    println!("{text}");
    assert!(text.contains(&taken_port.to_string()) && text.contains(taken_flag), "{text}");
    let EmbeddedError::AddressInUse { port, flag, .. } = error else {
        panic!("not AddressInUse: {text}");
    };
    assert_eq!((port, flag), (taken_port, taken_flag));
}

async fn mqtt_error(folder: &TempDir, tcp_port: u16, websocket_port: u16) -> EmbeddedError {
    let data_dir = folder.path().to_path_buf();
    let started = start_mqtt_broker(MqttBrokerOptions {
        tcp_port,
        websocket_port,
        data_dir,
        client_policy: ClientPolicy::default(),
    })
    .await;
    started.err().expect("the MQTT broker must not start")
}

async fn rocketmq_error(folder: &TempDir, name_server_port: u16, broker_port: u16) -> EmbeddedError {
    let data_dir = folder.path().to_path_buf();
    let started = start_rocketmq(RocketMqOptions { name_server_port, broker_port, data_dir }).await;
    started.err().expect("RocketMQ must not start")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named_with_its_flag() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = TempDir::new().unwrap();
    let (_listener, port) = taken();

    assert_taken(mqtt_error(&folder, port, 0).await, port, "--mqtt-port");
    assert_taken(mqtt_error(&folder, 0, port).await, port, "--websocket-port");
    assert_taken(rocketmq_error(&folder, port, 0).await, port, "--name-server-port");
    assert_taken(rocketmq_error(&folder, 0, port).await, port, "--broker-port");
    assert_taken(rocketmq_error(&folder, 0, port + 2).await, port, "--broker-port");
    assert_taken(rocketmq_error(&folder, 0, port - 1).await, port, "--broker-port");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a refused start leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_in_use_is_refused() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = TempDir::new().unwrap();
    let broker = mqtt_on(folder.path()).await;
    let rocketmq = rocketmq_on(folder.path()).await;

    let errors = [mqtt_error(&folder, 0, 0).await, rocketmq_error(&folder, 0, 0).await];
    for error in errors {
        println!("{error}");
        assert!(matches!(error, EmbeddedError::DataFolderInUse { .. }), "{error}");
    }

    rocketmq.shutdown().await;
    broker.shutdown().await;
}
