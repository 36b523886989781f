//! A broker of its own for each test, an access control that does what the test says, and the broker's events one by one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use roombridge_embedded::{
    AccessControl, Admission, ClientEvent, ClientEventKind, ClientPolicy, ConnectRequest, MqttBroker,
    MqttBrokerOptions, start_mqtt_broker,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::wire::PATIENCE;

/// `RUST_LOG=debug cargo test --test embedded_mqtt -- --nocapture` shows what the broker logs.
pub fn show_logs() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}

pub struct Running {
    pub broker: MqttBroker,
    pub port: u16,
    pub websocket_port: u16,
    folder: TempDir,
}

impl Running {
    pub async fn plain() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ClientPolicy)) -> Self {
        let folder = TempDir::new().unwrap();
        let broker = start(folder.path(), change).await;
        Self::around(broker, folder)
    }

    fn around(broker: MqttBroker, folder: TempDir) -> Self {
        Self { port: broker.tcp_port(), websocket_port: broker.websocket_port(), broker, folder }
    }

    /// Stops the broker and starts it again on the same data.
    pub async fn restart(self, change: impl FnOnce(&mut ClientPolicy)) -> Self {
        self.broker.shutdown().await;
        let broker = start(self.folder.path(), change).await;
        Self::around(broker, self.folder)
    }

    pub async fn stop(self) {
        self.broker.shutdown().await;
    }
}

async fn start(folder: &Path, change: impl FnOnce(&mut ClientPolicy)) -> MqttBroker {
    show_logs();
    let mut client_policy = ClientPolicy::default();
    change(&mut client_policy);
    let options =
        MqttBrokerOptions { tcp_port: 0, websocket_port: 0, data_dir: folder.to_path_buf(), client_policy };
    start_mqtt_broker(options).await.unwrap()
}

/// One admitted connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    pub id: String,
    pub connection: u64,
}

/// What a CONNECT showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    pub client: Client,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub remote: String,
    pub will_topic: Option<String>,
}

type Judge = Box<dyn Fn(&Shown) -> bool + Send + Sync>;
type MayDo = Box<dyn Fn(&Client, &str) -> bool + Send + Sync>;

pub const LABEL: &str = "member";

/// Allows everything until a test says otherwise, and remembers what it was asked.
pub struct TestAccess {
    connect: Judge,
    publish: MayDo,
    subscribe: MayDo,
    shown: Mutex<Vec<Shown>>,
    admitted: Mutex<HashMap<u64, Client>>,
    ended: mpsc::UnboundedSender<Client>,
}

pub type Ended = mpsc::UnboundedReceiver<Client>;

impl TestAccess {
    pub fn new() -> (Self, Ended) {
        let (ended, received) = mpsc::unbounded_channel();
        let access = Self {
            connect: Box::new(|_| true),
            publish: Box::new(|_, _| true),
            subscribe: Box::new(|_, _| true),
            shown: Mutex::default(),
            admitted: Mutex::default(),
            ended,
        };
        (access, received)
    }

    pub fn connect(mut self, judge: impl Fn(&Shown) -> bool + Send + Sync + 'static) -> Self {
        self.connect = Box::new(judge);
        self
    }

    pub fn publish(mut self, may: impl Fn(&Client, &str) -> bool + Send + Sync + 'static) -> Self {
        self.publish = Box::new(may);
        self
    }

    pub fn subscribe(mut self, may: impl Fn(&Client, &str) -> bool + Send + Sync + 'static) -> Self {
        self.subscribe = Box::new(may);
        self
    }

    pub fn shown(&self) -> Vec<Shown> {
        self.shown.lock().unwrap().clone()
    }

    fn client(&self, connection: u64) -> Client {
        let admitted = self.admitted.lock().unwrap();
        admitted.get(&connection).expect("an admitted connection").clone()
    }
}

impl AccessControl for TestAccess {
    fn connect(&self, connection: u64, request: &ConnectRequest<'_>) -> Admission {
        let client = Client { id: request.client_id.to_owned(), connection };
        let shown = Shown {
            client: client.clone(),
            username: request.username.map(str::to_owned),
            password: request.password.map(<[u8]>::to_vec),
            remote: request.remote.to_string(),
            will_topic: request.will_topic.map(str::to_owned),
        };
        self.shown.lock().unwrap().push(shown.clone());
        if !(self.connect)(&shown) {
            return Admission::Refused;
        }
        self.admitted.lock().unwrap().insert(connection, client);
        Admission::Admitted { label: LABEL.to_owned() }
    }

    fn may_publish(&self, connection: u64, topic: &str) -> bool {
        (self.publish)(&self.client(connection), topic)
    }

    fn may_subscribe(&self, connection: u64, filter: &str) -> bool {
        (self.subscribe)(&self.client(connection), filter)
    }

    fn disconnected(&self, connection: u64) {
        let forgotten = self.admitted.lock().unwrap().remove(&connection);
        // Most tests do not listen.
        let _ = self.ended.send(forgotten.expect("an admitted connection"));
    }
}

/// The connection that the access control was told to forget.
pub async fn next_ended(ended: &mut Ended) -> Client {
    timeout(PATIENCE, ended.recv()).await.expect("an end").expect("an access control")
}

/// The broker's events and the clock that they take their time from.
pub struct Events {
    receiver: mpsc::Receiver<ClientEvent>,
    pub clock: Arc<AtomicU64>,
}

impl Events {
    pub fn new(room: usize) -> (Self, mpsc::Sender<ClientEvent>) {
        let (sender, receiver) = mpsc::channel(room);
        let clock = Arc::new(AtomicU64::new(1_000));
        (Self { receiver, clock }, sender)
    }

    /// Lets a broker tell its events here.
    pub fn listen(&self, client_policy: &mut ClientPolicy, sender: mpsc::Sender<ClientEvent>) {
        let clock = Arc::clone(&self.clock);
        client_policy.events = Some(sender);
        client_policy.now_ms = Arc::new(move || clock.load(Ordering::SeqCst));
    }

    pub async fn next(&mut self) -> ClientEvent {
        timeout(PATIENCE, self.receiver.recv()).await.expect("an event").expect("a broker that tells events")
    }

    pub async fn expect(&mut self, client_id: &str, what: ClientEventKind) -> ClientEvent {
        let event = self.next().await;
        assert_eq!((event.client_id.as_str(), &event.what), (client_id, &what));
        event
    }

    /// What comes after the broker's end: nothing but what is listed.
    pub async fn rest(mut self) -> Vec<ClientEvent> {
        let mut rest = Vec::new();
        while let Some(event) = timeout(PATIENCE, self.receiver.recv()).await.expect("the broker's end") {
            rest.push(event);
        }
        rest
    }
}
