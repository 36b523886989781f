//! The building blocks of MQTT packets and WebSocket frames.

use crate::wire::UserProperties;

pub fn u32_property(id: u8, value: Option<u32>) -> Vec<u8> {
    let property = value.map_or(Vec::new(), |value| [&[id][..], &value.to_be_bytes()].concat());
    [&[u8::try_from(property.len()).unwrap()][..], &property].concat()
}

pub fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

pub fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    let mut rest = body.len();
    loop {
        let more = if rest > 127 { 0x80 } else { 0 };
        bytes.push(u8::try_from(rest % 128).unwrap() | more);
        rest /= 128;
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

pub fn user_properties(mut bytes: &[u8]) -> UserProperties {
    let mut properties = Vec::new();
    while let Some((0x26, rest)) = bytes.split_first() {
        let (name, rest) = take_text(rest);
        let (value, rest) = take_text(rest);
        properties.push((name, value));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "user properties only: {bytes:?}");
    properties
}

fn take_text(bytes: &[u8]) -> (String, &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let (text, rest) = bytes[2..].split_at(length);
    (String::from_utf8(text.to_vec()).unwrap(), rest)
}

/// Where the body starts and how long it is.
pub fn remaining_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (position, byte) in bytes.iter().enumerate().skip(1) {
        length |= usize::from(byte & 0x7f) << (7 * (position - 1));
        if byte & 0x80 == 0 {
            return Some((position + 1, length));
        }
    }
    None
}

pub fn masked_frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first_byte];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    // A mask of zeros leaves the bytes as they are.
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}
