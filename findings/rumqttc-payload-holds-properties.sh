#!/usr/bin/env bash
# Date: 2026-11-28
# Guess: rumqttc's MQTT 5 codec reads a PUBLISH that matched several subscriptions like any other: the payload is what was published.
# Seen (rumqttc 0.25.1): with one or two subscription identifiers it does. With three or four it leaves the last identifier out, and
#   the two bytes of it stand before the payload. It counts each identifier as one byte longer than it is, so it believes that the
#   properties end earlier than they do. Nothing is reported.
# Why a user cares: brokers that send one delivery for all matching subscriptions (MQTT 5.0, section 3.3.4) put one identifier for each
#   into it. A client with three overlapping filters stores or shows other bytes than were sent.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat > "$folder/Cargo.toml" <<'TOML'
[package]
name = "identifiers"
version = "0.0.0"
edition = "2021"
[dependencies]
rumqttc = { version = "=0.25.1", default-features = false }
bytes = "1"
TOML
cat > "$folder/src/main.rs" <<'RUST'
use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::Packet;

// PUBLISH, QoS 1, topic "t", packet identifier 7, so many subscription identifiers (0x0b and one byte each), payload "hello".
fn publish(identifiers: u8) -> Vec<u8> {
    let properties: Vec<u8> = (1..=identifiers).flat_map(|identifier| [0x0b, identifier]).collect();
    let mut body = vec![0, 1, b't', 0, 7, properties.len() as u8];
    body.extend(properties);
    body.extend(b"hello");
    let mut packet = vec![0x32, body.len() as u8];
    packet.extend(body);
    packet
}

fn main() {
    for identifiers in 1..=4 {
        let mut bytes = BytesMut::from(&publish(identifiers)[..]);
        match Packet::read(&mut bytes, Some(1024)) {
            Ok(Packet::Publish(read)) => {
                let found = read.properties.map(|properties| properties.subscription_identifiers).unwrap_or_default();
                println!("{identifiers} sent, {found:?} read, payload {:?}", read.payload);
            }
            other => println!("{identifiers} sent: {other:?}"),
        }
    }
}
RUST

echo "rumqttc 0.25.1, MQTT 5 codec"
seen=$(cargo run --quiet --manifest-path "$folder/Cargo.toml")
echo "$seen"
expected='1 sent, [1] read, payload b"hello"
2 sent, [1, 2] read, payload b"hello"
3 sent, [1, 2] read, payload b"\x0b\x03hello"
4 sent, [1, 2, 3] read, payload b"\x0b\x04hello"'
if [ "$seen" != "$expected" ]; then
    echo "this has changed; expected was:" >&2
    echo "$expected" >&2
    exit 1
fi
