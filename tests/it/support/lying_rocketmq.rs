//! Stands between the bridge and RocketMQ, understands remoting frames, and lies about sends.
//!
//! A frame: 4 bytes length of the rest, 1 byte serialization, 3 bytes header length, header (JSON), body. Only answers
//! to sends are touched, and the address of the broker in the name server's answers, which becomes the proxy's own.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::apache::ApacheRocketMq;

/// SEND_MESSAGE, SEND_MESSAGE_V2, SEND_BATCH_MESSAGE.
const SENDS: [i64; 3] = [10, 310, 320];
const MESSAGE_ILLEGAL: i64 = 13;
const DEAD_LETTERS: &str = "roombridge_dead_letter";

/// RocketMQ's answer codes.
pub mod code {
    pub const SYSTEM_ERROR: i64 = 1;
    pub const SYSTEM_BUSY: i64 = 2;
    pub const FLUSH_DISK_TIMEOUT: i64 = 10;
    pub const SLAVE_NOT_AVAILABLE: i64 = 11;
    pub const FLUSH_SLAVE_TIMEOUT: i64 = 12;
    pub const NO_PERMISSION: i64 = 16;
    pub const TOPIC_NOT_EXIST: i64 = 17;
}

#[derive(Debug, Clone, PartialEq)]
pub enum Lie {
    /// Stored, and the answer never comes.
    Swallow,
    /// Stored, and the answer comes so much later.
    Delay(Duration),
    /// Stored, and the answer says this code.
    StoredBut(i64),
    /// Not stored, and the answer says this code.
    Refused(i64),
    /// Not stored, and the answer says this code and these words.
    Says(i64, &'static str),
    /// A send of which one message holds these bytes is not stored: MESSAGE_ILLEGAL. As a dead letter it is legal.
    IllegalWith(Vec<u8>),
    /// The same with this code, for which no broker has a meaning of its own.
    RefusedWith(Vec<u8>, i64),
    /// Sends come through at this pace, in bytes of a second.
    Slow(u64),
    /// Nothing more is read from the connection, so that its socket is soon full; what waits there is stored when the lie ends.
    TakesNothing,
}

/// Which sends are lied about.
#[derive(Debug, Clone)]
struct Plan {
    lie: Lie,
    queue: Option<i64>,
    left: u32,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    /// Send requests that came from the bridge.
    pub sends: u64,
    pub lies: u64,
    pub connections: u64,
    /// The largest body of a send, in bytes.
    pub largest_bytes: usize,
}

struct Shared {
    plan: Mutex<Option<Plan>>,
    told: Mutex<Told>,
    broker_port: u16,
    lying_port: u16,
}

pub struct LyingRocketMq {
    name_server_port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl LyingRocketMq {
    pub fn start(rocketmq: &ApacheRocketMq) -> LyingRocketMq {
        let port = |address: String| -> u16 { address.rsplit(':').next().unwrap().parse().unwrap() };
        let (names, broker) = (port(rocketmq.name_server()), port(rocketmq.broker()));
        let listen = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let (for_names, for_broker) = (listen(), listen());
        let name_server_port = for_names.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            plan: Mutex::new(None),
            told: Mutex::default(),
            broker_port: broker,
            lying_port: for_broker.local_addr().unwrap().port(),
        });
        let (stop, stopped) = oneshot::channel();
        let owned = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                tokio::select! {
                    () = accept(for_names, names, owned.clone(), false) => {}
                    () = accept(for_broker, broker, owned, true) => {}
                    _ = stopped => {}
                }
            });
        });
        LyingRocketMq { name_server_port, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// `127.0.0.1:PORT` for the bridge.
    pub fn name_server(&self) -> String {
        format!("127.0.0.1:{}", self.name_server_port)
    }

    /// From now on every send, until `tell_the_truth`.
    pub fn lie(&self, lie: Lie) {
        self.plan(lie, None, u32::MAX);
    }

    /// Only sends to this queue of a topic; others are told the truth.
    pub fn lie_about_queue(&self, lie: Lie, queue: i64) {
        self.plan(lie, Some(queue), u32::MAX);
    }

    pub fn lie_times(&self, lie: Lie, times: u32) {
        self.plan(lie, None, times);
    }

    fn plan(&self, lie: Lie, queue: Option<i64>, left: u32) {
        *self.shared.plan() = Some(Plan { lie, queue, left });
    }

    pub fn tell_the_truth(&self) {
        *self.shared.plan() = None;
    }

    pub fn told(&self) -> Told {
        *self.shared.told()
    }
}

