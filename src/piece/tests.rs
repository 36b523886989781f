use super::frame::append_directory;
use super::*;

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use proptest::prelude::*;

use crate::binding::read_back;
use crate::model::{Kind, LostCause, QueueName, StoredMessage};

const STORED_MS: u64 = 1_800_000_000_000;

fn place() -> Place {
    Place { topic: "room".to_owned(), queue: QueueName { broker: "broker-a".into(), id: 3 }, generation: 0 }
}

fn message(offset: u64, mqtt_topic: &str, body: &[u8]) -> StoredMessage {
    let sub = mqtt_topic.split_once('/').map(|(_, sub)| format!("/{sub}")).unwrap_or_default();
    let unique = format!("{offset:032X}");
    let named = [("TAGS", "a tag"), ("KEYS", "some keys"), ("topic", mqtt_topic), ("mqttSecondTopic", &sub)];
    let named = named.into_iter().chain([("UNIQ_KEY", unique.as_str()), ("WAIT", "true")]);
    StoredMessage {
        topic: "room".to_owned(),
        tag: "a tag".to_owned(),
        keys: "some keys".to_owned(),
        queue: place().queue,
        queue_offset: offset,
        stored_ms: STORED_MS + offset,
        born_ms: STORED_MS - 7,
        flag: 0,
        properties: named.filter(|(_, value)| !value.is_empty()).collect(),
        body: Bytes::copy_from_slice(body),
    }
}

fn push(writer: &mut PieceWriter, message: &StoredMessage) {
    writer.push(message, &read_back(message)).unwrap();
}

fn written(messages: &[StoredMessage]) -> (Directory, Vec<u8>) {
    let from = messages.first().map_or(0, |first| first.queue_offset);
    let to = messages.last().map_or(0, |last| last.queue_offset + 1);
    let mut writer = PieceWriter::new(place(), from, 0);
    for message in messages {
        push(&mut writer, message);
    }
    writer.finish(to).unwrap()
}

/// Builds of before wrote down neither how large the lines are nor whether store times rise.
#[test]
fn a_piece_of_an_earlier_build_is_read() {
    let messages: Vec<_> = (0..20).map(|offset| message(offset, "room/message/1", b"hello")).collect();
    let (directory, piece) = written(&messages);
    let mut json = serde_json::to_value(&directory).unwrap();
    for field in ["raw_bytes", "store_time_rises"] {
        assert!(json.as_object_mut().unwrap().remove(field).is_some());
    }
    let lines: u64 = directory.frames.iter().map(|frame| frame.bytes).sum();
    let mut earlier = piece[..lines as usize].to_vec();
    append_directory(&mut earlier, &compress(&serde_json::to_vec(&json).unwrap()).unwrap());
    let (found, read) = read(&earlier).unwrap();
    assert_eq!(read, messages);
    // Not known is not yes: a reader then reads all rooms.
    assert_eq!((found.raw_bytes, found.store_time_rises), (None, false));
    assert_eq!(verify(&earlier).unwrap(), found);
}

/// As a reader does it that has the piece's length only.
fn read(piece: &[u8]) -> Result<(Directory, Vec<StoredMessage>), Damage> {
    let piece_bytes = piece.len() as u64;
    let tail = piece.last_chunk::<TAIL_BYTES>().unwrap();
    let range = directory_range(tail, piece_bytes)?;
    let directory = directory_of(&piece[range.start as usize..range.end as usize], tail, piece_bytes)?;
    let mut messages = Vec::new();
    for (number, frame) in directory.frames.iter().enumerate() {
        let range = frame.range().unwrap();
        let found = messages_of(&piece[range.start as usize..range.end as usize], frame, number)?;
        for part in directory.rooms.iter().filter(|part| part.frame as usize == number) {
            for message in &found[part.first_line as usize..][..part.lines as usize] {
                assert_eq!(read_back(message).room, part.room);
                assert_eq!(read_back(message).kind == Kind::P2p, part.is_private);
            }
        }
        messages.extend(found);
    }
    messages.sort_by_key(|message| message.queue_offset);
    Ok((directory, messages))
}

