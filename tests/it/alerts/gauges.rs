//! What stands still or grows: messages that wait, the spool, the lag of others.

use super::story::{NORTH, Story, always, between, scrape_fails_at};

const UPLINK: &str = r#"direction="uplink""#;

pub fn stories() -> Vec<Story> {
    [messages_that_wait(), the_spool(), the_archive(), the_lag_of_others()].into_iter().flatten().collect()
}

fn messages_that_wait() -> Vec<Story> {
    let waits = "A message has waited 1m 35s to be stored by 127.0.0.1:9464";
    let queues = "The MQTT broker is queueing for 127.0.0.1:9464";
    let window = "roombridge_receive_window_full";
    vec![
        Story::of("RoombridgeNotStoring", "for ten minutes, and a scrape fails")
            .scrapes(
                "roombridge_lag_seconds",
                &[NORTH, UPLINK],
                scrape_fails_at(15.0, between(10.0, 20.0, 95.0)),
            )
            .silent(10.0)
            .fires(11.5, &[NORTH, UPLINK], waits)
            .fires(15.0, &[NORTH, UPLINK], waits)
            .silent(21.0),
        Story::of("RoombridgeReceiveWindowFull", "for ten minutes, and a scrape fails")
            .scrapes(window, &[NORTH, UPLINK], scrape_fails_at(15.0, between(10.0, 20.0, 1.0)))
            .silent(10.0)
            .fires(11.0, &[NORTH, UPLINK], queues)
            .fires(15.0, &[NORTH, UPLINK], queues)
            .silent(21.0),
    ]
}

fn the_spool() -> Vec<Story> {
    let (depth, bytes, limit) =
        ("roombridge_spool_depth", "roombridge_spool_bytes", "roombridge_spool_limit_bytes");
    let wait =
        |count| format!("{count} messages wait on the disk of 127.0.0.1:9464, and more come than leave");
    let full = "The spool of 127.0.0.1:9464 is full or nearly so";
    let out_of_use = "The spool of 127.0.0.1:9464 is out of use";
    let labels: &[&str] = &[NORTH, UPLINK];
    // 200,000 a minute for 15 minutes, then it is emptied within five.
    let long_outage = |minute: f64| {
        let came = (minute - 10.0).clamp(0.0, 15.0);
        let left = (minute - 25.0).clamp(0.0, 5.0) * 3.0;
        Some((came - left) * 200_000.0)
    };
    let short_outage = |minute: f64| Some((3.0 - (minute - 13.0).abs()).max(0.0) * 1000.0);
    vec![
        Story::of("RoombridgeSpoolGrowing", "RocketMQ is away for 15 minutes, and a scrape fails")
            .scrapes(depth, labels, scrape_fails_at(14.0, long_outage))
            .silent(12.0)
            .fires(17.0, labels, &wait("1400000"))
            .fires(24.0, labels, &wait("2800000"))
            .silent(31.0),
        Story::of("RoombridgeSpoolGrowing", "RocketMQ is away for 3 minutes")
            .scrapes(depth, labels, short_outage)
            .silent(15.0)
            .silent(18.0)
            .silent(20.0),
        Story::of("RoombridgeSpoolNearlyFull", "over four fifths, then emptied")
            .scrapes(bytes, labels, scrape_fails_at(12.0, between(10.0, 20.0, 81.0)))
            .scrapes(limit, labels, scrape_fails_at(12.0, always(100.0)))
            .scrapes("roombridge_spool_full", labels, always(0.0))
            .silent(9.0)
            .fires(11.0, labels, full)
            .fires(12.0, labels, full)
            .silent(21.0),
        Story::of("RoombridgeSpoolNearlyFull", "its disk is full, far below the limit")
            .scrapes(bytes, labels, always(5.0))
            .scrapes(limit, labels, always(100.0))
            .scrapes("roombridge_spool_full", labels, between(10.0, 20.0, 1.0))
            .silent(9.0)
            .fires(11.0, labels, full)
            .silent(21.0),
        Story::of("RoombridgeSpoolNearlyFull", "there is no spool")
            .scrapes(bytes, labels, always(0.0))
            .scrapes(limit, labels, always(0.0))
            .scrapes("roombridge_spool_full", labels, always(0.0))
            .silent(10.0),
        Story::of("RoombridgeSpoolPoisoned", "until the restart")
            .scrapes("roombridge_spool_poisoned", labels, scrape_fails_at(15.0, between(10.0, 20.0, 1.0)))
            .silent(9.0)
            .fires(11.0, labels, out_of_use)
            .fires(15.0, labels, out_of_use)
            .silent(21.0),
    ]
}