impl Drop for LyingRocketMq {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Option<Plan>> {
        self.plan.lock().expect("nobody panics while holding the plan")
    }

    fn takes_nothing(&self) -> bool {
        self.plan().as_ref().is_some_and(|plan| plan.lie == Lie::TakesNothing)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("nobody panics while holding the count")
    }

    /// The lie for this send, counted.
    fn lie_for(&self, header: &Value, body: &[u8]) -> Option<Lie> {
        {
            let mut told = self.told();
            told.sends += 1;
            told.largest_bytes = told.largest_bytes.max(body.len());
        }
        let mut plan = self.plan();
        let current = plan.as_mut()?;
        let fields = &header["extFields"];
        let queue = fields.get("e").or_else(|| fields.get("queueId"));
        let queue = queue.and_then(|queue| queue.as_str()?.parse::<i64>().ok());
        if current.queue.is_some() && current.queue != queue {
            return None;
        }
        if let Lie::IllegalWith(marker) | Lie::RefusedWith(marker, _) = &current.lie {
            let topic = fields.get("b").or_else(|| fields.get("topic"));
            let is_dead_letter = topic.and_then(Value::as_str) == Some(DEAD_LETTERS);
            if is_dead_letter || !body.windows(marker.len()).any(|window| window == marker) {
                return None;
            }
        }
        current.left = current.left.checked_sub(1)?;
        self.told().lies += 1;
        Some(current.lie.clone())
    }
}

struct Frame {
    header: Vec<u8>,
    /// With the serialization in the highest byte.
    header_mark: u32,
    body: Vec<u8>,
}

impl Frame {
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Frame> {
        let length = from.read_u32().await? as usize;
        let header_mark = from.read_u32().await?;
        let mut header = vec![0; (header_mark & 0x00ff_ffff) as usize];
        from.read_exact(&mut header).await?;
        let mut body = vec![0; length.saturating_sub(4 + header.len())];
        from.read_exact(&mut body).await?;
        Ok(Frame { header, header_mark, body })
    }

    fn bytes(&self) -> Vec<u8> {
        let length = (4 + self.header.len() + self.body.len()) as u32;
        let mark = (self.header_mark & 0xff00_0000) | self.header.len() as u32;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(mark.to_be_bytes());
        bytes.extend(&self.header);
        bytes.extend(&self.body);
        bytes
    }

    /// `None` where the header is not JSON.
    fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.header).ok()
    }
}

async fn accept(listener: std::net::TcpListener, upstream: u16, shared: Arc<Shared>, is_broker: bool) {
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let Ok(broker) = TcpStream::connect(("127.0.0.1", upstream)).await else {
            continue;
        };
        shared.told().connections += 1;
        let _ = (client.set_nodelay(true), broker.set_nodelay(true));
        tokio::spawn(connection(client, broker, shared.clone(), is_broker));
    }
}

/// What becomes of the answer to a request, by its `opaque`.
type Pending = Arc<Mutex<HashMap<i64, Lie>>>;

