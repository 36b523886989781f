//! Stands between an archiver and its S3, and fails in the ways in which stores fail.
//!
//! Promises: a connection carries one request (both sides read `Connection: close`), heads and bodies are passed on as they came, and
//! what was done to a request is counted before the client can know of it. A request keeps the trouble that it came into.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

/// A piece has a quarter of it at most.
const MOST_BYTES: usize = 64 << 20;
const MOST_CONNECTIONS: usize = 64;
/// Whatever becomes of a request, its connection ends then.
const DEADLINE: Duration = Duration::from_secs(120);
/// What is slow comes in so many parts, with a pause behind each.
const PARTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// 500
    ServerError,
    /// 503
    SlowDown,
    /// 409, as if somebody else were creating the object just now.
    Conflict,
    /// 507
    NoRoom,
    /// 403
    Forbidden,
    /// The store takes it, and the connection ends without an answer. Counted when the client tries again and the store refuses (412)
    /// what it has taken from that very client.
    AnswerLost,
    /// The store takes it, and no answer comes until the client gives up.
    Silent,
    /// The connection is reset amid the body, and the store hears of nothing.
    CutUpload,
    /// Bytes trickle to the store, and back from it.
    Slow,
}

/// Which requests are in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Those that create a piece or a claim. The object by which an archiver proves what the store can do has no trouble: behind a proof
    /// that failed no piece would be tried.
    Puts,
    /// Those that read an object, or list.
    Reads,
    Both,
}

#[derive(Default)]
struct Met {
    puts: HashMap<How, u64>,
    reads: HashMap<How, u64>,
    /// What the store took, and the client does not know of it.
    unanswered: HashSet<String>,
}

struct Shared {
    store_port: u16,
    trouble: Mutex<Option<(How, Of)>>,
    met: Mutex<Met>,
}

pub struct S3Proxy {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3Proxy {
    pub fn start(store_port: u16) -> S3Proxy {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared { store_port, trouble: Mutex::new(None), met: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let owned = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // All connections end with the runtime.
            runtime.expect("a runtime can be made").block_on(async {
                tokio::select! {
                    () = accept(listener, owned) => {}
                    _ = stopped => {}
                }
            });
        });
        S3Proxy { port, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// For the archiver.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on, until `heal`.
    pub fn fail(&self, how: How, of: Of) {
        *self.shared.trouble() = Some((how, of));
    }

    pub fn heal(&self) {
        *self.shared.trouble() = None;
    }

    /// How many such requests met it so far; of both kinds the lesser number.
    pub fn met(&self, how: How, of: Of) -> u64 {
        let met = self.shared.met();
        let count = |counts: &HashMap<How, u64>| counts.get(&how).copied().unwrap_or(0);
        match of {
            Of::Puts => count(&met.puts),
            Of::Reads => count(&met.reads),
            Of::Both => count(&met.puts).min(count(&met.reads)),
        }
    }

    /// How many requests met any trouble so far.
    pub fn met_in_all(&self) -> u64 {
        let met = self.shared.met();
        met.puts.values().chain(met.reads.values()).sum()
    }
}

impl Drop for S3Proxy {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn trouble(&self) -> MutexGuard<'_, Option<(How, Of)>> {
        self.trouble.lock().expect("nobody panics while holding the trouble")
    }

    fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().expect("nobody panics while holding the counts")
    }

    fn trouble_of(&self, asked: &Asked) -> Option<How> {
        let trouble = *self.trouble();
        trouble.filter(|(_, of)| asked.is_among(*of)).map(|(how, _)| how)
    }

    fn count(&self, asked: &Asked, how: How) {
        let mut met = self.met();
        let counts = if asked.is_put() { &mut met.puts } else { &mut met.reads };
        *counts.entry(how).or_default() += 1;
    }
}

/// The first line of a request.
struct Asked {
    method: String,
    target: String,
}

impl Asked {
    fn of(head: &str) -> Asked {
        let mut words = head.split(' ');
        let mut next = || words.next().unwrap_or_default().to_owned();
        Asked { method: next(), target: next() }
    }

    fn is_put(&self) -> bool {
        self.method == "PUT"
    }

    fn is_among(&self, of: Of) -> bool {
        let puts = self.is_put() && self.target.contains("/v1/");
        let reads = self.method == "GET" || self.method == "HEAD";
        match of {
            Of::Puts => puts,
            Of::Reads => reads,
            Of::Both => puts || reads,
        }
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = room.clone().acquire_owned().await.expect("nobody closes the semaphore");
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            // A connection that breaks is nobody's but the client's.
            let _ = tokio::time::timeout(DEADLINE, one_request(client, &shared)).await;
            drop(place);
        });
    }
}

async fn one_request(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (head, mut body) = read_head(&mut client).await?;
    let asked = Asked::of(&head);
    let trouble = shared.trouble_of(&asked);
    if trouble == Some(How::CutUpload) {
        let half = length_of(&head) / 2;
        read_until(&mut client, &mut body, |body| body.len() >= half).await?;
        shared.count(&asked, How::CutUpload);
        // The client reads a reset.
        return client.set_zero_linger();
    }
    read_until(&mut client, &mut body, |body| is_whole(&head, body)).await?;
    if let Some((how, refusal)) = trouble.and_then(|how| Some((how, refusal(how)?))) {
        shared.count(&asked, how);
        return client.write_all(refusal.as_bytes()).await;
    }
    let is_slow = trouble == Some(How::Slow);
    if is_slow {
        shared.count(&asked, How::Slow);
    }
    let answer = ask_store(shared.store_port, &head, &body, is_slow).await?;
    let is_taken = answer.status.starts_with('2');
    match trouble {
        Some(How::AnswerLost) if is_taken => {
            shared.met().unanswered.insert(asked.target);
            return Ok(());
        }
        Some(How::AnswerLost) if answer.status == "412" => {
            let is_its_own = shared.met().unanswered.remove(&asked.target);
            if is_its_own {
                shared.count(&asked, How::AnswerLost);
            }
        }
        Some(How::Silent) if is_taken => {
            shared.count(&asked, How::Silent);
            // Which ends when the client closes the connection.
            let _ = client.read_u8().await;
            return Ok(());
        }
        _ => {}
    }
    send(&mut client, &answer.bytes, is_slow).await
}