fn the_archive() -> Vec<Story> {
    let (headroom, keeps) =
        ("roombridge_archive_headroom_seconds", "roombridge_archive_rocketmq_keeps_seconds");
    let late = "RocketMQ deletes what 127.0.0.1:9464 has not archived in 16h 40m 0s";
    let days = |minute: f64| Some(if (10.0..20.0).contains(&minute) { 60_000.0 } else { 259_200.0 });
    vec![
        Story::of("RoombridgeArchiveLate", "for ten minutes, and a scrape fails")
            .scrapes(headroom, &[NORTH], scrape_fails_at(15.0, days))
            .scrapes(keeps, &[NORTH], scrape_fails_at(15.0, always(259_200.0)))
            .silent(9.0)
            .fires(11.0, &[NORTH], late)
            .fires(15.0, &[NORTH], late)
            .silent(21.0),
        Story::of("RoombridgeArchiveStands", "nothing is archived for an hour, and a scrape fails")
            .scrapes(
                "roombridge_archive_position_age_seconds",
                &[NORTH],
                scrape_fails_at(17.0, between(10.0, 20.0, 9000.0)),
            )
            .silent(14.0)
            .fires(16.0, &[NORTH], "127.0.0.1:9464 has archived nothing for 2h 30m 0s although messages wait")
            .fires(17.0, &[NORTH], "127.0.0.1:9464 has archived nothing for 2h 30m 0s although messages wait")
            .silent(21.0),
        Story::of(
            "RoombridgeArchiveWithheld",
            "a topic lacks read queues for ten minutes, and a scrape fails",
        )
        .scrapes(
            "roombridge_archive_withheld_messages",
            &[NORTH],
            scrape_fails_at(17.0, between(10.0, 20.0, 1200.0)),
        )
        .silent(14.0)
        .fires(
            16.0,
            &[NORTH],
            "RocketMQ hands 1200 messages out to nobody, so 127.0.0.1:9464 cannot archive them",
        )
        .fires(
            17.0,
            &[NORTH],
            "RocketMQ hands 1200 messages out to nobody, so 127.0.0.1:9464 cannot archive them",
        )
        .silent(21.0),
        Story::of("RoombridgeIndexLate", "its disk is full for half an hour, and a scrape fails")
            .scrapes(
                "roombridge_index_position_age_seconds",
                &[NORTH],
                scrape_fails_at(25.0, between(10.0, 40.0, 900.0)),
            )
            .silent(9.0)
            .fires(11.0, &[NORTH], "The index of 127.0.0.1:9464 has lacked something for 15m 0s")
            .fires(25.0, &[NORTH], "The index of 127.0.0.1:9464 has lacked something for 15m 0s")
            .silent(41.0),
        Story::of("RoombridgeArchiveLate", "there is no archive")
            .scrapes(keeps, &[NORTH], always(0.0))
            .silent(10.0),
    ]
}

fn the_lag_of_others() -> Vec<Story> {
    let group: &[&str] = &[NORTH, r#"group="archive""#, r#"topic="room""#];
    let unknown = "How far consumer group archive is behind on room is not known";
    let known = |minute: f64| Some(f64::from(u8::from(!(10.0..25.0).contains(&minute))));
    let behind = "Consumer group archive is 1234567 messages behind on room";
    vec![
        Story::of("RoombridgeConsumerLag", "for 15 minutes, and a scrape fails")
            .scrapes(
                "roombridge_consumer_lag_messages",
                group,
                scrape_fails_at(14.0, between(10.0, 25.0, 1_234_567.0)),
            )
            .silent(12.0)
            .fires(16.0, group, behind)
            .silent(26.0),
        Story::of("RoombridgeConsumerLagUnknown", "a broker is away for 15 minutes, and a scrape fails")
            .scrapes("roombridge_consumer_lag_up", group, scrape_fails_at(14.0, known))
            .silent(12.0)
            .fires(16.0, group, unknown)
            .silent(26.0),
    ]
}
