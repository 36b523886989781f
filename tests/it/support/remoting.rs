//! One request of RocketMQ's remoting protocol, written by hand: for what Apache's tools do not offer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

/// Sends the request and asserts that the answer's code is 0.
#[track_caller]
pub fn call(address: &str, code: i64, fields: Value, body: &str) {
    let answer = ask(address, code, fields, body);
    assert_eq!(answer["code"], 0, "{answer}");
}

/// Sends the request; returns the header of the answer.
#[track_caller]
pub fn ask(address: &str, code: i64, fields: Value, body: &str) -> Value {
    let header = json!({ "code": code, "flag": 0, "opaque": 1, "language": "RUST", "extFields": fields });
    let header = header.to_string();
    let mut connection = TcpStream::connect(address).expect("the broker listens");
    connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a deadline can be set");
    let rest_bytes = 4 + header.len() + body.len();
    let lengths = [rest_bytes as u32, header.len() as u32].map(u32::to_be_bytes).concat();
    connection.write_all(&[&lengths, header.as_bytes(), body.as_bytes()].concat()).expect("the broker reads");

    let mut lengths = [0; 8];
    connection.read_exact(&mut lengths).expect("the broker answers");
    let mut header = vec![0; u32::from_be_bytes([0, lengths[5], lengths[6], lengths[7]]) as usize];
    connection.read_exact(&mut header).expect("the broker answers");
    serde_json::from_slice(&header).expect("the header is JSON")
}
