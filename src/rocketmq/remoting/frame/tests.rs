use super::*;

use std::collections::BTreeMap;

use proptest::prelude::*;
use rocketmq_model::version::CURRENT_VERSION;
use rocketmq_protocol::protocol::SerializeType;
use rocketmq_protocol::protocol::remoting_command::RemotingCommand;

fn whole(request: Request<'_>, opaque: i32) -> BytesMut {
    let body = request.body.clone();
    let mut bytes = BytesMut::from(&*head_of(request, opaque, None).unwrap());
    bytes.extend_from_slice(&body);
    bytes
}

/// What the client library writes, with the header of that kind.
fn answer_of_the_library(
    kind: SerializeType,
    opaque: i32,
    remark: Option<&str>,
    fields: &BTreeMap<String, String>,
    body: &[u8],
) -> BytesMut {
    let fields = fields.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    let mut command = RemotingCommand::create_response_command_with_code(17)
        .set_opaque(opaque)
        .set_remark_option(remark)
        .set_serialize_type(kind)
        .set_ext_fields(fields.collect())
        .set_body(body.to_vec());
    let mut bytes = BytesMut::new();
    command.try_fast_header_encode(&mut bytes).unwrap();
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn our_version_is_that_of_the_client_library() {
    assert_eq!(VERSION, CURRENT_VERSION as i32);
}

proptest! {
    #[test]
    fn the_client_library_reads_what_we_write(
        code in 1..400_i32,
        opaque in any::<i32>(),
        value in any::<String>(),
        body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let fields = vec![("a", Cow::from(value.as_str())), ("queueId", Cow::from("3"))];
        let mut bytes = whole(Request { code, fields, body: body.clone().into() }, opaque);
        let read = RemotingCommand::decode(&mut bytes).unwrap().unwrap();
        prop_assert_eq!((read.code(), read.opaque(), read.is_response_type()), (code, opaque, false));
        let field = |name: &str| read.ext_fields().unwrap().get(name).map(ToString::to_string);
        prop_assert_eq!((field("a"), field("queueId")), (Some(value), Some("3".to_owned())));
        prop_assert_eq!(read.body().map_or(&[][..], |body| &body[..]), &body[..]);
        prop_assert!(bytes.is_empty());
    }

    /// Byte by byte, so that a frame in pieces waits for its end.
    #[test]
    fn we_read_what_the_client_library_writes_in_both_kinds(
        is_json in any::<bool>(),
        opaque in any::<i32>(),
        remark in prop::option::of("[^\u{0}]{1,30}"),
        fields in prop::collection::btree_map("[a-z]{1,8}", "[^\u{0}]{1,20}", 1..5),
        body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let kind = if is_json { SerializeType::JSON } else { SerializeType::ROCKETMQ };
        let bytes = answer_of_the_library(kind, opaque, remark.as_deref(), &fields, &body);
        let (last, others) = bytes.split_last().unwrap();
        let mut buffer = BytesMut::new();
        for byte in others {
            buffer.extend_from_slice(&[*byte]);
            prop_assert!(take_frame(&mut buffer).unwrap().is_none());
        }
        buffer.extend_from_slice(&[*last]);
        let Some(Incoming::Answer(read_opaque, answer)) = take_frame(&mut buffer).unwrap() else {
            panic!("no answer");
        };
        prop_assert_eq!((read_opaque, answer.code), (opaque, 17));
        for (name, value) in fields {
            prop_assert_eq!(answer.field(&name), Some(Value::String(value)));
        }
        prop_assert_eq!(&answer.body[..], &body[..]);
        prop_assert_eq!(answer.remark, remark.unwrap_or_default());
    }

    /// Also what is no frame at all: an error or a wait for more, never a panic.
    #[test]
    fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = take_frame(&mut buffer) {}
    }
}

fn frame(header: &str) -> BytesMut {
    let mut bytes = BytesMut::from(&((4 + header.len()) as u32).to_be_bytes()[..]);
    bytes.extend_from_slice(&(header.len() as u32).to_be_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

#[test]
fn a_field_that_is_missing_null_or_of_a_later_version_is_no_error() {
    let least = frame(r#"{"code":0,"flag":1,"opaque":7,"extFields":{"a":null,"b":3},"later":[1]}"#);
    for mut bytes in [least, frame(r#"{"code":0,"flag":1,"opaque":7}"#)] {
        let Some(Incoming::Answer(7, answer)) = take_frame(&mut bytes).unwrap() else { panic!("no answer") };
        assert_eq!((answer.code, answer.remark.as_str(), answer.number("a")), (0, "", None));
    }
}

#[test]
fn a_servers_own_request_is_no_answer() {
    let mut bytes = frame(r#"{"code":40,"flag":0,"opaque":7}"#);
    assert!(matches!(take_frame(&mut bytes).unwrap(), Some(Incoming::Request)));
}

#[test]
fn a_length_that_cannot_be_is_an_error() {
    for length in [0, 3, MAX_FRAME_BYTES as u32 + 1, u32::MAX] {
        let mut bytes = BytesMut::from(&length.to_be_bytes()[..]);
        assert!(take_frame(&mut bytes).is_err(), "{length}");
    }
    // The header would be longer than its frame.
    let mut bytes = BytesMut::from(&[0, 0, 0, 4, 0, 0, 0, 9][..]);
    assert!(matches!(take_frame(&mut bytes), Err(FrameError::Short)));
    let mut bytes = BytesMut::from(&[0, 0, 0, 4, 7, 0, 0, 0][..]);
    assert!(matches!(take_frame(&mut bytes), Err(FrameError::Kind(7))));
}

#[test]
fn a_header_that_its_length_cannot_say_is_an_error_and_not_another_kind_of_header() {
    let long = "x".repeat(MAX_HEADER_BYTES + 1);
    let request = Request { code: 1, fields: vec![("i", long.into())], body: Bytes::new() };
    assert!(matches!(head_of(request, 1, None), Err(FrameError::Length(_))));
}
