use super::*;

use rocketmq_protocol::protocol::heartbeat::heartbeat_data::HeartbeatData;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const NOWHERE: &str = "127.0.0.1:1";

fn cluster(name_servers: &[&str]) -> Cluster {
    Cluster::new(options(name_servers))
}

fn options(name_servers: &[&str]) -> ClusterOptions {
    ClusterOptions {
        name_servers: name_servers.iter().map(|address| (*address).to_owned()).collect(),
        keys: None,
        timeout: Duration::from_secs(5),
        client: "client".to_owned(),
        group: "group".to_owned(),
        runtime: None,
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Answers `count` requests with that body.
async fn serve(server: &mut TcpStream, count: usize, body: &str) {
    for _ in 0..count {
        let length = server.read_u32().await.unwrap();
        let header_bytes = server.read_u32().await.unwrap() as usize;
        let mut rest = vec![0; length as usize - 4];
        server.read_exact(&mut rest).await.unwrap();
        let header: serde_json::Value = serde_json::from_slice(&rest[..header_bytes]).unwrap();
        let header = json!({ "code": 0, "flag": 1, "opaque": header["opaque"] }).to_string();
        server.write_u32((4 + header.len() + body.len()) as u32).await.unwrap();
        server.write_u32(header.len() as u32).await.unwrap();
        server.write_all(header.as_bytes()).await.unwrap();
        server.write_all(body.as_bytes()).await.unwrap();
    }
}

fn request() -> Request<'static> {
    Request { code: 1, fields: Vec::new(), body: Bytes::new() }
}

#[tokio::test]
async fn the_next_name_server_is_asked_when_one_is_away_and_asked_first_from_then_on() {
    let (listener, address) = listener().await;
    let cluster = cluster(&[NOWHERE, &address]);
    let route = r#"{"brokerDatas":[{"brokerName":"a","brokerAddrs":{0:"127.0.0.1:5"}}]}"#;
    let (first, ()) = tokio::join!(cluster.route("room"), async {
        let (mut server, _) = listener.accept().await.unwrap();
        serve(&mut server, 1, route).await;
        tokio::spawn(async move { serve(&mut server, 1, "{}").await });
    });
    let first = first.unwrap().unwrap();
    assert_eq!(first.broker_datas[0].broker_addrs[&0], "127.0.0.1:5");
    assert_eq!(cluster.route("room").await.unwrap(), Some(Route::default()));
    let asked_nowhere = cluster.server(NOWHERE);
    let failed_at = asked_nowhere.lock().failed.as_ref().unwrap().0;
    assert!(failed_at.elapsed() > Duration::ZERO, "the one that is away was asked once");
}

/// The first accepts and says nothing, as a paused process does; a limit around all of them must not be used up by it.
#[tokio::test]
async fn a_silent_name_server_holds_up_nobody_for_long_and_is_named_when_none_answers() {
    let ((silent, silent_address), (listener, address)) = (listener().await, listener().await);
    let cluster = cluster(&[&silent_address, &address]);
    let answers = tokio::spawn(async move {
        let (mut server, _) = listener.accept().await.unwrap();
        serve(&mut server, 2, "{}").await;
    });
    let limit = Duration::from_secs(2);
    let found = tokio::time::timeout(limit, cluster.route("room")).await.expect("within the limit of a send");
    assert_eq!(found.unwrap(), Some(Route::default()));
    // From now on the other one is asked first, and alone.
    let connections = silent.accept().await.unwrap();
    cluster.route("room").await.unwrap();
    answers.await.unwrap();
    drop(connections);

    // When both are away or silent, then each is named with its reason
    let options =
        ClusterOptions { timeout: Duration::from_millis(300), ..options(&[&silent_address, NOWHERE]) };
    let none = Cluster::new(options).route("room").await.unwrap_err().to_string();
    assert!(none.contains(&format!("{silent_address} did not answer within 300 ms")), "{none}");
    assert!(none.contains(&format!("could not connect to {NOWHERE}")), "{none}");
}

/// `tls.server.mode=enforcing`.
#[tokio::test]
async fn a_server_that_hangs_up_before_its_first_answer_is_told_apart() {
    let (listener, address) = listener().await;
    let cluster = cluster(&[&address]);
    let (unheard, ()) = tokio::join!(cluster.call(&address, request()), async {
        let (mut server, _) = listener.accept().await.unwrap();
        server.read_u32().await.unwrap();
    });
    assert!(matches!(unheard, Err(CallError::Unheard { .. })), "{unheard:?}");
    let (heard, ()) = tokio::join!(
        async {
            cluster.call(&address, request()).await.unwrap();
            cluster.call(&address, request()).await
        },
        async {
            let (mut server, _) = listener.accept().await.unwrap();
            serve(&mut server, 1, "").await;
            server.read_u32().await.unwrap();
        }
    );
    assert!(matches!(heard, Err(CallError::Ended { .. })), "{heard:?}");
}

#[tokio::test]
async fn callers_share_a_connection_and_after_its_end_there_is_a_new_one() {
    let (listener, address) = listener().await;
    // As a name server, because then no heartbeat comes between.
    let cluster = cluster(&[&address]);
    let (calls, mut server) = tokio::join!(
        async { tokio::join!(cluster.call(&address, request()), cluster.call(&address, request())) },
        async {
            let (mut server, _) = listener.accept().await.unwrap();
            serve(&mut server, 2, "").await;
            server
        }
    );
    assert!(calls.0.is_ok() && calls.1.is_ok());
    server.shutdown().await.unwrap();
    drop(server);
    let accept = async {
        let (mut server, _) = listener.accept().await.unwrap();
        serve(&mut server, 1, "").await;
    };
    let again = async {
        // The end of the old connection may not have been seen yet.
        while cluster.call(&address, request()).await.is_err() {}
    };
    tokio::join!(again, accept);
}

/// A page that was asked for ahead is polled once, and then perhaps not for minutes.
#[tokio::test]
async fn a_caller_that_nobody_polls_holds_nobody_up() {
    let (listener, address) = listener().await;
    let cluster = cluster(&[&address]);
    let mut opens = Box::pin(cluster.call(&address, request()));
    assert!(futures::poll!(&mut opens).is_pending());
    let mut waits = Box::pin(cluster.call(&address, request()));
    assert!(futures::poll!(&mut waits).is_pending());
    let (mut server, called) = tokio::join!(async { listener.accept().await.unwrap().0 }, async {
        tokio::time::timeout(Duration::from_secs(5), cluster.server(&address).connection(&address, &cluster))
            .await
    });
    called.unwrap().unwrap();
    let ((), called) = tokio::join!(serve(&mut server, 1, ""), cluster.call(&address, request()));
    called.unwrap();
    let ((), first, second) = tokio::join!(serve(&mut server, 2, ""), opens, waits);
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_once_however_many_lanes_try() {
    let cluster = cluster(&[]);
    let first = cluster.call(NOWHERE, request()).await.unwrap_err();
    let at = cluster.server(NOWHERE).lock().failed.as_ref().unwrap().0;
    let second = cluster.call(NOWHERE, request()).await.unwrap_err();
    assert_eq!(first.to_string(), second.to_string());
    let still = cluster.server(NOWHERE).lock().failed.as_ref().unwrap().0;
    assert_eq!(at, still, "the second call did not connect");
}

#[tokio::test]
async fn a_broker_hears_at_once_which_producer_is_there() {
    let (listener, address) = listener().await;
    let cluster = cluster(&[]);
    let (call, codes) = tokio::join!(cluster.call(&address, request()), async {
        let (mut server, _) = listener.accept().await.unwrap();
        let mut codes = Vec::new();
        for _ in 0..2 {
            let length = server.read_u32().await.unwrap();
            let header_bytes = server.read_u32().await.unwrap() as usize;
            let mut rest = vec![0; length as usize - 4];
            server.read_exact(&mut rest).await.unwrap();
            let header: serde_json::Value = serde_json::from_slice(&rest[..header_bytes]).unwrap();
            codes.push((
                header["code"].as_i64().unwrap(),
                String::from_utf8_lossy(&rest[header_bytes..]).into_owned(),
            ));
            let answer = json!({ "code": 0, "flag": 1, "opaque": header["opaque"] }).to_string();
            server.write_u32((4 + answer.len()) as u32).await.unwrap();
            server.write_u32(answer.len() as u32).await.unwrap();
            server.write_all(answer.as_bytes()).await.unwrap();
        }
        codes
    });
    call.unwrap();
    let heartbeat = codes.iter().find(|(code, _)| *code == i64::from(HEARTBEAT)).unwrap();
    assert!(heartbeat.1.contains(r#""groupName":"group""#), "{heartbeat:?}");
}

/// As the client library reads and writes it, with no field that nobody knows.
#[test]
fn a_heartbeat_is_what_the_client_library_would_send() {
    let ours: serde_json::Value = serde_json::from_slice(&cluster(&[]).heartbeat).unwrap();
    let theirs: HeartbeatData = serde_json::from_value(ours.clone()).unwrap();
    assert_eq!((theirs.client_id.as_str(), theirs.producer_data_set.len()), ("client", 1));
    assert_eq!(serde_json::to_value(theirs).unwrap(), ours);
}

/// So that the answers wake who sends without the kernel, whoever opened the connection.
#[test]
fn a_connection_lives_on_the_runtime_that_it_was_made_for() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let opener = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = ClusterOptions { runtime: Some(home.handle().clone()), ..options(&[]) };
    let cluster = Cluster::new(options);
    let (call, server, address) = opener.block_on(async {
        let (listener, address) = listener().await;
        let (call, server) = tokio::join!(cluster.call(&address, request()), async {
            let (mut server, _) = listener.accept().await.unwrap();
            serve(&mut server, 2, "").await;
            server.into_std().unwrap()
        });
        (call, server, address)
    });
    call.unwrap();
    // With the opener gone, the connection still answers.
    drop(opener);
    server.set_nonblocking(true).unwrap();
    home.block_on(async {
        let mut server = TcpStream::from_std(server).unwrap();
        let (again, ()) = tokio::join!(cluster.call(&address, request()), serve(&mut server, 1, ""));
        again.unwrap();
    });
}

#[tokio::test]
async fn without_any_name_server_there_is_an_error() {
    assert!(
        matches!(cluster(&[]).route("room").await, Err(NameServerError::NoAnswer(failed)) if failed.is_empty())
    );
}
