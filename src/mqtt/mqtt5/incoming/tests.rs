//! All reason codes of all answers, in each form that a broker may give them. A code is never an error of decoding, which
//! a new connection would only meet again.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish as Mqtt5Publish, PublishProperties};

use super::*;
use crate::mqtt::wire::{PublishVerdict, SubscribeVerdict};

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
fn decoded(bytes: &[u8]) -> FromBroker {
    for cut in 0..bytes.len() {
        let mut part = BytesMut::from(&bytes[..cut]);
        let early = read(&mut part, 1024);
        assert!(
            matches!(early, Err(ReadPacketError::Incomplete { .. })) && part.len() == cut,
            "{bytes:02x?} cut at {cut}: {early:?}"
        );
    }
    let mut received = BytesMut::from(bytes);
    received.extend_from_slice(&[0xd0, 0]);
    let packet = read(&mut received, 1024).unwrap_or_else(|error| panic!("{bytes:02x?}: {error:?}"));
    assert_eq!(read(&mut received, 1024).unwrap(), FromBroker::Pong, "{bytes:02x?}");
    packet
}

/// A reason in words, and what the broker says about it.
fn said(code: u8, words: &Option<String>) -> String {
    let words = words.as_ref().map_or(String::new(), |words| format!(" ({words:?})"));
    format!("{:?}{words}", Reason(code))
}

#[test]
fn a_connack_is_read_with_each_code() {
    for code in 0..=u8::MAX {
        for (properties, words) in forms() {
            let read = decoded(&packet(0x20, &[&[1, code], &with_length(&properties)]));
            match code {
                1..=5 => assert_eq!(read, FromBroker::Refused(Refusal::OnlyOlder(code))),
                0..0x80 => {
                    let FromBroker::Connack(connack) = read else { panic!("{read:?}") };
                    assert!(connack.session_present);
                }
                0x80.. => {
                    let FromBroker::Refused(Refusal::Denied { answer, .. }) = read else {
                        panic!("{read:?}")
                    };
                    assert_eq!(answer, said(code, &words));
                }
            }
        }
        let read = decoded(&packet(0x20, &[&[0, code]]));
        match code {
            0..0x80 => assert_eq!(read, FromBroker::Refused(Refusal::OnlyOlder(code))),
            0x80.. => {
                let FromBroker::Refused(Refusal::Denied { answer, .. }) = read else { panic!("{read:?}") };
                assert_eq!(answer, said(code, &None));
            }
        }
    }
    let FromBroker::Connack(connack) = decoded(&[0x20, 3, 0, 0, 0]) else { panic!("a CONNACK") };
    assert!(!connack.session_present);
}

#[test]
fn a_puback_is_read_with_each_code() {
    for code in 0..=u8::MAX {
        for (properties, words) in forms() {
            let read = decoded(&packet(0x40, &[&[1, 2, code], &with_length(&properties)]));
            let FromBroker::Puback(puback) = read else { panic!("{read:?}") };
            let mut answer = Answer::new(Reason(code));
            answer.words = words;
            assert_eq!((puback.packet_id, puback.verdict), (0x0102, answer.publish_verdict()));
        }
        let verdict = Answer::new(Reason(code)).publish_verdict();
        assert_eq!(
            decoded(&packet(0x40, &[&[1, 2, code]])),
            FromBroker::Puback(Puback { packet_id: 0x0102, verdict })
        );
    }
    let verdict = PublishVerdict::Accepted;
    assert_eq!(decoded(&[0x40, 2, 0, 9]), FromBroker::Puback(Puback { packet_id: 9, verdict }));
}

#[test]
fn a_suback_and_an_unsuback_are_read_with_each_code() {
    for code in 0..=u8::MAX {
        for (properties, words) in forms() {
            let words = words.map_or(String::new(), |words| format!(": {words:?}"));
            let reason = format!("{}{words}", Reason(code));
            let rest: [&[u8]; 3] = [&[0, 7], &with_length(&properties), &[code]];
            let verdict = match code {
                0 => SubscribeVerdict::Granted(Qos::AtMostOnce),
                1 => SubscribeVerdict::Granted(Qos::AtLeastOnce),
                2..0x80 => SubscribeVerdict::Granted(Qos::ExactlyOnce),
                0xa1 => SubscribeVerdict::IdentifiersNotSupported(reason.clone()),
                0x80.. => SubscribeVerdict::Refused(reason.clone()),
            };
            assert_eq!(decoded(&packet(0x90, &rest)), FromBroker::Suback(Suback { packet_id: 7, verdict }));
            let result = if code < 0x80 { Ok(()) } else { Err(reason) };
            assert_eq!(
                decoded(&packet(0xb0, &rest)),
                FromBroker::Unsuback(Unsuback { packet_id: 7, result })
            );

            let rest: [&[u8]; 3] = [&[0, 7], &with_length(&properties), &[code, 1]];
            let reason = "2 reasons in the answer to one filter".to_owned();
            let verdict = SubscribeVerdict::Unclear(reason.clone());
            assert_eq!(decoded(&packet(0x90, &rest)), FromBroker::Suback(Suback { packet_id: 7, verdict }));
            let result = Err(reason);
            assert_eq!(
                decoded(&packet(0xb0, &rest)),
                FromBroker::Unsuback(Unsuback { packet_id: 7, result })
            );
        }
    }
    let result = Err("0 reasons in the answer to one filter".to_owned());
    assert_eq!(decoded(&[0xb0, 2, 0, 7]), FromBroker::Unsuback(Unsuback { packet_id: 7, result }));
}

