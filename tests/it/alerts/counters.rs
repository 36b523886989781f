//! What has happened once and must be told: counters that may be above 0 at their first scrape.

use super::story::{NORTH, SOUTH, Story, always};

struct Counted {
    alert: &'static str,
    counter: &'static str,
    labels: &'static [&'static str],
    summary: fn(&str) -> String,
}

const COUNTED: [Counted; 5] = [
    Counted {
        alert: "RoombridgeDropping",
        counter: "roombridge_dropped_total",
        labels: &[r#"direction="uplink""#, r#"reason="intake_full""#],
        summary: |count| format!("127.0.0.1:9464 gave messages up: {count} (intake_full)"),
    },
    Counted {
        alert: "RoombridgeDeadLetters",
        counter: "roombridge_dead_lettered_total",
        labels: &[r#"direction="downlink""#, r#"reason="too_large_for_mqtt""#],
        summary: |count| format!("127.0.0.1:9464 made dead letters: {count} (too_large_for_mqtt, downlink)"),
    },
    Counted {
        alert: "RoombridgeSessionLost",
        counter: "roombridge_session_lost_total",
        labels: &[r#"direction="uplink""#],
        summary: |_| "The MQTT broker lost the session of 127.0.0.1:9464".to_owned(),
    },
    Counted {
        alert: "RoombridgePositionLost",
        counter: "roombridge_position_lost_total",
        labels: &[r#"direction="downlink""#],
        summary: |count| {
            format!(
                "RocketMQ lost messages that 127.0.0.1:9464 was to bring down: queues emptied, cut or rolled back: \
                 {count}"
            )
        },
    },
    Counted {
        alert: "RoombridgeArchiveLost",
        counter: "roombridge_archive_lost_total",
        labels: &[r#"cause="deleted""#],
        summary: |count| format!("Messages were gone before 127.0.0.1:9464 archived them: {count} (deleted)"),
    },
];

impl Counted {
    /// A process that starts with the story and again at these minutes, and what its counter shows.
    fn story(&self, title: &str, restarts: &'static [f64], course: fn(f64) -> f64) -> Story {
        Story::of(self.alert, title)
            .scrapes(self.counter, &[&[NORTH], self.labels].concat(), move |minute| Some(course(minute)))
            .scrapes("process_start_time_seconds", &[NORTH], move |minute| {
                let last = restarts.iter().rfind(|restart| **restart <= minute);
                Some(last.map_or(0.0, |restart| restart * 60.0))
            })
    }

    fn fires(&self, story: Story, minute: f64, count: &str) -> Story {
        let labels = [&[NORTH], self.labels].concat();
        story.fires(minute, &labels, &(self.summary)(count))
    }

    fn stories(&self) -> Vec<Story> {
        let first_scrape = self.story("before the first scrape", &[], |_| 1_234_567.0);
        let first_scrape = self.fires(first_scrape, 1.0, "1234567");
        let later = self.story("while it is watched", &[], |minute| if minute < 30.0 { 0.0 } else { 3.0 });
        let later = self.fires(self.fires(later.silent(29.0), 31.0, "3"), 38.0, "3");
        let again = self.story("once in each of two lives, which looks like no change", &[30.0], |_| 1.0);
        let again = self.fires(again.silent(29.0), 31.0, "1");
        let restart = self.story("a restart alone", &[30.0], |minute| if minute < 30.0 { 5.0 } else { 0.0 });
        // The same address at another site has just started.
        let neighbour = self
            .story("in an older life than the neighbour's", &[], |_| 2.0)
            .scrapes("process_start_time_seconds", &[SOUTH], |minute| (minute >= 20.0).then_some(20.0 * 60.0))
            .scrapes(self.counter, &[&[SOUTH], self.labels].concat(), |minute| {
                (minute >= 20.0).then_some(0.0)
            });
        vec![
            first_scrape.silent(12.0),
            later.silent(42.0),
            again.silent(42.0),
            restart.silent(31.0).silent(35.0),
            neighbour.silent(21.0),
        ]
    }
}

pub fn stories() -> Vec<Story> {
    let long_ago = Story::of("RoombridgeSessionLost", "a process that is old at the first scrape")
        .scrapes("roombridge_session_lost_total", &[NORTH, r#"direction="uplink""#], always(4.0))
        .scrapes("process_start_time_seconds", &[NORTH], always(-86_400.0))
        .silent(1.0)
        .silent(5.0);
    let counted = COUNTED.iter().flat_map(Counted::stories);
    counted.chain([long_ago]).collect()
}
