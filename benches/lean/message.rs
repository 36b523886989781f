//! One message as SEND_BATCH_MESSAGE carries it: length, body, and the properties that roombridge gives it.

use std::io::Write;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::mqtt::Publish;

/// Between a property's name and its value, and behind the value.
const IS: u8 = 1;
const END: u8 = 2;

/// They are the same for all messages.
const CONSTANT: &[u8] =
    b"qoslevel\x011\x02qosLevel\x011\x02mqttPublishDubFlag\x01false\x02mqttRetain\x01false\x02\
    rbSession\x01b01ac0dc436d3a47\x02rbConn\x011\x02rbGen\x013\x02rbRules\x01cf637d8c\x02WAIT\x01true\x02";
/// The sixteen digits of the process, which the id of a message begins with.
const ID: &str = "e427a4230a33fc84-";
const MAC_BYTES: usize = 16;

pub struct Writer {
    mac: Hmac<Sha256>,
    id: Vec<u8>,
}

impl Writer {
    pub fn new() -> Writer {
        let mac = Hmac::new_from_slice(b"key").expect("HMAC takes a key of any length");
        Writer { mac, id: Vec::new() }
    }

    pub fn append(&mut self, batch: &mut Vec<u8>, publish: &Publish, number: u64, now_ms: u64) {
        let begin = batch.len();
        // Length, magic code, checksum and flag; RocketMQ reads the first of them only.
        batch.extend([0; 16]);
        batch.extend((publish.payload.len() as u32).to_be_bytes());
        batch.extend_from_slice(publish.payload);
        let properties = batch.len();
        batch.extend([0; 2]);
        self.append_properties(batch, publish, number, now_ms);
        let length = (batch.len() - properties - 2) as u16;
        batch[properties..properties + 2].copy_from_slice(&length.to_be_bytes());
        let length = (batch.len() - begin) as u32;
        batch[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn append_properties(&mut self, batch: &mut Vec<u8>, publish: &Publish, number: u64, now_ms: u64) {
        let topic = publish.topic;
        let slash = topic.iter().position(|byte| *byte == b'/').unwrap_or(0);
        self.id.clear();
        self.id.extend_from_slice(ID.as_bytes());
        append_number(&mut self.id, number);

        batch.extend_from_slice(b"KEYS\x01");
        batch.extend_from_slice(publish.room());
        batch.push(b' ');
        batch.extend_from_slice(&self.id);
        batch.push(END);
        append(batch, b"TAGS", &topic[slash + 1..]);
        append(batch, b"mqttSecondTopic", &topic[slash..]);
        append(batch, b"topic", topic);
        append(batch, b"originMqttTopic", topic);
        batch.extend_from_slice(CONSTANT);
        append_numbered(batch, b"mqttMessageId", u64::from(publish.packet_id));
        append(batch, b"rbId", &self.id);
        append_numbered(batch, b"rbSeq", number);
        append_numbered(batch, b"rbArrivedMs", now_ms);
        batch.extend_from_slice(b"rbOrigin\x011;hop=0;mac=");
        append_hex(batch, &self.mac_of(publish, number), b"0123456789abcdef");
        batch.push(END);
        batch.extend_from_slice(b"UNIQ_KEY\x017F000001000A");
        append_hex(batch, &number.to_be_bytes(), b"0123456789ABCDEF");
        batch.push(END);
    }

    fn mac_of(&self, publish: &Publish, number: u64) -> [u8; MAC_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(publish.topic);
        mac.update(&number.to_le_bytes());
        mac.update(publish.payload);
        let mut shortened = [0; MAC_BYTES];
        shortened.copy_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
        shortened
    }
}

fn append(batch: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    batch.extend_from_slice(name);
    batch.push(IS);
    batch.extend_from_slice(value);
    batch.push(END);
}

fn append_numbered(batch: &mut Vec<u8>, name: &[u8], value: u64) {
    batch.extend_from_slice(name);
    batch.push(IS);
    append_number(batch, value);
    batch.push(END);
}

fn append_number(out: &mut Vec<u8>, number: u64) {
    write!(out, "{number}").expect("a vector can be written to");
}

fn append_hex(out: &mut Vec<u8>, bytes: &[u8], digits: &[u8; 16]) {
    for byte in bytes {
        out.push(digits[usize::from(byte >> 4)]);
        out.push(digits[usize::from(byte & 15)]);
    }
}
