//! A TCP proxy that breaks connections in the ways that networks do.
//!
//! Listens on loopback, forwards to a port of loopback. Bytes are never changed: they are late, cut off or not there. Only
//! the last words of an upstream that ends a connection without any can be put in its mouth.

use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Where bytes go: from the client, which connects to the proxy, or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    FromClient,
    ToClient,
}

/// Sees all bytes: those of the client when it has sent them, those to it just before they are written.
pub trait Tap: Send + Sync {
    fn bytes(&self, connection: u64, direction: Direction, bytes: &[u8]);
    fn closed(&self, connection: u64);
}

/// What is wrong with the network now; nothing by default.
#[derive(Debug, Clone, Default)]
struct Trouble {
    stalled: [bool; 2],
    latency: Duration,
    bytes_per_s: Option<u64>,
    /// Bytes that still pass in this direction; then the connection is reset.
    cut_after: [Option<u64>; 2],
    /// Connections end after a number of bytes out of this range, picked anew for each.
    random_resets: Option<Range<u64>>,
    refuse: bool,
    last_words: Option<&'static [u8]>,
}

struct Shared {
    trouble: Mutex<Trouble>,
    /// Each change resets all connections.
    cuts: watch::Sender<u64>,
    tap: Option<Arc<dyn Tap>>,
    random: AtomicU64,
    opened: AtomicU64,
    resets: AtomicU64,
    stop: AtomicBool,
}

pub struct TcpProxy {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl TcpProxy {
    pub fn start(upstream_port: u16) -> TcpProxy {
        TcpProxy::start_with(upstream_port, None)
    }

    pub fn start_with(upstream_port: u16, tap: Option<Arc<dyn Tap>>) -> TcpProxy {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let shared = Arc::new(Shared {
            trouble: Mutex::default(),
            cuts: watch::Sender::new(0),
            tap,
            random: AtomicU64::new(1),
            opened: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let owned = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(serve(listener, upstream_port, owned));
        });
        TcpProxy { port, shared, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were accepted so far.
    pub fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Connections that the proxy itself has ended.
    pub fn resets(&self) -> u64 {
        self.shared.resets.load(Ordering::Relaxed)
    }

    /// Resets all connections now.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets so many bytes more pass that way, over whichever connection, then resets that one, once.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.shared.trouble().cut_after[direction as usize] = Some(bytes);
    }

    /// Nothing passes that way, and connections stay open.
    pub fn stall(&self, direction: Direction) {
        self.shared.trouble().stalled[direction as usize] = true;
    }

    /// Each connection is reset after a random number of bytes out of `range`, counted over both ways.
    pub fn reset_at_random(&self, seed: u64, range: Range<u64>) {
        self.shared.random.store(seed.max(1), Ordering::Relaxed);
        self.shared.trouble().random_resets = Some(range);
        self.cut_all();
    }

    pub fn limit_bandwidth(&self, bytes_per_s: u64) {
        self.shared.trouble().bytes_per_s = Some(bytes_per_s);
    }

    pub fn add_latency(&self, latency: Duration) {
        self.shared.trouble().latency = latency;
    }

    /// New connections are closed at once, as if nobody listened.
    pub fn refuse(&self) {
        self.shared.trouble().refuse = true;
    }

    /// What the client reads when the upstream ends a connection, before the end.
    pub fn say_at_the_end(&self, last_words: &'static [u8]) {
        self.shared.trouble().last_words = Some(last_words);
    }

    /// The network is fine again.
    pub fn heal(&self) {
        *self.shared.trouble() = Trouble::default();
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.cut_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().expect("nobody panics while holding the trouble")
    }

    /// xorshift64*: the same seed, the same resets.
    fn next_random(&self, range: &Range<u64>) -> u64 {
        let mut x = self.random.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.store(x, Ordering::Relaxed);
        let spread = x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        range.start + spread % (range.end - range.start).max(1)
    }
}

async fn serve(listener: std::net::TcpListener, upstream_port: u16, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    let mut cuts = shared.cuts.subscribe();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = cuts.changed() => {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                continue;
            }
        };
        let Ok((client, _)) = client else { continue };
        if shared.trouble().refuse {
            let _ = client.set_zero_linger();
            continue;
        }
        let number = shared.opened.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::spawn(connection(client, upstream_port, number, shared.clone()));
    }
}

