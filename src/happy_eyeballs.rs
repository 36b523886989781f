//! Opens a TCP connection to a name that may have several addresses, as RFC 8305 ("Happy Eyeballs") says: an address that does
//! not answer holds the next one up for a quarter of a second.
//!
//! Promises: ends at its limit; its error says of each address that was tried what became of it.
//! Must never: be passed by. Each connection that we open to another machine is opened here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

/// The "Connection Attempt Delay" (RFC 8305, section 8).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// An error names so many addresses.
const NAMED: usize = 4;

/// Why there is no connection, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectError(String);

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectError {}

/// Connects to the first address of `place` that answers. `place`: `host:port`, an IPv6 address in brackets.
pub(crate) async fn connect(place: &str, limit: Duration) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + limit;
    let addresses = match timeout_at(deadline, lookup_host(place)).await {
        Ok(Ok(found)) => families_in_turn(found.collect()),
        Ok(Err(error)) => return Err(ConnectError(format!("the address of {place} is not known: {error}"))),
        Err(_) => {
            let ms = limit.as_millis();
            return Err(ConnectError(format!("the address of {place} was not found out within {ms} ms")));
        }
    };
    let connected = connect_to_first(addresses, limit, deadline).await;
    // Who wrote an address knows it.
    let itself = format!("{place}: ");
    connected
        .map_err(|ConnectError(words)| ConnectError(words.strip_prefix(&itself).unwrap_or(&words).to_owned()))
}

/// An address begins when the one before it has failed, or has not answered for [`NEXT_AFTER`]. The others are given up when one
/// has answered.
async fn connect_to_first(
    addresses: Vec<SocketAddr>,
    limit: Duration,
    deadline: Instant,
) -> Result<TcpStream, ConnectError> {
    let mut waiting = addresses.into_iter();
    let mut tried: Vec<(SocketAddr, Option<io::Error>)> = Vec::new();
    let mut attempts = FuturesUnordered::new();
    loop {
        if let Some(address) = waiting.next() {
            let at = tried.len();
            attempts.push(async move { (at, TcpStream::connect(address).await) });
            tried.push((address, None));
        } else if attempts.is_empty() {
            return Err(told(&tried, limit));
        }
        let until = match waiting.len() {
            0 => deadline,
            _ => deadline.min(Instant::now() + NEXT_AFTER),
        };
        match timeout_at(until, attempts.next()).await {
            Ok(Some((_, Ok(stream)))) => return Ok(stream),
            Ok(Some((at, Err(error)))) => {
                if let Some((_, outcome)) = tried.get_mut(at) {
                    *outcome = Some(error);
                }
            }
            Ok(None) => {}
            Err(_) if Instant::now() >= deadline => return Err(told(&tried, limit)),
            Err(_) => {}
        }
    }
}

/// The families take turns, beginning with that of the first address, which the system prefers (RFC 8305, section 4).
fn families_in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_family = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_family);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

fn told(tried: &[(SocketAddr, Option<io::Error>)], limit: Duration) -> ConnectError {
    let mut words: Vec<String> = tried
        .iter()
        .take(NAMED)
        .map(|(address, outcome)| match outcome {
            Some(error) => format!("{address}: {error}"),
            None => format!("{address}: no answer within {} ms", limit.as_millis()),
        })
        .collect();
    if tried.len() > NAMED {
        words.push(format!("and {} more", tried.len() - NAMED));
    }
    ConnectError(if words.is_empty() { "the name has no address".to_owned() } else { words.join(", ") })
}

#[cfg(test)]
mod tests;
