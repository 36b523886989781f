//! What one caller may take from the others: nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use roombridge_embedded::ClientEventKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::protocol::{MQTT_SUBPROTOCOL, websocket};
use crate::support::{Events, Running};
use crate::wire::{PUBACK, QUOTA_EXCEEDED, Wire, hello, reason};

const CROWD: usize = 5_000;
/// Files that the test and the broker need for everything else.
const OTHER_FILES: usize = 500;
const AT_ONCE: Duration = Duration::from_secs(2);

async fn expect_cut(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_places_are_taken_the_next_client_is_turned_away() {
    let (mut events, sender) = Events::new(64);
    let running = Running::with(|client_policy| {
        client_policy.max_connections = 2;
        events.listen(client_policy, sender);
    })
    .await;
    let first = Wire::connect(running.port, &hello(5, "first")).await;
    let mut second = Wire::connect(running.port, &hello(4, "second")).await;
    let mut third = Wire::over(Wire::open(running.port).await, 5, false);
    third.expect_closed().await;
    let mut page = Wire::open(running.websocket_port).await;
    timeout(AT_ONCE, expect_cut(&mut page)).await.expect("no place at the other door");

    second.ping().await;
    first.goodbye().await;
    while events.next().await.what != ClientEventKind::Gone {}
    let mut third = Wire::connect(running.port, &hello(5, "third")).await;
    third.ping().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_takes_the_place_of_the_longest_silent_caller() {
    let running = Running::with(|client_policy| client_policy.max_connections = 3).await;
    let _admitted = Wire::connect(running.port, &hello(5, "admitted")).await;
    let mut oldest = Wire::open(running.websocket_port).await;
    // So that the broker has seen it before the other.
    let (_, mut younger) = websocket(running.websocket_port, "/mqtt", MQTT_SUBPROTOCOL).await;

    let mut client = Wire::connect(running.port, &hello(5, "client")).await;
    timeout(AT_ONCE, expect_cut(&mut oldest)).await.expect("the oldest is cut");
    let mut other = Wire::connect(running.port, &hello(5, "other")).await;
    timeout(AT_ONCE, expect_cut(&mut younger)).await.expect("then the younger");
    client.ping().await;
    other.ping().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_says_connect_is_cut_within_10_s() {
    let running = Running::plain().await;
    let silent = Wire::open(running.port).await;
    let silent_page = Wire::open(running.websocket_port).await;
    let (_, page_without_connect) = websocket(running.websocket_port, "/mqtt", MQTT_SUBPROTOCOL).await;
    let mut half = Wire::open(running.port).await;
    half.write_all(&hello(5, "half").bytes()[..9]).await.unwrap();
    let mut half_page = Wire::open(running.websocket_port).await;
    half_page.write_all(b"GET /mqtt HTTP/1.1\r\nHost:").await.unwrap();
    let mut speaking = Wire::connect(running.port, &hello(5, "speaking")).await;

    let started = Instant::now();
    for mut caller in [silent, silent_page, page_without_connect, half, half_page] {
        timeout(Duration::from_secs(10), expect_cut(&mut caller)).await.expect("a cut");
    }
    let after = started.elapsed();
    println!("silent callers were cut after {after:?}");
    assert!(after > Duration::from_secs(5) && after < Duration::from_secs(10), "{after:?}");
    speaking.ping().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_callers_do_not_delay_a_stop() {
    let running = Running::plain().await;
    let _silent = Wire::open(running.port).await;
    let _silent_page = Wire::open(running.websocket_port).await;
    // Doors take callers in order, so both are inside.
    Wire::connect(running.port, &hello(5, "client")).await.goodbye().await;
    websocket(running.websocket_port, "/mqtt", MQTT_SUBPROTOCOL).await;
    timeout(AT_ONCE, running.stop()).await.expect("a stop at once");
}

/// Raises the soft limit as far as the hard one allows, and says how many files there may be.
fn open_files() -> usize {
    let pid = std::process::id().to_string();
    let prlimit = |arguments: &[&str]| {
        let output = Command::new("prlimit")
            .args(["--pid", &pid])
            .args(arguments)
            .output()
            .expect("prlimit, of util-linux");
        String::from_utf8(output.stdout).unwrap()
    };
    let read = |column| {
        let text = prlimit(&["--nofile", "--raw", "--noheadings", "--output", column]);
        text.trim().parse().unwrap_or(usize::MAX)
    };
    let wanted = (2 * CROWD + OTHER_FILES).min(read("HARD"));
    if read("SOFT") < wanted {
        prlimit(&[&format!("--nofile={wanted}:")]);
    }
    read("SOFT")
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_silent_callers_do_not_stop_a_client_that_comes_later() {
    let running = Running::plain().await;
    // Both ends of a connection are in this process.
    let count = CROWD.min((open_files() - OTHER_FILES) / 2);
    let opening = Instant::now();
    let mut crowd = Vec::with_capacity(count);
    for number in 0..count {
        let port = [running.port, running.websocket_port][number % 2];
        crowd.push(Wire::open(port).await);
    }
    println!("{count} silent callers after {:?}", opening.elapsed());

    let started = Instant::now();
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    let (_, stream) = websocket(running.websocket_port, "/mqtt", MQTT_SUBPROTOCOL).await;
    let mut page = Wire::over(stream, 5, true);
    assert_eq!(page.say_hello(&hello(5, "page")).await.code, 0);
    page.subscribe(&[("room/message/1", 1)]).await;
    teacher.publish("room/message/1", 1, "hi").await;
    assert_eq!(page.message().await.payload, "hi");
    let took = started.elapsed();
    println!("two clients beside {count} silent callers: {took:?}");
    assert!(count >= 400, "too few files may be open for this test: {count}");
    assert!(took < AT_ONCE, "{took:?}");

    drop(crowd);
    teacher.ping().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_packet_ends_its_own_connection_only() {
    let running = Running::plain().await;
    let mut neighbour = Wire::connect(running.port, &hello(5, "neighbour")).await;
    for version in [4, 5] {
        let mut sender = Wire::connect(running.port, &hello(version, "sender")).await;
        // A PUBLISH that announces 256 MiB.
        sender.send(&[0x32, 0xff, 0xff, 0xff, 0x7f]).await;
        while sender.next().await.is_some() {}
        let mut stranger = Wire::over(Wire::open(running.port).await, version, false);
        stranger.send(&[0x10, 0xff, 0xff, 0xff, 0x7f]).await;
        while stranger.next().await.is_some() {}
        neighbour.ping().await;
    }
    // A large one is none of these.
    neighbour.subscribe(&[("large", 1)]).await;
    let payload = "x".repeat(8 << 20);
    neighbour.publish("large", 1, &payload).await;
    assert_eq!(neighbour.message().await.payload.len(), payload.len());
    running.stop().await;
}

/// Who may publish could otherwise leave something behind on any number of topics.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_later_subscribers_has_a_bound() {
    // The broker's own $SYS topics are among these.
    let running = Running::with(|client_policy| client_policy.max_retained = 60).await;
    let mut client = Wire::connect(running.port, &hello(5, "client")).await;
    let too_large = "x".repeat((64 << 10) + 1);
    client.send_publish("large", 1, true, &too_large).await;
    assert_eq!(reason(&client.expect(PUBACK).await), QUOTA_EXCEEDED);
    let mut kept = 0;
    loop {
        client.send_publish(&format!("topic/{kept}"), 1, true, "x").await;
        match reason(&client.expect(PUBACK).await) {
            0 => kept += 1,
            refused => break assert_eq!(refused, QUOTA_EXCEEDED),
        }
    }
    assert!((1..=60).contains(&kept), "{kept}");
    // What is there may change, and what is not to be kept passes.
    client.publish_with("topic/0", 1, true, "y").await;
    client.publish("topic/beyond", 1, "x").await;
    running.stop().await;
}

/// A CONNECT may announce up to the packet limit; nobody keeps so much for a stranger.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_fill_the_memory() {
    let running = Running::plain().await;
    let mut stranger = Wire::open(running.port).await;
    // A CONNECT that announces 8 MiB.
    stranger.write_all(&[0x10, 0x80, 0x80, 0x80, 0x04]).await.unwrap();
    let part = vec![0; 1 << 20];
    // Fails when the cut comes first.
    let _ = stranger.write_all(&part).await;
    timeout(AT_ONCE, expect_cut(&mut stranger)).await.expect("a cut before the rest has come");
    running.stop().await;
}
