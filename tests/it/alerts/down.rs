//! A bridge that does not answer, or is no longer asked.

use super::story::{NORTH, SOUTH, Story, always};

const BUILD: &str = r#"version="0.1.0",features="none""#;
const NORTH_IS_DOWN: &str = "roombridge 127.0.0.1:9464 does not answer";
const NONE_IS_KNOWN: &str = "Prometheus knows no roombridge that it could ask";

/// 1, 0 from `from` until `to`.
fn answers_except(from: f64, to: f64) -> impl Fn(f64) -> Option<f64> {
    move |minute| Some(if minute >= from && minute < to { 0.0 } else { 1.0 })
}

/// 1, gone from `from` until `to`.
fn there_except(from: f64, to: f64) -> impl Fn(f64) -> Option<f64> {
    move |minute| (minute < from || minute >= to).then_some(1.0)
}

/// A target of a job with any name.
fn bridge(story: Story, labels: &str, away: (f64, f64)) -> Story {
    story.scrapes("up", &[labels], answers_except(away.0, away.1)).scrapes(
        "roombridge_build_info",
        &[labels, BUILD],
        there_except(away.0, away.1),
    )
}

fn watched_bridge(story: Story, labels: &str, unwatched: (f64, f64)) -> Story {
    story.scrapes("up", &[labels], there_except(unwatched.0, unwatched.1)).scrapes(
        "roombridge_build_info",
        &[labels, BUILD],
        there_except(unwatched.0, unwatched.1),
    )
}

const NEVER: (f64, f64) = (f64::INFINITY, f64::INFINITY);

pub fn stories() -> Vec<Story> {
    let down = |title| Story::of("RoombridgeDown", title);
    let missing = |title| Story::of("RoombridgeMissing", title);
    let one_is_gone = "Job sidecars has fewer bridges than the 2 of an hour ago";
    vec![
        bridge(bridge(down("one of two, for 20 minutes"), NORTH, (10.0, 30.0)), SOUTH, NEVER)
            .silent(9.0)
            .fires(13.0, &[NORTH], NORTH_IS_DOWN)
            .fires(29.0, &[NORTH], NORTH_IS_DOWN)
            .silent(31.0),
        bridge(down("restarted between two scrapes"), NORTH, (10.0, 10.25))
            .silent(10.0)
            .silent(11.0)
            .silent(12.0),
        down("has never answered, and only the job tells what it is")
            .scrapes("up", &[r#"instance="a:9464",job="roombridge""#], answers_except(0.0, 20.0))
            .fires(3.0, &[r#"instance="a:9464",job="roombridge""#], "roombridge a:9464 does not answer")
            .silent(22.0),
        watched_bridge(down("the only one leaves the discovery"), NORTH, (10.0, 30.0))
            .silent(9.0)
            .fires(13.0, &[], NONE_IS_KNOWN)
            .silent(31.0),
        down("other targets are none of ours")
            .scrapes("up", &[r#"instance="b:9100",job="node""#], always(0.0))
            .scrapes("up", &[NORTH], always(1.0))
            .scrapes("roombridge_build_info", &[NORTH, BUILD], always(1.0))
            .silent(10.0),
        watched_bridge(
            watched_bridge(missing("one of two leaves the discovery"), NORTH, (70.0, 200.0)),
            SOUTH,
            NEVER,
        )
        .silent(70.0)
        .fires(76.0, &[r#"job="sidecars""#], one_is_gone)
        .fires(129.0, &[r#"job="sidecars""#], one_is_gone)
        .silent(132.0),
        watched_bridge(
            watched_bridge(missing("all of a job leave the discovery"), NORTH, (70.0, 200.0)),
            r#"instance="c:9464",job="other""#,
            NEVER,
        )
        .fires(76.0, &[r#"job="sidecars""#], "Job sidecars has fewer bridges than the 1 of an hour ago")
        .silent(132.0),
        watched_bridge(
            watched_bridge(missing("one is replaced, under a new address"), NORTH, (70.0, 400.0)),
            r#"instance="10.0.0.2:9464",job="sidecars",site="north""#,
            (0.0, 71.0),
        )
        .silent(76.0)
        .silent(129.0)
        .silent(132.0),
    ]
}