#[test]
fn every_message_comes_back_as_it_was_stored() {
    let bodies: [&[u8]; 6] =
        [b"hello", "勾股定理 \u{2028}\"\\".as_bytes(), b"", &[0], &[0xff, 0, 1], &[1; 3000]];
    let topics = ["room/message/1", "room/p2p/GID@@@1", "room/status", "", "room/message/a%b|c /*"];
    let messages: Vec<_> = (100..130)
        .map(|offset| message(offset, topics[offset as usize % 5], bodies[offset as usize % 6]))
        .collect();
    let (directory, piece) = written(&messages);
    let (found_directory, found) = read(&piece).unwrap();
    assert_eq!(found, messages);
    assert_eq!(found_directory, directory);
    assert_eq!(verify(&piece).unwrap(), directory);
    assert_eq!((directory.from, directory.to, directory.lines), (100, 130, 30));
    assert_eq!(directory.store_time_ms, STORED_MS + 129);
    assert_eq!(directory.last, Some(messages[29].name()));
    // Lines for one client share no frame with others.
    let private: Vec<_> =
        directory.rooms.iter().filter(|part| part.is_private).map(|part| part.frame).collect();
    let open = directory.rooms.iter().filter(|part| !part.is_private).map(|part| part.frame);
    assert!(!private.is_empty());
    assert_eq!(open.filter(|frame| private.contains(frame)).count(), 0);
}

fn places_of(frame: &[u8]) -> Result<Vec<(u64, u64)>, Damage> {
    let (bytes, crc) = (frame.len() as u64, crc32fast::hash(frame));
    let (part, mut places) = (FramePart { offset: 0, bytes, lines: 0, crc }, Vec::new());
    each_line(frame, &part, 0, 0..usize::MAX, &mut |place, _| {
        places.push((place.queue_offset, place.stored_ms))
    })?;
    Ok(places)
}

/// A reading finds most lines by their places alone, and reads no message of them.
#[test]
fn the_place_of_a_line_is_its_own_whatever_its_texts_say_and_whoever_wrote_it() {
    let said: &[u8] = br#"{"queue_offset":1,"stored_ms":2,"x":0}"#;
    let mut messages = [
        message(7, r#"room/message/"queue_offset":1,"stored_ms":2,"#, said),
        message(8, r#"room/message/\"queue_offset":1,"stored_ms":2,"#, br#""queue_offset":1,"stored_ms":2,"#),
        message(9, "room/message/queue_offset", b"queue_offset"),
    ];
    messages[2].properties.insert("\"queue_offset\":1,\"stored_ms\":2,", "queue_offset");
    let lines: Vec<u8> =
        messages.iter().flat_map(|message| line_of(message, &read_back(message)).unwrap()).collect();
    let expected: Vec<_> = messages.iter().map(|message| (message.queue_offset, message.stored_ms)).collect();
    assert_eq!(places_of(&compress(&lines).unwrap()).unwrap(), expected);
    // Another program may write the fields in another order, and with blanks.
    let by_another: Vec<u8> = lines
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(line).unwrap())
        .flat_map(|line| {
            format!("{}\n", serde_json::to_string_pretty(&line).unwrap().replace('\n', " ")).into_bytes()
        })
        .collect();
    assert_eq!(places_of(&compress(&by_another).unwrap()).unwrap(), expected);
    let cut = compress(br#"{"queue_offset":12"#).unwrap();
    assert!(matches!(places_of(&cut), Err(Damage::Line { frame: 0, line: 0, .. })));
}

#[test]
fn other_programs_see_one_file_of_json_lines_with_every_field_on_every_line() {
    let messages =
        [message(0, "room/message/007", b"hello"), message(1, "room/status", &[0xff]), message(2, "x", b"")];
    let (_, piece) = written(&messages);
    let mut text = String::new();
    zstd::Decoder::new(&*piece).unwrap().read_to_string(&mut text).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let fields = |line: &serde_json::Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&lines[0]), fields(&lines[1]));
    assert_eq!(fields(&lines[0]), fields(&lines[2]));
    assert_eq!(lines[0]["room"], "007");
    assert_eq!(lines[0]["at"], "2027-01-15T08:00:00.000Z");
    assert_eq!(lines[1]["room"], serde_json::Value::Null);
}

