//! What Prometheus scrapes over time, and which alerts it must hold when. Told once, tried at each scrape interval.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::promtool::Rule;

/// Labels of a target, as a Prometheus for many sites has them: bridges that listen on the loopback differ in the last only.
pub const NORTH: &str = r#"instance="127.0.0.1:9464",job="sidecars",site="north""#;
pub const SOUTH: &str = r#"instance="127.0.0.1:9464",job="sidecars",site="south""#;

/// What a scrape at this minute brings; `None` where it fails or the series is gone.
type Course = Box<dyn Fn(f64) -> Option<f64>>;

pub struct Story {
    title: String,
    pub alert: &'static str,
    series: Vec<(String, Course)>,
    /// By the minute, in hundredths: labels and summary of each alert that fires then.
    moments: BTreeMap<u32, Vec<(String, String)>>,
}

/// A course that is always there.
pub fn always(value: f64) -> impl Fn(f64) -> Option<f64> {
    move |_| Some(value)
}

/// 0, and `value` between these minutes.
pub fn between(from: f64, to: f64, value: f64) -> impl Fn(f64) -> Option<f64> {
    move |minute| Some(if minute >= from && minute < to { value } else { 0.0 })
}

/// One scrape fails, at either interval.
pub fn scrape_fails_at(at: f64, course: impl Fn(f64) -> Option<f64>) -> impl Fn(f64) -> Option<f64> {
    move |minute| {
        if minute >= at && minute < at + 0.25 { None } else { course(minute) }
    }
}

impl Story {
    pub fn of(alert: &'static str, title: &str) -> Story {
        Story { title: format!("{alert}: {title}"), alert, series: Vec::new(), moments: BTreeMap::new() }
    }

    /// `name{labels}`.
    pub fn scrapes(
        mut self,
        name: &str,
        labels: &[&str],
        course: impl Fn(f64) -> Option<f64> + 'static,
    ) -> Story {
        let series = format!("{name}{{{}}}", labels.join(","));
        self.series.push((series, Box::new(course)));
        self
    }

    /// At this minute one with these labels and this summary fires, and no other than those named for the same minute.
    pub fn fires(mut self, minute: f64, labels: &[&str], summary: &str) -> Story {
        let alerts = self.moments.entry(hundredths(minute)).or_default();
        alerts.push((labels.join(","), summary.to_owned()));
        self
    }

    pub fn silent(mut self, minute: f64) -> Story {
        self.moments.entry(hundredths(minute)).or_default();
        self
    }

    pub fn fires_and_ends(&self) -> bool {
        let fires = self.moments.iter().find(|(_, alerts)| !alerts.is_empty());
        fires.is_some_and(|(from, _)| {
            let later = self.moments.range(from..);
            later.into_iter().any(|(_, alerts)| alerts.is_empty())
        })
    }

    /// As a test of `promtool test rules`.
    pub fn at_interval(&self, interval_s: u32, rules: &BTreeMap<String, Rule>) -> Value {
        let rule = &rules[self.alert];
        let last = self.moments.keys().next_back().expect("a story looks at something");
        let scrapes = (last * 60 / 100).div_ceil(interval_s) + 1;
        let minutes = (0..scrapes).map(|number| f64::from(number * interval_s) / 60.0);
        let series = self.series.iter().map(|(name, course)| {
            let values: Vec<String> = minutes.clone().map(|minute| sample(course(minute))).collect();
            json!({ "series": name, "values": values.join(" ") })
        });
        let moments = self.moments.iter().map(|(minute, alerts)| {
            let alerts = alerts.iter().map(|(labels, summary)| {
                let mut labels = parsed(labels);
                labels.insert("severity", rule.severity.as_str());
                let annotations = json!({ "summary": summary, "description": rule.description });
                json!({ "exp_labels": labels, "exp_annotations": annotations })
            });
            json!({
                "eval_time": format!("{}s", minute * 60 / 100),
                "alertname": self.alert,
                "exp_alerts": alerts.collect::<Vec<_>>(),
            })
        });
        json!({
            "name": self.title,
            "interval": format!("{interval_s}s"),
            "input_series": series.collect::<Vec<_>>(),
            "alert_rule_test": moments.collect::<Vec<_>>(),
        })
    }
}

fn hundredths(minute: f64) -> u32 {
    (minute * 100.0).round() as u32
}

/// A failed scrape and a target that leaves end their series at once, as Prometheus marks it.
fn sample(value: Option<f64>) -> String {
    value.map_or("stale".to_owned(), |value| value.to_string())
}

/// `a="b",c="d"`.
fn parsed(labels: &str) -> BTreeMap<&str, &str> {
    let labels = labels.split(',').filter(|label| !label.is_empty());
    labels
        .map(|label| {
            let (name, value) = label.split_once('=').expect("name=value");
            (name, value.trim_matches('"'))
        })
        .collect()
}