#[test]
fn a_disconnect_is_read_with_each_code() {
    let goodbye = |code, reason| {
        let remedy = Reason(code).remedy();
        FromBroker::Goodbye(Goodbye { session_taken_over: code == 0x8e, reason, remedy })
    };
    assert_eq!(decoded(&[0xe0, 0]), goodbye(0, said(0, &None)));
    for code in 0..=u8::MAX {
        assert_eq!(decoded(&[0xe0, 1, code]), goodbye(code, said(code, &None)));
        for (properties, words) in forms() {
            let read = decoded(&packet(0xe0, &[&[code], &with_length(&properties)]));
            assert_eq!(read, goodbye(code, said(code, &words)));
        }
    }
    let mut reference = vec![SERVER_REFERENCE, 0, 5];
    reference.extend(b"other");
    let FromBroker::Goodbye(goodbye) = decoded(&packet(0xe0, &[&[0x9c], &with_length(&reference)])) else {
        panic!("a DISCONNECT")
    };
    let said = goodbye.to_string();
    assert!(
        said.starts_with("0x9C use another server, it names the server \"other\"; set mqtt.url"),
        "{said}"
    );
}

/// rumqttc counts one byte too many for each subscription identifier and ends the properties early.
#[test]
fn the_payload_begins_behind_the_properties_however_many_identifiers_there_are() {
    for count in 0..10 {
        let mut properties: Vec<u8> = (1..=count).flat_map(|id| [0x0b, id]).collect();
        properties.extend([0x01, 1]);
        let rest: [&[u8]; 4] = [&[0, 1, b'a'], &[0, 5], &with_length(&properties), b"hello"];
        let FromBroker::Publish(publish) = decoded(&packet(0x32, &rest)) else { panic!("a PUBLISH") };
        assert_eq!((&publish.payload[..], publish.packet_id), (&b"hello"[..], 5));
        assert_eq!(publish.properties.payload_format, Some(1));
        assert_eq!(publish.subscription_identifiers, (1..=usize::from(count)).collect::<Vec<_>>());
    }
}

#[test]
fn what_rumqttc_writes_is_read_back() {
    let publish = Mqtt5Publish {
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
    let expected = Publish {
        topic: "room/message/1".to_owned(),
        payload: "hello".into(),
        qos: Qos::AtLeastOnce,
        retain: true,
        duplicate: true,
        packet_id: 300,
        properties: MqttProperties {
            user: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())],
            content_type: Some("text/plain".to_owned()),
            response_topic: Some("room/p2p/a".to_owned()),
            correlation_data: Some("c".into()),
            message_expiry_s: Some(70_000),
            payload_format: Some(1),
        },
        subscription_identifiers: vec![1, 300],
    };
    assert_eq!(decoded(&bytes), FromBroker::Publish(expected));
}

#[test]
fn what_is_no_packet_is_an_error() {
    let broken: [&[u8]; 7] = [
        &[0x20, 1, 0],                   // half a CONNACK
        &[0x36, 4, 0, 1, b'a', 0],       // QoS 3
        &[0x32, 6, 0, 1, b'a', 0, 0, 0], // packet identifier 0
        &[0x30, 4, 0, 9, b'a', 0],       // a topic beyond the packet
        &[0x30, 4, 0, 1, b'a', 9],       // properties beyond the packet
        &[0x30, 4, 0, 0, 0, b'a'],       // no topic
        &[0x10, 0],                      // CONNECT
    ];
    for bytes in broken {
        let read = read(&mut BytesMut::from(bytes), 1024);
        let error = read.expect_err("no packet");
        assert!(matches!(error, ReadPacketError::Malformed(_)), "{bytes:02x?}: {error:?}");
    }
    let too_large = read(&mut BytesMut::from(&[0x30, 0xff, 0x7f][..]), 1024);
    assert!(matches!(too_large, Err(ReadPacketError::Malformed(what)) if what.contains("exceeded")));
}
