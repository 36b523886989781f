//! Tries the stories of the rules by `promtool test rules`, which needs no Prometheus and no time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::story::Story;
use super::{books, connections, counters, down, gauges};
use crate::support::process::run_to_end;
use crate::support::scratch::Scratch;

pub fn rules_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/alerts.yml")
}

/// What the stories do not repeat of a rule. Descriptions are plain text: only summaries have labels and values in them.
pub struct Rule {
    pub severity: String,
    pub description: String,
}

/// The alerts of deploy/alerts.yml, which keeps to one line for each of these.
pub fn rules() -> BTreeMap<String, Rule> {
    let text = std::fs::read_to_string(rules_file()).expect("deploy/alerts.yml can be read");
    let mut rules = BTreeMap::new();
    for rule in text.split("- alert: ").skip(1) {
        let name = rule.lines().next().expect("a name").trim().to_owned();
        let after = |start: &str, end: &str| {
            let (_, rest) = rule.split_once(start).unwrap_or_else(|| panic!("{name} has {start}"));
            rest.split_once(end).expect("it ends").0.to_owned()
        };
        let rule =
            Rule { severity: after("severity: ", " }"), description: after("description: \"", "\"\n") };
        rules.insert(name, rule);
    }
    rules
}

fn stories() -> Vec<Story> {
    [down::stories(), counters::stories(), gauges::stories(), connections::stories(), books::stories()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn each_rule_has_a_story_in_which_it_fires_and_ends() {
    let told: BTreeSet<String> =
        stories().iter().filter(|story| story.fires_and_ends()).map(|story| story.alert.to_owned()).collect();
    assert_eq!(rules().into_keys().collect::<BTreeSet<_>>(), told);
}

#[test]
fn each_rule_fires_and_ends_with_a_scrape_every_15_s() {
    assert_stories_hold(15);
}

/// Prometheus's own default.
#[test]
fn each_rule_fires_and_ends_with_a_scrape_every_60_s() {
    assert_stories_hold(60);
}

fn assert_stories_hold(interval_s: u32) {
    let rules = rules();
    let stories = stories();
    let tests: Vec<Value> = stories.iter().map(|story| story.at_interval(interval_s, &rules)).collect();
    let tests = json!({
        "rule_files": [rules_file()],
        "evaluation_interval": format!("{interval_s}s"),
        "tests": tests,
    });
    let scratch = Scratch::new("promtool");
    // JSON is YAML.
    let file = scratch.write("alerts.test.yml", &tests.to_string());
    let mut promtool = Command::new("promtool");
    promtool.args(["test", "rules"]).arg(file);
    let output = run_to_end(promtool, Duration::from_secs(120));
    let said = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}
