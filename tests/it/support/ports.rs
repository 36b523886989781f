//! Free ports, and waiting for something to become true.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

// Below the range from which the kernel takes ports for outgoing connections: a broker that is away for a while must
// find its port free again.
const FIRST: u16 = 15_000;
const LAST: u16 = 31_000;

static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// `count` different free ports, none of which this process gets a second time.
pub fn free_ports(count: usize) -> Vec<u16> {
    (0..count).map(|_| next_port(1, is_free)).collect()
}

pub fn free_port() -> u16 {
    next_port(1, is_free)
}

/// The port for a RocketMQ broker, which listens on the port two below it as well.
pub fn free_broker_port() -> u16 {
    next_port(3, |port| is_free(port) && is_free(port + 2)) + 2
}

fn next_port(width: u16, fits: impl Fn(u16) -> bool) -> u16 {
    let mut next = NEXT.lock().expect("no test panics while it holds the list of ports");
    // Two test processes at the same time start at different places.
    let mut port = next.unwrap_or_else(|| FIRST + (std::process::id() % 1_000) as u16 * 15);
    for _ in 0..(LAST - FIRST) {
        if port + width > LAST {
            port = FIRST;
        }
        if fits(port) {
            *next = Some(port + width);
            return port;
        }
        port += 1;
    }
    panic!("no free port between {FIRST} and {LAST}");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

pub fn accepts_connections(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Asks `condition` until it holds; panics with `what` when `deadline` is over.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
