use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::mqtt::wire::Connect;

/// A connection, as after its CONNACK, and the broker's side of it.
async fn connected() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connection = Connection {
        stream: Box::new(stream),
        address,
        received: BytesMut::new(),
        max_packet_bytes: 1 << 20,
        outbox: BytesMut::new(),
        broker_max_packet_bytes: None,
        unflushed: false,
        has_written: false,
    };
    (connection, listener.accept().await.unwrap().0)
}

/// A broker that closes its socket with something of ours unread makes our next write fail.
#[tokio::test]
async fn what_the_broker_said_before_it_hung_up_is_heard_although_nothing_can_be_written() {
    let (mut connection, mut broker) = connected().await;
    connection.push(&ToBroker::Ping).unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(50), connection.serve(false)).await;
    broker.write_all(&[0xe0, 2, 0x98, 0]).await.unwrap();
    drop(broker);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let said = loop {
        connection.push(&ToBroker::Ping).unwrap();
        if let Err(error) = connection.serve(true).await {
            break error;
        }
        if let Err(error) = connection.next_packet() {
            break error;
        }
    };
    assert!(matches!(&said, LinkError::Disconnected(goodbye) if goodbye.reason.contains("0x98")), "{said:?}");
}

fn target(place: String) -> Target {
    Target {
        place,
        tls: None,
        keep_alive: Duration::from_secs(30),
        connect: Connect {
            client_id: "story".to_owned(),
            clean_start: true,
            session_expiry_s: None,
            keep_alive_s: 30,
            receive_maximum: 10,
            max_packet_bytes: 1 << 20,
            login: None,
        },
    }
}

/// What is said of a broker that answers CONNECT so, and then closes or stays.
async fn said_of(answer: &[u8], stays: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().to_string());
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.unwrap();
        stream.read_exact(&mut vec![0; usize::from(head[1])]).await.unwrap();
        stream.write_all(answer).await.unwrap();
        match stays {
            true => std::future::pending().await,
            false => drop(stream),
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        opened = Connection::open(&target) => opened.err().expect("no connection").to_string(),
        () = answering => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn a_broker_of_mqtt_3_1_1_is_said_to_be_one_in_whatever_way_it_answers() {
    for stays in [false, true] {
        for (answer, code) in [
            (&[0x20, 2, 0, 1][..], "code 1, unacceptable protocol version"),
            (&[0x20, 3, 0, 1, 0], "code 1, unacceptable protocol version"),
            (&[0x20, 2, 0, 5], "code 5, not authorized"),
            (&[0x20, 2, 0, 0], "code 0, accepted"),
        ] {
            let said = said_of(answer, stays).await;
            assert!(
                said.starts_with("this broker seems to speak only MQTT 3.1.1: "),
                "{answer:02x?}: {said}"
            );
            assert!(
                said.contains(code) && said.contains("use a broker with MQTT 5"),
                "{answer:02x?}: {said}"
            );
        }
        let how = if stays { "does not answer CONNECT within 5 s" } else { "closes the connection" };
        let said = said_of(&[], stays).await;
        assert!(
            said.starts_with("this broker seems to speak only MQTT 3.1.1: ") && said.contains(how),
            "{said}"
        );
    }
}

/// A socket that is closed with unread bytes resets the connection.
#[tokio::test]
async fn a_broker_that_resets_the_connection_without_an_answer_is_said_to_speak_only_3_1_1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().to_string());
    let resetting = async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        drop(stream);
    };
    let said = tokio::join!(Connection::open(&target), resetting).0.err().unwrap().to_string();
    assert!(
        said.starts_with("this broker seems to speak only MQTT 3.1.1: it closes the connection"),
        "{said}"
    );
}

#[tokio::test]
async fn who_is_no_mqtt_broker_is_said_to_be_none() {
    let alert: &[u8] = &[0x15, 3, 3, 0, 2, 2, 10];
    for (answer, stays) in
        [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false), (b"SSH-2.0-x\r\n", true), (alert, false)]
    {
        let said = said_of(answer, stays).await;
        assert!(said.contains("does not speak MQTT") && said.contains("mqtts://"), "{answer:02x?}: {said}");
    }
}
