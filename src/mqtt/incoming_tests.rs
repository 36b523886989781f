//! All reason codes of all answers, in each form that a broker may give them. A code is never an error of decoding, which
//! a new connection would only meet again.

use super::*;
use crate::mqtt::properties::{REASON_STRING, SERVER_REFERENCE};

/// The properties of each form: none, words, and one that nobody knows.
fn forms() -> [(Vec<u8>, Option<String>); 3] {
    let mut words = vec![REASON_STRING, 0, 4];
    words.extend(b"full");
    [(Vec::new(), None), (words, Some("full".to_owned())), (vec![0x7e, 1, 2, 3], None)]
}

/// First byte, length, and what follows.
fn packet(first: u8, rest: &[&[u8]]) -> Vec<u8> {
    let rest = rest.concat();
    let mut bytes = vec![first, u8::try_from(rest.len()).unwrap()];
    bytes.extend(rest);
    bytes
}

fn with_length(properties: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(properties.len()).unwrap()];
    bytes.extend(properties);
    bytes
}

/// What is read, and that nothing is read before the last byte is there and nothing beyond it.
fn decoded(bytes: &[u8]) -> Incoming {
    for cut in 0..bytes.len() {
        let mut part = BytesMut::from(&bytes[..cut]);
        let early = read(&mut part, 1024);
        assert!(
            matches!(early, Err(PacketError::InsufficientBytes(_))) && part.len() == cut,
            "{bytes:02x?} cut at {cut}: {early:?}"
        );
    }
    let mut received = BytesMut::from(bytes);
    received.extend_from_slice(&[0xd0, 0]);
    let packet = read(&mut received, 1024).unwrap_or_else(|error| panic!("{bytes:02x?}: {error}"));
    assert_eq!(read(&mut received, 1024).unwrap(), Incoming::PingResp, "{bytes:02x?}");
    packet
}

#[test]
fn a_connack_is_read_with_each_code() {
    for code in 0..=u8::MAX {
        for (properties, words) in forms() {
            let read = decoded(&packet(0x20, &[&[1, code], &with_length(&properties)]));
            let Incoming::ConnAck(connack) = read else { panic!("{read:?}") };
            assert!(connack.session_present && !connack.older_form);
            assert_eq!((connack.answer.reason, connack.answer.words), (Reason(code), words));
        }
        let read = decoded(&packet(0x20, &[&[0, code]]));
        let Incoming::ConnAck(connack) = read else { panic!("{read:?}") };
        assert!(!connack.session_present && connack.older_form);
        assert_eq!(connack.answer, Answer::new(Reason(code)));
    }
}

#[test]
fn a_puback_is_read_with_each_code() {
    for code in 0..=u8::MAX {
        for (properties, words) in forms() {
            let read = decoded(&packet(0x40, &[&[1, 2, code], &with_length(&properties)]));
            let Incoming::PubAck(puback) = read else { panic!("{read:?}") };
            assert_eq!((puback.packet_id, puback.answer.reason), (0x0102, Reason(code)));
            assert_eq!(puback.answer.words, words);
        }
        let answer = Answer::new(Reason(code));
        assert_eq!(
            decoded(&packet(0x40, &[&[1, 2, code]])),
            Incoming::PubAck(PubAck { packet_id: 0x0102, answer })
        );
    }
    let answer = Answer::new(Reason::SUCCESS);
    assert_eq!(decoded(&[0x40, 2, 0, 9]), Incoming::PubAck(PubAck { packet_id: 9, answer }));
}

#[test]
fn a_suback_and_an_unsuback_are_read_with_each_code() {
    for code in 0..=u8::MAX {
        for (properties, words) in forms() {
            let answer =
                || SubAck { packet_id: 7, reasons: vec![Reason(code), Reason(1)], words: words.clone() };
            let rest: [&[u8]; 3] = [&[0, 7], &with_length(&properties), &[code, 1]];
            assert_eq!(decoded(&packet(0x90, &rest)), Incoming::SubAck(answer()));
            assert_eq!(decoded(&packet(0xb0, &rest)), Incoming::UnsubAck(answer()));
        }
    }
    let none = SubAck { packet_id: 7, reasons: Vec::new(), words: None };
    assert_eq!(decoded(&[0xb0, 2, 0, 7]), Incoming::UnsubAck(none));
}

