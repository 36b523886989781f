//! docs/MESSAGES.md says what this room says, and nothing else.

use std::io;

use super::connection::LinkError;
use super::outage::{suspicion, taken_over, with_unanswered};
use super::subscriptions;
use super::tls::TlsError;
use super::wire::{Goodbye, Refusal, WritePacketError};
use crate::happy_eyeballs;
use crate::telemetry::Readiness;

/// The rows of the table below a heading of docs/MESSAGES.md, cell by cell.
pub(super) fn rows(heading: &str) -> Vec<[String; 3]> {
    let page = std::fs::read_to_string("docs/MESSAGES.md").unwrap();
    let section = page.split("\n### ").find(|section| section.starts_with(heading)).unwrap();
    let rows: Vec<[String; 3]> = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
            cells.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("three cells: {line}"))
        })
        .collect();
    assert!(rows.len() > 3, "{heading}");
    rows
}

/// Whether the message has the parts of the pattern, between its dots, in their order.
fn fits(pattern: &str, message: &str) -> bool {
    let mut rest = message;
    pattern.trim_matches('`').split("...").all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

fn goodbye() -> Goodbye {
    Goodbye { session_taken_over: false, reason: "0x97 quota exceeded".to_owned(), remedy: "do this" }
}

async fn of_connections() -> Vec<String> {
    let cause = happy_eyeballs::connect("127.0.0.1:1", std::time::Duration::from_secs(5)).await.unwrap_err();
    let lost = || io::Error::from(io::ErrorKind::ConnectionReset);
    let errors = [
        LinkError::Connect { place: "broker.example:1883".to_owned(), cause },
        LinkError::Refused(Refusal::OnlyOlder(1)),
        LinkError::Refused(Refusal::Denied { answer: "0x89 server busy".to_owned(), remedy: "do this" }),
        LinkError::NoAnswer,
        LinkError::Unanswered,
        LinkError::NotMqtt("packet type 1".to_owned()),
        LinkError::Io(lost()),
        LinkError::Closed,
        LinkError::Disconnected(goodbye()),
        LinkError::Silent,
        LinkError::NotNow("0x97 quota exceeded".to_owned()),
        LinkError::Protocol("half a packet".to_owned()),
        LinkError::Unwritable(WritePacketError::Invalid("too long".to_owned())),
    ];
    let mut all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let suspicious = [LinkError::Closed, LinkError::Disconnected(goodbye()), LinkError::Silent];
    all.extend(suspicious.iter().map(suspicion));
    all.extend(super::tls::tests::explanations().into_iter().map(|text| LinkError::Tls(text).to_string()));
    let tls = [
        TlsError::CaFile { path: "/x".into(), source: lost() },
        TlsError::HostName("a b".to_owned()),
        TlsError::SystemCertificates,
    ];
    all.extend(tls.iter().map(ToString::to_string));
    all.push(taken_over(&goodbye()));
    all.push(with_unanswered(&LinkError::Closed, &["\"room/#\"".to_owned()]));
    all
}

fn of_subscriptions() -> Vec<String> {
    let readiness = Readiness::default();
    readiness.set_filters_missing(vec!["\"room/#\" (0x87 not authorized)".to_owned()]);
    let mut all = subscriptions::tests::complaints();
    all.push(readiness.report().missing.remove(1));
    all
}

#[track_caller]
fn assert_the_page_says_it(heading: &str, said: &[String]) {
    let rows = rows(heading);
    for [pattern, cause, remedy] in &rows {
        assert!(said.iter().any(|message| fits(pattern, message)), "nobody says {pattern}");
        assert!(!cause.is_empty() && !remedy.is_empty(), "{pattern}");
    }
    for message in said {
        assert!(rows.iter().any(|[pattern, ..]| fits(pattern, message)), "the page does not have {message}");
    }
}

#[tokio::test]
async fn the_page_has_each_message_and_no_other() {
    assert_the_page_says_it("Connections", &of_connections().await);
    assert_the_page_says_it("Subscriptions", &of_subscriptions());
}
