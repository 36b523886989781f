use super::*;

use std::net::SocketAddr;

use cheetah_string::CheetahString;
use proptest::prelude::*;
use rocketmq_model::common::message::MessageTrait;
use rocketmq_model::common::message::message_ext::MessageExt;
use rocketmq_protocol::common::message::message_decoder::{decodes_batch, encode};

fn queue() -> QueueName {
    QueueName { broker: "broker-a".into(), id: 3 }
}

/// What the client library makes of the same bytes.
fn of_the_library(message: &MessageExt) -> StoredMessage {
    let pairs = message.properties().iter();
    StoredMessage {
        topic: message.topic().to_string(),
        tag: message.get_tags().map(|tag| tag.to_string()).unwrap_or_default(),
        keys: message.get_keys().map(|keys| keys.to_string()).unwrap_or_default(),
        queue: queue(),
        queue_offset: not_negative(message.queue_offset()),
        stored_ms: not_negative(message.store_timestamp()),
        born_ms: not_negative(message.born_timestamp()),
        flag: message.get_flag(),
        properties: pairs.map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        body: message.body().unwrap_or_default(),
    }
}

fn ours(mut bytes: Bytes) -> Result<Vec<StoredMessage>, Unreadable> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        messages.push(take_message(&mut bytes, &queue())?);
    }
    Ok(messages)
}

fn message(flag: i32, body: &[u8]) -> MessageExt {
    let mut message = MessageExt::default();
    message.set_topic("room".into());
    message.message.set_body(Some(Bytes::copy_from_slice(body)));
    message.set_sys_flag(flag);
    let host = |bit| if flag & bit == 0 { "127.0.0.1:10911" } else { "[2001:db8::1]:10911" };
    message.set_born_host(host(PRODUCER_HAS_IPV6).parse::<SocketAddr>().unwrap());
    message.set_store_host(host(BROKER_HAS_IPV6).parse::<SocketAddr>().unwrap());
    message
}

prop_compose! {
    fn any_message()(
        topic in "[%a-zA-Z0-9_|é-]{1,40}",
        body in prop::collection::vec(any::<u8>(), 1..300),
        properties in prop::collection::btree_map("[a-zA-Zé ]{0,12}", "[^\u{1}\u{2}]{0,30}", 0..8),
        tag in "[a-z/*| ]{0,8}",
        keys in "[a-z0-9 -]{0,8}",
        (compression, addresses, transaction) in (0..5, 0..4, 0..4),
        numbers in any::<[i64; 3]>(),
    ) -> MessageExt {
        let compressed = if compression == 4 { 0 } else { COMPRESSED | compression << 8 };
        let mut message = message(compressed | addresses << 4 | transaction << 2, &body);
        message.set_topic(topic.into());
        let own = [("TAGS".to_owned(), tag), ("KEYS".to_owned(), keys)];
        for (name, value) in properties.into_iter().chain(own) {
            message.message.properties_mut().as_map_mut().insert(name.into(), CheetahString::from(value));
        }
        message.message.set_flag(numbers[0] as i32);
        message.set_queue_offset(numbers[0]);
        message.set_store_timestamp(numbers[1]);
        message.set_born_timestamp(numbers[2]);
        message
    }
}

fn page_of(messages: &[MessageExt]) -> Bytes {
    let encoded = messages.iter().map(|message| encode(message, true).unwrap());
    encoded.flatten().collect()
}