#[test]
fn a_disconnect_is_read_with_each_code() {
    assert_eq!(decoded(&[0xe0, 0]), Incoming::Disconnect(Answer::new(Reason::SUCCESS)));
    for code in 0..=u8::MAX {
        let bare = Incoming::Disconnect(Answer::new(Reason(code)));
        assert_eq!(decoded(&[0xe0, 1, code]), bare);
        for (properties, words) in forms() {
            let mut answer = Answer::new(Reason(code));
            answer.words = words;
            let read = decoded(&packet(0xe0, &[&[code], &with_length(&properties)]));
            assert_eq!(read, Incoming::Disconnect(answer));
        }
    }
    let mut reference = vec![SERVER_REFERENCE, 0, 5];
    reference.extend(b"other");
    let Incoming::Disconnect(answer) = decoded(&packet(0xe0, &[&[0x9c], &with_length(&reference)])) else {
        panic!("a DISCONNECT")
    };
    assert_eq!(answer.to_string(), "0x9C use another server, it names the server \"other\"");
}

/// rumqttc counts one byte too many for each subscription identifier and ends the properties early.
#[test]
fn the_payload_begins_behind_the_properties_however_many_identifiers_there_are() {
    for count in 0..10 {
        let mut properties: Vec<u8> = (1..=count).flat_map(|id| [0x0b, id]).collect();
        properties.extend([0x01, 1]);
        let rest: [&[u8]; 4] = [&[0, 1, b'a'], &[0, 5], &with_length(&properties), b"hello"];
        let Incoming::Publish(publish) = decoded(&packet(0x32, &rest)) else { panic!("a PUBLISH") };
        assert_eq!((&publish.payload[..], publish.pkid), (&b"hello"[..], 5));
        let read = publish.properties.unwrap();
        assert_eq!(read.payload_format_indicator, Some(1));
        assert_eq!(read.subscription_identifiers, (1..=usize::from(count)).collect::<Vec<_>>());
    }
}

#[test]
fn what_rumqttc_writes_is_read_back() {
    let publish = Publish {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "room/message/1".into(),
        pkid: 300,
        payload: "hello".into(),
        properties: Some(PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(70_000),
            topic_alias: Some(2),
            response_topic: Some("room/p2p/a".to_owned()),
            correlation_data: Some("c".into()),
            user_properties: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())],
            subscription_identifiers: vec![1, 300],
            content_type: Some("text/plain".to_owned()),
        }),
    };
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes).unwrap();
    assert_eq!(decoded(&bytes), Incoming::Publish(publish));
}

#[test]
fn what_is_no_packet_is_an_error() {
    let broken: [&[u8]; 6] = [
        &[0x20, 1, 0],                   // half a CONNACK
        &[0x36, 4, 0, 1, b'a', 0],       // QoS 3
        &[0x32, 6, 0, 1, b'a', 0, 0, 0], // packet identifier 0
        &[0x30, 4, 0, 9, b'a', 0],       // a topic beyond the packet
        &[0x30, 4, 0, 1, b'a', 9],       // properties beyond the packet
        &[0x10, 0],                      // CONNECT
    ];
    for bytes in broken {
        let read = read(&mut BytesMut::from(bytes), 1024);
        let error = read.expect_err("no packet");
        assert!(!matches!(error, PacketError::InsufficientBytes(_)), "{bytes:02x?}: {error}");
    }
    let too_large = read(&mut BytesMut::from(&[0x30, 0xff, 0x7f][..]), 1024);
    assert!(matches!(too_large, Err(PacketError::PayloadSizeLimitExceeded { .. })));
}