#[test]
fn a_frame_holds_whole_rooms_and_a_large_room_has_frames_of_its_own() {
    let body = [b'x'; 400];
    // 60 small rooms of 10 lines, and one of 600.
    let topic = |offset: u64| match offset % 2 {
        0 => "room/message/large".to_owned(),
        _ => format!("room/message/{}", offset / 2 % 60),
    };
    let messages: Vec<_> = (0..1200).map(|offset| message(offset, &topic(offset), &body)).collect();
    let (directory, piece) = written(&messages);
    verify(&piece).unwrap();
    let mut frames_of: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for part in &directory.rooms {
        frames_of.entry(part.room.as_deref().unwrap()).or_default().push(part.frame);
    }
    let large = frames_of.remove("large").unwrap();
    assert!(large.len() > 5, "{large:?}");
    for (room, frames) in &frames_of {
        assert_eq!(frames.len(), 1, "{room}");
        assert!(!large.contains(&frames[0]), "{room}");
    }
    let shared: std::collections::BTreeSet<_> = frames_of.values().map(|frames| frames[0]).collect();
    assert!(shared.len() < 20, "{} frames for 60 rooms", shared.len());
    // A third of what RocketMQ needs for them, or less.
    assert!(piece.len() < 1200 * 250, "{} bytes", piece.len());
}