proptest! {
    #[test]
    fn a_page_is_read_as_the_client_library_reads_it(messages in prop::collection::vec(any_message(), 0..5)) {
        let page = page_of(&messages);
        let expected: Vec<_> = decodes_batch(&mut page.clone(), true, true).iter().map(of_the_library).collect();
        prop_assert_eq!(expected.len(), messages.len());
        prop_assert_eq!(ours(page).unwrap(), expected);
    }

    #[test]
    fn a_page_that_is_cut_gives_its_whole_messages_and_an_error(message in any_message(), at in any::<prop::sample::Index>()) {
        let whole = page_of(&[message]);
        let cut = whole.slice(..at.index(whole.len()));
        let mut page: Bytes = [whole.clone(), cut.clone()].concat().into();
        prop_assert!(take_message(&mut page, &queue()).is_ok());
        prop_assert_eq!(ours(page).is_ok(), cut.is_empty());
    }

    #[test]
    fn damage_is_an_error_or_another_message(
        messages in prop::collection::vec(any_message(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut page = page_of(&messages).to_vec();
        for (at, byte) in damage {
            let at = at.index(page.len());
            page[at] = byte;
        }
        // It ends, and does not panic.
        let _ = ours(page.into());
    }

    #[test]
    fn bytes_that_are_anything_are_no_danger(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ours(bytes.into());
    }
}

#[test]
fn a_body_is_a_part_of_the_page() {
    let page = page_of(&[message(0, b"hello")]);
    let range = page.as_ptr_range();
    let body = ours(page).unwrap().remove(0).body;
    assert!(range.contains(&body.as_ptr()));
}

#[test]
fn a_topic_with_a_long_length_is_read() {
    let mut page = page_of(&[message(0, b"hello")]).to_vec();
    page[4..8].copy_from_slice(&MAGIC_LONG_TOPIC.to_be_bytes());
    let length = page.len() - "room".len() - 3;
    page.insert(length, 0);
    let total_bytes = page.len() as u32;
    page[..4].copy_from_slice(&total_bytes.to_be_bytes());
    assert_eq!(ours(page.into()).unwrap()[0].topic, "room");
}

/// The frame with that flag around a body that is not compressed any further.
fn with_body(flag: i32, body: &[u8]) -> Result<StoredMessage, Unreadable> {
    let mut page = encode(&message(flag, body), false).unwrap();
    take_message(&mut page, &queue())
}

/// Apache's Java client writes frames; the Rust client, which the other test speaks for, writes blocks and reads no frames.
#[test]
fn lz4_is_read_as_apaches_client_writes_it() {
    let mut frames = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut frames, &[b'x'; 100_000]).unwrap();
    let body = frames.finish().unwrap();
    assert_eq!(with_body(COMPRESSED | 1 << 8, &body).unwrap().body, [b'x'; 100_000][..]);
    let mut page = encode(&message(COMPRESSED | 1 << 8, &body), false).unwrap();
    assert_eq!(
        decodes_batch(&mut page, true, true).len(),
        0,
        "the library reads it now: docs/ARCHITECTURE.md says no"
    );
}

#[test]
fn a_small_body_that_becomes_huge_is_an_error() {
    let huge = vec![0; MAX_BODY_BYTES + 1];
    let body = zstd::encode_all(&huge[..], 1).unwrap();
    assert!(body.len() < 100_000);
    let error = with_body(COMPRESSED | 2 << 8, &body).unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    let claim = [&(MAX_BODY_BYTES as u32 + 1).to_le_bytes()[..], &[0x10, b'x']].concat();
    assert!(with_body(COMPRESSED | 1 << 8, &claim).is_err());
}

#[test]
fn what_is_wrong_is_said() {
    let said = |flag, body: &[u8]| with_body(flag, body).unwrap_err().to_string();
    assert_eq!(said(COMPRESSED | 7 << 8, b"x"), "its body is compressed in an unknown way (7)");
    assert!(said(COMPRESSED, b"x").starts_with("its body cannot be decompressed: "));
    let of = |bytes: &'static [u8]| ours(Bytes::from_static(bytes)).unwrap_err().to_string();
    assert_eq!(of(b"\0\0\0\x08\xcb\xd4\x31\x94"), "it begins with 0xcbd43194, as no message does");
    for short in
        [&b"\0"[..], b"\0\0\0\0", b"\0\0\0\x04", b"\xff\xff\xff\xff\0", b"\0\0\0\x08\xda\xa3\x20\xa7"]
    {
        assert_eq!(of(short), "it ends too early");
    }
}