async fn connection(client: TcpStream, upstream_port: u16, number: u64, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    // Without an upstream the client's connection ends at once, as it would without the proxy.
    let Ok(upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream_port)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let range = shared.trouble().random_resets.clone();
    let budget = AtomicU64::new(range.map_or(u64::MAX, |range| shared.next_random(&range)));
    let (client_in, mut client_out) = client.into_split();
    let (upstream_in, mut upstream_out) = upstream.into_split();
    let both = async {
        let from_client = async {
            let sent = way(client_in, &mut upstream_out, Direction::FromClient, number, &shared, &budget);
            let sent = sent.await;
            // The last words still have to reach the client.
            if shared.trouble().last_words.is_some() { Ok(()) } else { sent }
        };
        tokio::try_join!(
            from_client,
            way(upstream_in, &mut client_out, Direction::ToClient, number, &shared, &budget),
        )
    };
    let broken = tokio::select! {
        ended = both => ended.is_err(),
        _ = cuts.changed() => true,
    };
    if broken {
        shared.resets.fetch_add(1, Ordering::Relaxed);
        let _ = client_out.as_ref().set_zero_linger();
        let _ = upstream_out.as_ref().set_zero_linger();
    }
    if let Some(tap) = &shared.tap {
        tap.closed(number);
    }
}

type Chunk = (Instant, Vec<u8>);

/// One direction of one connection. Bytes wait in a bounded queue, so that latency does not cost bandwidth.
async fn way(
    from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    direction: Direction,
    number: u64,
    shared: &Shared,
    budget: &AtomicU64,
) -> io::Result<()> {
    let (queue, chunks) = mpsc::channel(64);
    tokio::try_join!(
        read(from, queue, direction, number, shared),
        write(chunks, to, direction, number, shared, budget)
    )?;
    Ok(())
}

async fn read(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<Chunk>,
    direction: Direction,
    number: u64,
    shared: &Shared,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        let last_words = shared.trouble().last_words;
        if let (Some(last_words), Direction::ToClient, Ok(0) | Err(_)) = (last_words, direction, &read) {
            let _ = queue.send((Instant::now(), last_words.to_vec())).await;
            return Ok(());
        }
        let length = read?;
        if length == 0 {
            return Ok(());
        }
        if let (Some(tap), Direction::FromClient) = (&shared.tap, direction) {
            tap.bytes(number, direction, &buffer[..length]);
        }
        let due = Instant::now() + shared.trouble().latency;
        if queue.send((due, buffer[..length].to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut chunks: mpsc::Receiver<Chunk>,
    to: &mut OwnedWriteHalf,
    direction: Direction,
    number: u64,
    shared: &Shared,
    budget: &AtomicU64,
) -> io::Result<()> {
    while let Some((due, bytes)) = chunks.recv().await {
        tokio::time::sleep_until(due).await;
        let limit = shared.trouble().bytes_per_s;
        // Small pieces: a slow line is slow all the time, it does not stand still and then jump.
        let piece = limit.map_or(bytes.len(), |limit| (limit / 20).max(1) as usize);
        for part in bytes.chunks(piece) {
            while shared.trouble().stalled[direction as usize] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if let Some(limit) = limit {
                tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / limit as f64)).await;
            }
            let passes = allowed(part.len(), direction, shared, budget);
            if let (Some(tap), Direction::ToClient) = (&shared.tap, direction) {
                tap.bytes(number, direction, &part[..passes]);
            }
            to.write_all(&part[..passes]).await?;
            if passes < part.len() {
                // The peer shall see the beginning of the packet before the reset.
                tokio::time::sleep(Duration::from_millis(5)).await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }
    to.shutdown().await
}

/// How many of `wanted` bytes pass before the connection is to be cut.
fn allowed(wanted: usize, direction: Direction, shared: &Shared, budget: &AtomicU64) -> usize {
    let wanted = wanted as u64;
    let mut trouble = shared.trouble();
    let cut_after = &mut trouble.cut_after[direction as usize];
    let left = budget.load(Ordering::Relaxed);
    let passes = wanted.min(left).min(cut_after.unwrap_or(u64::MAX));
    budget.store(left.saturating_sub(passes), Ordering::Relaxed);
    *cut_after = match *cut_after {
        Some(after) if after < wanted => None,
        Some(after) => Some(after - wanted),
        None => None,
    };
    passes as usize
}