async fn connection(client: TcpStream, broker: TcpStream, shared: Arc<Shared>, is_broker: bool) {
    let (client_in, mut client_out) = client.into_split();
    let (broker_in, broker_out) = broker.into_split();
    let (answers, mut to_client) = mpsc::channel::<Vec<u8>>(256);
    let pending = Pending::default();
    let writer = async {
        while let Some(bytes) = to_client.recv().await {
            client_out.write_all(&bytes).await?;
        }
        io::Result::Ok(())
    };
    // The first of the three to end ends the connection.
    let _ = tokio::try_join!(
        requests(client_in, broker_out, &shared, &pending, answers.clone(), is_broker),
        replies(broker_in, &shared, &pending, answers),
        writer
    );
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    pending: &Pending,
    answers: mpsc::Sender<Vec<u8>>,
    is_broker: bool,
) -> io::Result<()> {
    loop {
        let frame = Frame::read(&mut from).await?;
        let header = frame.json().filter(|_| is_broker);
        let send = header.filter(|header| header["code"].as_i64().is_some_and(|code| SENDS.contains(&code)));
        let lie = send.as_ref().and_then(|header| shared.lie_for(header, &frame.body));
        let opaque = send.as_ref().and_then(|header| header["opaque"].as_i64()).unwrap_or(0);
        match lie {
            Some(Lie::Refused(code) | Lie::RefusedWith(_, code)) => {
                drop(answers.send(answer(opaque, code, &a_lie(code))).await)
            }
            Some(Lie::Says(code, words)) => drop(answers.send(answer(opaque, code, words)).await),
            Some(Lie::IllegalWith(_)) => {
                drop(answers.send(answer(opaque, MESSAGE_ILLEGAL, &a_lie(MESSAGE_ILLEGAL))).await)
            }
            Some(Lie::Slow(bytes_per_s)) => {
                let bytes = frame.bytes();
                tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / bytes_per_s as f64)).await;
                to.write_all(&bytes).await?;
            }
            Some(lie @ (Lie::Swallow | Lie::Delay(_) | Lie::StoredBut(_))) => {
                pending.lock().expect("nobody panics while holding it").insert(opaque, lie);
                to.write_all(&frame.bytes()).await?;
            }
            Some(Lie::TakesNothing) => {
                while shared.takes_nothing() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                to.write_all(&frame.bytes()).await?;
            }
            None => to.write_all(&frame.bytes()).await?,
        }
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    shared: &Shared,
    pending: &Pending,
    answers: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut frame = Frame::read(&mut from).await?;
        replace_address(&mut frame.body, shared.broker_port, shared.lying_port);
        let header = frame.json();
        let opaque = header.as_ref().and_then(|header| header["opaque"].as_i64());
        let lie =
            opaque.and_then(|opaque| pending.lock().expect("nobody panics while holding it").remove(&opaque));
        match lie {
            Some(Lie::Swallow) => {}
            Some(Lie::Delay(delay)) => {
                let (answers, bytes) = (answers.clone(), frame.bytes());
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = answers.send(bytes).await;
                });
            }
            Some(Lie::StoredBut(code)) => {
                let mut header = header.unwrap_or_default();
                header["code"] = json!(code);
                frame.header = header.to_string().into_bytes();
                drop(answers.send(frame.bytes()).await);
            }
            Some(
                Lie::Refused(_)
                | Lie::Says(..)
                | Lie::RefusedWith(..)
                | Lie::IllegalWith(_)
                | Lie::Slow(_)
                | Lie::TakesNothing,
            )
            | None => {
                drop(answers.send(frame.bytes()).await);
            }
        }
    }
}

fn a_lie(code: i64) -> String {
    format!("a lie, code {code}")
}

fn answer(opaque: i64, code: i64, words: &str) -> Vec<u8> {
    let header = json!({
        "code": code, "flag": 1, "language": "JAVA", "opaque": opaque, "remark": words,
        "serializeTypeCurrentRPC": "JSON", "version": 475,
    });
    let header = header.to_string().into_bytes();
    Frame { header_mark: 0, header, body: Vec::new() }.bytes()
}

/// Only whole numbers are replaced: a digit behind the port would make it another port.
fn replace_address(body: &mut Vec<u8>, broker_port: u16, lying_port: u16) {
    let (old, new) = (format!("127.0.0.1:{broker_port}\""), format!("127.0.0.1:{lying_port}\""));
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    if text.contains(&old) {
        *body = text.replace(&old, &new).into_bytes();
    }
}