#[test]
fn no_changed_byte_stays_unseen() {
    let messages: Vec<_> = (0..20).map(|offset| message(offset, "room/message/1", b"hello")).collect();
    let (_, piece) = written(&messages);
    for at in 0..piece.len() {
        for bit in [1, 0x80] {
            let mut changed = piece.clone();
            changed[at] ^= bit;
            assert!(verify(&changed).is_err(), "byte {at}");
        }
    }
    for length in 0..piece.len() {
        assert!(verify(&piece[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn what_is_left_out_or_lost_is_in_the_books() {
    let mut writer = PieceWriter::new(place(), 10, STORED_MS + 1_000_000);
    writer.lose(Lost { from: 10, to: 15, cause: LostCause::Deleted });
    push(&mut writer, &message(15, "room/message/1", b"hello"));
    writer.skip(&message(16, "room/p2p/1", b"secret"), "p2p");
    writer.skip(&message(17, "room/p2p/1", b"secret"), "p2p");
    let (directory, piece) = writer.finish(18).unwrap();
    assert_eq!(verify(&piece).unwrap(), directory);
    assert_eq!((directory.lines, directory.skipped(), directory.lost[0].to), (1, 2, 15));
    // A store time that went back does not lower the highest one.
    assert_eq!(directory.store_time_ms, STORED_MS + 1_000_000);
    assert!(!String::from_utf8_lossy(&piece).contains("secret"));
}

#[test]
fn books_that_do_not_balance_are_no_piece() {
    let mut writer = PieceWriter::new(place(), 0, 0);
    push(&mut writer, &message(0, "room/message/1", b"hello"));
    let (_, piece) = writer.finish(2).unwrap();
    assert!(matches!(verify(&piece), Err(Damage::Books)));
}

#[test]
fn a_range_without_lines_is_a_piece_too() {
    let (directory, piece) = PieceWriter::new(place(), 7, 5).finish(7).unwrap();
    assert_eq!(verify(&piece).unwrap(), directory);
    assert_eq!(directory.store_time_ms, 5);
}

#[test]
fn a_piece_says_whether_a_message_was_stored_before_an_earlier_one() {
    let times = |times: [u64; 3], before_ms: u64| {
        let mut writer = PieceWriter::new(place(), 0, before_ms);
        for (offset, stored_ms) in times.into_iter().enumerate() {
            let mut message = message(offset as u64, "room/message/1", b"hello");
            message.stored_ms = stored_ms;
            // One that is left out counts like the others.
            if offset == 1 { writer.skip(&message, "p2p") } else { push(&mut writer, &message) }
        }
        writer.finish(3).unwrap().0.store_time_rises
    };
    assert!(times([5, 5, 7], 5));
    assert!(!times([5, 6, 7], 6));
    assert!(!times([5, 9, 7], 0));
}

#[test]
fn the_time_of_a_line_is_its_arrival_where_that_can_be_true() {
    let at = |arrived_ms: u64, is_ours: bool| {
        let mut message = message(0, "room/message/1", b"hello");
        message.properties.insert("rbArrivedMs", arrived_ms.to_string());
        if is_ours {
            message.properties.insert("rbId", "e0a1c5b83a10495f-1");
            message.keys = "1 e0a1c5b83a10495f-1".to_owned();
        }
        at_ms(&read_back(&message), message.stored_ms)
    };
    assert_eq!(at(STORED_MS - 1, true), STORED_MS - 1);
    assert_eq!(at(STORED_MS - 1, false), STORED_MS);
    assert_eq!(at(STORED_MS + 60_000, true), STORED_MS + 60_000);
    assert_eq!(at(STORED_MS + 60_001, true), STORED_MS);
    assert_eq!(at(STORED_MS - 7 * 24 * 3_600_000 - 1, true), STORED_MS);
}

fn any_message() -> impl Strategy<Value = (String, Vec<u8>, Vec<(String, String)>)> {
    let topic = prop_oneof!["room/message/[a-z0-9]{1,3}", "room/(p2p/)?\\PC{0,12}", "\\PC{0,8}"];
    let body = prop_oneof![any::<Vec<u8>>(), "\\PC{0,40}".prop_map(String::into_bytes)];
    let properties = prop::collection::vec(("[a-zA-Z]{1,8}", "[^\u{1}\u{2}]{1,20}"), 0..5);
    (topic, body, properties)
}

proptest! {
    #[test]
    fn whatever_was_stored_is_read_back(
        from in 0..u64::MAX / 2,
        all in prop::collection::vec(any_message(), 0..40),
    ) {
        let messages: Vec<_> = all
            .iter()
            .zip(from..)
            .map(|((topic, body, properties), offset)| {
                let mut stored = message(0, topic, body);
                stored.queue_offset = offset;
                stored.flag = offset as i32;
                for (name, value) in properties {
                    stored.properties.insert(name, value);
                }
                stored.tag = stored.properties["TAGS"].to_owned();
                stored.keys = stored.properties["KEYS"].to_owned();
                stored
            })
            .collect();
        let (directory, piece) = written(&messages);
        let (_, found) = read(&piece).unwrap();
        prop_assert_eq!(&found, &messages);
        // The order of the properties, too.
        for (found, message) in found.iter().zip(&messages) {
            prop_assert!(found.properties.iter().eq(message.properties.iter()));
        }
        prop_assert_eq!(verify(&piece).unwrap(), directory);
        prop_assert_eq!(written(&messages).1, piece);
    }

    #[test]
    fn a_name_is_read_back(
        topic in "[%|a-zA-Z0-9_-]{1,40}",
        broker in "\\PC{1,20}",
        id in any::<i32>(),
        generation in any::<u32>(),
        from in any::<u64>(),
        version in any::<u32>(),
        store_ms in any::<u64>(),
    ) {
        let place = Place { topic: topic.clone(), queue: QueueName { broker: broker.as_str().into(), id }, generation };
        let key = PieceKey::new(place, store_ms, from, version);
        let name = key.to_string();
        prop_assert_eq!(PieceKey::parse(&name), Some(key));
        prop_assert!(name.starts_with(&PieceKey::prefix_of(&topic)));
        let legal = |c: char| c.is_ascii_alphanumeric() || "_=.-/".contains(c);
        prop_assert!(name.chars().all(legal), "{}", name);
    }

}

#[test]
fn no_other_name_is_taken_for_a_piece() {
    let name = PieceKey::new(place(), STORED_MS, 42, 1).to_string();
    assert!(PieceKey::parse(&name).is_some());
    // Each would say the same, or hide behind it.
    for (from, to) in [
        ("v1/", "v2/"),
        ("v1/", "v1x/"),
        ("00000000000000000042", "42"),
        (".0001.", ".1."),
        ("broker-a.3", "broker-a.03"),
        ("broker-a.3", "broker-a.+3"),
        ("broker-a.3", "broker.2Da.3"),
        ("g=0", "g=00"),
        (".zst", ".zst/more"),
        (".zst", ".gz"),
        ("q=", ""),
    ] {
        let other = name.replacen(from, to, 1);
        assert_ne!(other, name);
        assert_eq!(PieceKey::parse(&other), None, "{other}");
    }
}

#[test]
fn names_sort_by_offset_and_version() {
    let name = |from, version| PieceKey::new(place(), STORED_MS, from, version).to_string();
    assert_eq!(
        name(42, 1),
        "v1/topic=room/day=2027-01-15/q=broker-a.3/g=0/00000000000000000042.0001.jsonl.zst"
    );
    assert!(name(9, 0) < name(10, 0) && name(10, 0) < name(10, 1) && name(10, 1) < name(11, 0));
}
