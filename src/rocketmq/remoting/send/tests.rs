use super::*;

use std::collections::{BTreeMap, HashSet};

use cheetah_string::CheetahString;
use proptest::prelude::*;
use rocketmq_model::common::message::MessageTrait;
use rocketmq_model::common::message::message_client_id_setter::MessageClientIDSetter;
use rocketmq_protocol::common::message::message_decoder::{decode_messages, str_to_message_properties};

use crate::model::{OutgoingProperties, QueueName};

const NOW_MS: u64 = 1_800_000_000_000;

fn batch(messages: Vec<OutgoingMessage>) -> Batch {
    Batch { topic: "room".into(), queue: QueueName { broker: "broker-a".into(), id: 3 }, messages }
}

fn message(body: &'static [u8], properties: &[(&'static str, &str)]) -> OutgoingMessage {
    let mut stored = OutgoingProperties::new("1 a-1", "message/1", 0);
    for (name, value) in properties {
        stored.push(name, value);
    }
    OutgoingMessage { properties: stored, body: Bytes::from_static(body) }
}

fn read(properties: &str) -> BTreeMap<String, String> {
    let read = str_to_message_properties(Some(&CheetahString::from(properties)));
    read.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// What the library must find: ours, and a UNIQ_KEY and WAIT.
fn expected(message: &OutgoingMessage, found: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let named = [("TAGS", message.tag()), ("KEYS", message.keys())];
    let named = named.into_iter().filter(|(_, value)| !value.is_empty());
    let mut all: BTreeMap<String, String> =
        named.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    all.extend(message.properties.user().map(|(name, value)| (name.to_owned(), value.to_owned())));
    all.insert("WAIT".to_owned(), "true".to_owned());
    all.extend(found.get_key_value("UNIQ_KEY").map(|(name, value)| (name.clone(), value.clone())));
    all
}

fn value(request: &Request<'_>, name: &str) -> String {
    let found = request.fields.iter().find(|(candidate, _)| *candidate == name);
    found.map(|(_, value)| value.to_string()).unwrap()
}

/// Its properties would otherwise be JSON in the header, where each separator takes six bytes.
#[test]
fn small_messages_are_a_batch_also_when_one_is_alone() {
    let ids = UniqKeys::new();
    let one = message(b"hello", &[("rbId", "a-1")]);
    for messages in [vec![one.clone()], vec![one.clone(), one]] {
        let whole = batch(messages);
        let request = send_request(&whole, "group", &ids, NOW_MS).unwrap();
        assert_eq!(
            (request.code, value(&request, "m").as_str(), value(&request, "i").as_str()),
            (320, "true", "")
        );
        let queue = ["a", "b", "e", "n", "g"].map(|name| value(&request, name));
        assert_eq!(queue, ["group", "room", "3", "broker-a", "1800000000000"]);
        let found = decode_messages(&mut request.body.clone());
        assert_eq!(found.len(), whole.messages.len());
    }
}

#[test]
fn a_large_message_that_is_alone_is_a_request_of_its_own_kind() {
    static LARGE: [u8; 4096] = [b'x'; 4096];
    let ids = UniqKeys::new();
    let one = message(&LARGE, &[("rbId", "a-1")]);
    let single = batch(vec![one.clone()]);
    let request = send_request(&single, "group", &ids, NOW_MS).unwrap();
    assert_eq!((request.code, &request.body[..]), (310, &LARGE[..]));
    let properties = read(&value(&request, "i"));
    assert_eq!(properties, expected(&one, &properties));
    assert_eq!(properties["UNIQ_KEY"].len(), 32);
    assert_eq!(value(&request, "m"), "false");
}

#[test]
fn what_the_format_cannot_hold_is_an_error() {
    let ids = UniqKeys::new();
    let cause = |first: OutgoingMessage| {
        let whole = batch(vec![first, message(b"well", &[])]);
        send_request(&whole, "group", &ids, NOW_MS).map(|_| ()).unwrap_err()
    };
    assert_eq!(cause(message(b"", &[])), Unwritable::NoBody);
    assert_eq!(cause(message(b"a", &[("name", "")])), Unwritable::Property);
    assert_eq!(cause(message(b"a", &[("name", "a\u{2}b")])), Unwritable::Property);
    assert_eq!(cause(message(b"a", &[("na\u{1}me", "a")])), Unwritable::Property);
    let large = "x".repeat(33_000);
    assert!(matches!(cause(message(b"a", &[("name", &large)])), Unwritable::Properties(33_000..)));
}

#[test]
fn the_time_of_a_uniq_key_is_read_by_the_client_library() {
    // The library takes a key of this very millisecond for one of the month before.
    let now_ms = jiff::Timestamp::now().as_millisecond() as u64 - 1_000;
    let keys = UniqKeys::new();
    let key = String::from_utf8(keys.next(keys.month_ms(now_ms)).to_vec()).unwrap();
    let read = MessageClientIDSetter::get_nearly_time_from_id(&key).unwrap().timestamp_millis();
    assert!(read.abs_diff(now_ms as i64) <= 1, "{read} for {now_ms}");
}

proptest! {
    /// The client library finds each message in the batch as it was given, and a batch that is filled by `encoded_bytes` is not
    /// over the limit of a broker.
    #[test]
    fn the_client_library_finds_the_same_messages(
        messages in prop::collection::vec(
            (
                ".{0,40}",
                "[a-z0-9]{1,20}( [a-z0-9-]{1,40})?",
                prop::collection::vec(("[a-zA-Z]{1,20}", "[^\u{1}\u{2}]{1,80}"), 0..30),
                prop::collection::vec(any::<u8>(), 1..500),
            ),
            1..5,
        ),
    ) {
        let messages: Vec<OutgoingMessage> = messages
            .into_iter()
            .map(|(tag, keys, properties, body)| {
                let mut names = HashSet::new();
                let properties = properties.into_iter().filter(|(name, _)| names.insert(name.clone()));
                let mut stored = OutgoingProperties::new(&keys, &tag.replace(['\u{1}', '\u{2}'], ""), 0);
                for (name, value) in properties {
                    stored.push(&name, &value);
                }
                OutgoingMessage { properties: stored, body: body.into() }
            })
            .collect();
        let whole = batch(messages);
        let ids = UniqKeys::new();
        let request = send_request(&whole, "group", &ids, NOW_MS).unwrap();
        let counted: usize = whole.messages.iter().map(OutgoingMessage::encoded_bytes).sum();
        prop_assert_eq!(counted, request.body.len());

        let mut body = request.body.clone();
        let found = decode_messages(&mut body);
        prop_assert_eq!(found.len(), whole.messages.len());
        let mut unique = HashSet::new();
        for (ours, theirs) in whole.messages.iter().zip(found) {
            prop_assert_eq!(theirs.get_body().map(|body| &body[..]), Some(&ours.body[..]));
            let properties: BTreeMap<String, String> = theirs
                .get_properties()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect();
            prop_assert_eq!(&properties, &expected(ours, &properties));
            prop_assert!(unique.insert(properties["UNIQ_KEY"].clone()));
        }
    }
}