struct Answer {
    status: String,
    /// All of it.
    bytes: Vec<u8>,
}

async fn ask_store(port: u16, head: &str, body: &[u8], is_slow: bool) -> io::Result<Answer> {
    let mut store = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    store.set_nodelay(true)?;
    send(&mut store, &[closing(head).as_bytes(), body].concat(), is_slow).await?;
    let (head, mut body) = read_head(&mut store).await?;
    store.take(MOST_BYTES as u64).read_to_end(&mut body).await?;
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Answer { status, bytes: [closing(&head).as_bytes(), &body[..]].concat() })
}

/// The whole answer of a store that refuses; `None`: it does not refuse.
fn refusal(how: How) -> Option<String> {
    let (status, code) = match how {
        How::ServerError => ("500 Internal Server Error", "InternalError"),
        How::SlowDown => ("503 Slow Down", "SlowDown"),
        How::Conflict => ("409 Conflict", "ConditionalRequestConflict"),
        How::NoRoom => ("507 Insufficient Storage", "InsufficientStorage"),
        How::Forbidden => ("403 Forbidden", "AccessDenied"),
        How::AnswerLost | How::Silent | How::CutUpload | How::Slow => return None,
    };
    let body = format!("<Error><Code>{code}</Code><Message>a fault of the test</Message></Error>");
    let length = body.len();
    Some(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    ))
}

/// At once, or in small parts.
async fn send(to: &mut TcpStream, bytes: &[u8], is_slow: bool) -> io::Result<()> {
    if !is_slow {
        return to.write_all(bytes).await;
    }
    for part in bytes.chunks(bytes.len().div_ceil(PARTS).max(1)) {
        to.write_all(part).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The head with the empty line at its end, and what came behind it.
async fn read_head(from: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    read_until(from, &mut bytes, |bytes| head_end(bytes).is_some()).await?;
    let behind = bytes.split_off(head_end(&bytes).unwrap_or(bytes.len()));
    let head = String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((head, behind))
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

async fn read_until(
    from: &mut TcpStream,
    bytes: &mut Vec<u8>,
    is_enough: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    while !is_enough(&bytes[..]) {
        if bytes.len() > MOST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.reserve(16 << 10);
        if from.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// The head, which says that nothing more comes on this connection.
fn closing(head: &str) -> String {
    let is_kept = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
    let lines: Vec<&str> = head.trim_end().split("\r\n").filter(is_kept).collect();
    format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n"))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn length_of(head: &str) -> usize {
    field(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Whether all of the body is there. One that is `aws-chunked` says its length, too.
fn is_whole(head: &str, body: &[u8]) -> bool {
    let is_chunked =
        field(head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    if is_chunked { has_last_chunk(body) } else { body.len() >= length_of(head) }
}

/// Whether the chunk without bytes is there, and what may follow it. What is not chunked at all the store shall judge.
fn has_last_chunk(mut body: &[u8]) -> bool {
    loop {
        let Some(end) = body.windows(2).position(|window| window == b"\r\n") else { return false };
        let line = String::from_utf8_lossy(&body[..end]);
        let digits = line.split(';').next().unwrap_or_default().trim();
        match usize::from_str_radix(digits, 16) {
            Err(_) => return true,
            Ok(0) => return head_end(&body[end..]).is_some(),
            Ok(size) => match body.get(size.saturating_add(end + 4)..) {
                Some(rest) => body = rest,
                None => return false,
            },
        }
    }
}

#[test]
fn a_body_is_whole_when_its_last_byte_is_there() {
    let sized = "PUT /a HTTP/1.1\r\nHost: b\r\ncontent-length: 5\r\n\r\n";
    let chunked = "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bodies: [(&str, &[u8]); 4] = [
        (sized, b"hello"),
        (chunked, b"5\r\nhello\r\n0\r\n\r\n"),
        (chunked, b"a;name=value\r\n0123456789\r\n1\r\n!\r\n0\r\nCheck: sum\r\n\r\n"),
        ("GET /a HTTP/1.1\r\nHost: b\r\n\r\n", b""),
    ];
    for (head, body) in bodies {
        for length in 0..body.len() {
            assert!(!is_whole(head, &body[..length]), "{head}{length}");
        }
        assert!(is_whole(head, body), "{head}");
    }
}

#[test]
fn each_side_reads_that_the_connection_ends() {
    let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nETag: \"a\"\r\n\r\n";
    assert_eq!(closing(head), "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nConnection: close\r\n\r\n");
    let asked = Asked::of("PUT /lessons/roombridge/v1/topic%3Da/1.zst HTTP/1.1\r\n\r\n");
    assert!(asked.is_among(Of::Puts) && asked.is_among(Of::Both) && !asked.is_among(Of::Reads));
    let proof = Asked::of("PUT /lessons/roombridge/control/created-once HTTP/1.1\r\n\r\n");
    assert!(!proof.is_among(Of::Puts));
}
