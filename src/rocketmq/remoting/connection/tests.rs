use super::*;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(100);

async fn connected() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
    let (connection, accepted) = tokio::join!(Connection::open(address, None, SOON), listener.accept());
    (connection.unwrap(), accepted.unwrap().0)
}

fn request(code: i32) -> Request<'static> {
    Request { code, fields: Vec::new(), body: Bytes::from_static(b"body") }
}

/// The opaque and the code of the next request.
async fn next_request(server: &mut TcpStream) -> (i64, i64) {
    let length = server.read_u32().await.unwrap();
    let header_bytes = server.read_u32().await.unwrap();
    let mut header = vec![0; header_bytes as usize];
    server.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; (length - 4 - header_bytes) as usize];
    server.read_exact(&mut body).await.unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    (header["opaque"].as_i64().unwrap(), header["code"].as_i64().unwrap())
}

async fn answer(server: &mut TcpStream, opaque: i64, code: i64) {
    let header = format!(r#"{{"code":{code},"flag":1,"opaque":{opaque}}}"#);
    server.write_u32(4 + header.len() as u32).await.unwrap();
    server.write_u32(header.len() as u32).await.unwrap();
    server.write_all(header.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (connection, mut server) = connected().await;
    let serve = async {
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(next_request(&mut server).await);
        }
        for (opaque, code) in asked.into_iter().rev() {
            answer(&mut server, opaque, code + 100).await;
        }
    };
    let calls = async {
        let call = |code| connection.call(request(code), SOON);
        tokio::join!(call(1), call(2), call(3))
    };
    let ((first, second, third), ()) = tokio::join!(calls, serve);
    assert_eq!([first, second, third].map(|answer| answer.unwrap().code), [101, 102, 103]);
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline_and_the_others_go_on() {
    let (connection, mut server) = connected().await;
    let late = connection.call(request(1), SHORT).await.unwrap_err();
    assert_eq!(late.kind(), FailureKind::Timeout, "{late}");
    let (call, ()) = tokio::join!(connection.call(request(2), SOON), async {
        let (late, _) = next_request(&mut server).await;
        let (opaque, _) = next_request(&mut server).await;
        // An answer that nobody waits for is thrown away.
        answer(&mut server, late, 1).await;
        answer(&mut server, opaque, 2).await;
    });
    assert_eq!(call.unwrap().code, 2);
}

#[tokio::test]
async fn with_the_connection_all_its_calls_end() {
    let (connection, server) = connected().await;
    let (first, second, ()) =
        tokio::join!(connection.call(request(1), SOON), connection.call(request(2), SOON), async {
            drop(server);
        });
    for call in [first, second] {
        assert_eq!(call.unwrap_err().kind(), FailureKind::Transport);
    }
    assert!(connection.has_ended());
    let later = connection.call(request(3), SOON).await.unwrap_err();
    assert_eq!(later.kind(), FailureKind::Transport, "{later}");
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_connection() {
    let (connection, mut server) = connected().await;
    let (call, written) =
        tokio::join!(connection.call(request(1), SOON), server.write_all(b"HTTP/1.1 400 Bad Request"));
    written.unwrap();
    let error = call.unwrap_err();
    assert!(error.to_string().contains("a frame of"), "{error}");
}

/// The body is larger than what the kernel holds for a server that reads nothing.
#[tokio::test]
async fn a_server_that_reads_nothing_holds_nobody_beyond_the_deadline() {
    let (connection, mut server) = connected().await;
    let body = Bytes::from(vec![7; 16 << 20]);
    let large = || Request { code: 1, fields: Vec::new(), body: body.clone() };
    let (first, second) = tokio::join!(connection.call(large(), SHORT), connection.call(request(2), SHORT));
    for call in [first, second] {
        assert_eq!(call.unwrap_err().kind(), FailureKind::Timeout);
    }
    // What was begun is still written whole, so that the server never reads half a frame.
    let (third, ()) = tokio::join!(connection.call(large(), SOON), async {
        for code in [1, 2, 1] {
            let (opaque, asked) = next_request(&mut server).await;
            assert_eq!(asked, code);
            answer(&mut server, opaque, 0).await;
        }
    });
    assert_eq!(third.unwrap().code, 0);
}

#[tokio::test]
async fn a_dropped_connection_is_closed() {
    let (connection, mut server) = connected().await;
    drop(connection);
    let read = tokio::time::timeout(SOON, server.read_u8()).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_an_error_that_names_it() {
    let address: Arc<str> = "127.0.0.1:1".into();
    let error = Connection::open(address, None, SOON).await.err().unwrap();
    assert!(error.to_string().starts_with("could not connect to 127.0.0.1:1: "), "{error}");
}
