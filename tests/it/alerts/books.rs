//! Messages whose end nobody counted.

use super::story::{NORTH, Story, scrape_fails_at};

const UPLINK: &str = r#"direction="uplink""#;
const DOWNLINK: &str = r#"direction="downlink""#;

/// `received` comes in and `stored` becomes of it; each scrape may catch what moves between the two.
fn books(
    title: &str,
    received: impl Fn(f64) -> f64 + 'static,
    stored: impl Fn(f64) -> f64 + 'static,
) -> Story {
    let reason = r#"reason="no_rule""#;
    let fixed: [(&str, &[&str], f64); 11] = [
        ("roombridge_received_total", &[DOWNLINK], 70.0),
        ("roombridge_published_total", &[DOWNLINK], 60.0),
        ("roombridge_filtered_total", &[DOWNLINK, reason], 9.0),
        ("roombridge_in_flight", &[DOWNLINK], 1.0),
        ("roombridge_derived_total", &[UPLINK], 20.0),
        ("roombridge_spool_depth_at_start", &[UPLINK], 5.0),
        ("roombridge_spool_depth", &[UPLINK], 4.0),
        ("roombridge_dead_lettered_total", &[UPLINK, reason], 6.0),
        ("roombridge_filtered_total", &[UPLINK, reason], 7.0),
        ("roombridge_dropped_total", &[UPLINK, reason], 5.0),
        ("roombridge_in_flight", &[UPLINK], 3.0),
    ];
    let story = fixed.into_iter().fold(
        Story::of("RoombridgeBooksDoNotBalance", title),
        |story, (name, labels, value)| {
            let course = scrape_fails_at(32.0, move |_| Some(value));
            story.scrapes(name, &[&[NORTH], labels].concat(), course)
        },
    );
    let received = scrape_fails_at(32.0, move |minute| Some(received(minute)));
    let stored = scrape_fails_at(32.0, move |minute| Some(stored(minute)));
    let kinds: &[&str] = &[NORTH, UPLINK, r#"topic="room""#, r#"kind="message""#];
    story.scrapes("roombridge_received_total", &[NORTH, UPLINK], received).scrapes(
        "roombridge_stored_total",
        kinds,
        stored,
    )
}

/// 1,000 a second for 20 minutes, then a pause.
fn lesson(minute: f64) -> f64 {
    (minute.min(20.0) * 60_000.0).round()
}

pub fn stories() -> Vec<Story> {
    let differ = "The books of 127.0.0.1:9464 do not balance by 3";
    vec![
        books("three lost in a lesson, noticed in the pause after it", lesson, |minute| {
            lesson(minute) - if minute < 15.0 { 0.0 } else { 3.0 }
        })
        .silent(20.0)
        .fires(31.5, &[NORTH], differ)
        .fires(32.0, &[NORTH], differ)
        .fires(40.0, &[NORTH], differ),
        books(
            "a few a minute, without a pause",
            |minute| (minute * 10.0).round(),
            |minute| {
                // The mended bridge starts with its books in order.
                let lost = if (10.0..40.0).contains(&minute) { 3.0 } else { 0.0 };
                (minute * 10.0).round() - lost
            },
        )
        .silent(9.0)
        .fires(21.0, &[NORTH], differ)
        .fires(35.0, &[NORTH], differ)
        .silent(41.0),
        books(
            "scraped in the middle of work",
            |minute| (minute * 600_000.0).round(),
            |minute| (minute * 600_000.0).round() - 40.0,
        )
        .silent(10.0)
        .silent(20.0)
        .silent(30.0),
        books("balanced", lesson, lesson).silent(10.0).silent(35.0),
    ]
}
