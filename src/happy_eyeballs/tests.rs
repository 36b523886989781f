use super::*;

use tokio::net::{TcpListener, TcpSocket};

const LIMIT: Duration = Duration::from_secs(5);

/// An address at which SYNs stay without an answer: nobody accepts, and the queue of the listener is full.
struct Deaf {
    address: SocketAddr,
    _listener: TcpListener,
    _fill: Vec<TcpStream>,
}

async fn deaf() -> Deaf {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    // Until the kernel drops a SYN.
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await
    {
        fill.push(connected.unwrap());
        assert!(fill.len() < 100, "the queue never gets full");
    }
    Deaf { address, _listener: listener, _fill: fill }
}

async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn connect_to(
    addresses: &[SocketAddr],
    limit: Duration,
) -> (Result<TcpStream, ConnectError>, Duration) {
    let begun = Instant::now();
    let connected = connect_to_first(addresses.to_vec(), limit, begun + limit).await;
    (connected, begun.elapsed())
}

#[tokio::test]
async fn an_address_that_drops_syns_holds_the_next_one_up_for_a_quarter_of_a_second() {
    let deaf = deaf().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let (connected, took) = connect_to(&[deaf.address, there], LIMIT).await;
    assert_eq!(connected.unwrap().peer_addr().unwrap(), there);
    assert!(took >= NEXT_AFTER && took < LIMIT / 2, "{took:?}");
}

#[tokio::test]
async fn an_address_that_refuses_makes_room_at_once_and_a_first_one_that_answers_is_the_only_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let (connected, took) = connect_to(&[nobody().await, there], LIMIT).await;
    assert_eq!(connected.unwrap().peer_addr().unwrap(), there);
    assert!(took < NEXT_AFTER, "{took:?}");

    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (connected, _) = connect_to(&[there, second.local_addr().unwrap()], LIMIT).await;
    assert_eq!(connected.unwrap().peer_addr().unwrap(), there);
    let came = tokio::time::timeout(2 * NEXT_AFTER, second.accept()).await;
    assert!(came.is_err(), "nobody asks the second address");
}

#[tokio::test]
async fn an_error_says_of_each_address_what_became_of_it() {
    let (deaf, nobody) = (deaf().await, nobody().await);
    let limit = Duration::from_millis(600);
    let (connected, took) = connect_to(&[deaf.address, nobody], limit).await;
    let error = connected.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: no answer within 600 ms, {nobody}: ", deaf.address)), "{error}");
    assert!(error.contains("refused"), "{error}");
    assert!(took >= limit && took < limit + LIMIT, "it ends at its limit: {took:?}");
}

#[tokio::test]
async fn a_name_without_an_address_is_said_to_have_none() {
    let error = connect("nobody.invalid:1883", LIMIT).await.unwrap_err().to_string();
    assert!(error.starts_with("the address of nobody.invalid:1883 "), "{error}");
}

#[test]
fn the_families_take_turns_and_the_preferred_one_begins() {
    let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let found = all(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"]);
    let turns = all(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]);
    assert_eq!(families_in_turn(found), turns);
    assert_eq!(families_in_turn(Vec::new()), Vec::new());
}
