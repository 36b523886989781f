//! `config/roombridge.toml` documents every key, and works as it is and with every key in use.

use std::path::Path;

use super::load;
use crate::config::keys::KEYS;

fn shipped() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/roombridge.toml")).unwrap()
}

/// A commented key has no space behind the `#`; prose has one.
fn uncommented(text: &str) -> String {
    let in_use = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    text.lines().map(|line| in_use(line) + "\n").collect()
}

fn without_lines(text: &str, unwanted: impl Fn(&str) -> bool) -> String {
    text.lines()
        .filter(|line| !unwanted(line.split(" = ").next().unwrap()))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn it_loads_as_it_is_and_its_examples_are_the_defaults() {
    let config = load(&shipped(), &[]).unwrap();
    let defaults = load(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:1883\"\n[rocketmq]\nname_servers = [\"127.0.0.1:9876\"]\n",
        &[],
    )
    .unwrap();
    assert_eq!(format!("{config:?}"), format!("{defaults:?}"));
}

#[test]
fn what_it_shows_as_default_is_the_default() {
    let all = uncommented(&shipped());
    let plain = without_lines(&all, |key| key.ends_with("_file"));
    let (shown, defaults) = (load(&plain, &[]).unwrap(), load(&shipped(), &[]).unwrap());
    // What has no default shows an example; the rest must not change anything.
    assert_eq!(format!("{:?}", shown.pipeline), format!("{:?}", defaults.pipeline));
    assert_eq!(
        (shown.spool, shown.dead_letter, shown.http, shown.log, shown.shutdown),
        (defaults.spool, defaults.dead_letter, defaults.http, defaults.log, defaults.shutdown)
    );
    assert_eq!(shown.data_dir, defaults.data_dir);
    let mut mqtt = shown.mqtt;
    (mqtt.username, mqtt.password) = (None, None);
    assert_eq!(format!("{mqtt:?}"), format!("{:?}", defaults.mqtt));
    let mut rocketmq = shown.rocketmq;
    assert_eq!(rocketmq.lag.len(), 1);
    (rocketmq.access_key, rocketmq.secret_key, rocketmq.lag) = (None, None, Vec::new());
    assert_eq!(format!("{rocketmq:?}"), format!("{:?}", defaults.rocketmq));
    let [binding, of_classroom] = shown.bindings.as_slice() else { panic!("{:?}", shown.bindings) };
    assert_eq!((&binding.topic, &binding.tag), (&defaults.bindings[0].topic, &defaults.bindings[0].tag));
    assert_eq!(of_classroom.order_key_field.as_deref(), Some("roomId"));
    assert!(shown.classroom.is_some() && shown.downlinks.len() == 1);
    assert!(binding.room.is_some() && binding.kind.is_some() && binding.order_key.is_some());
}

#[test]
fn it_loads_with_every_secret_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "mqtt-password",
        "rocketmq-secret-key",
        "archive-secret-key",
        "roombridge-origin-key",
        "roombridge-access",
        "roombridge-login",
        "mqtt-ca.pem",
    ] {
        std::fs::write(folder.path().join(name), "content\n").unwrap();
    }
    let folder = folder.path().to_str().unwrap();
    let all = uncommented(&shipped())
        .replace("mqtt://127.0.0.1:1883", "mqtts://127.0.0.1:8883")
        .replace("/run/secrets", folder)
        .replace("/etc/roombridge", folder);
    let by_file = without_lines(&all, |key| matches!(key, "password" | "secret_key" | "key" | "secret"));
    let config = load(&by_file, &[]).unwrap();
    assert!(
        config.mqtt.password.is_some() && config.rocketmq.secret_key.is_some() && config.origin.key.is_some()
    );
    assert!(config.mqtt.tls.unwrap().ca_file.is_some());
}

/// The file shows the new names only.
const OLDER_NAMES: [&str; 2] = ["classroom.send", "classroom.room"];

#[test]
fn it_holds_every_key() {
    let table: toml::Table = toml::from_str(&uncommented(&shipped())).unwrap();
    let text = shipped();
    let mut looked_at = 0;
    for key in KEYS {
        if OLDER_NAMES.contains(&key.path) {
            continue;
        }
        if key.path.starts_with("binding.sender.") {
            let (_, name) = key.path.rsplit_once('.').unwrap();
            assert!(text.contains(&format!("{{ {name} = ")), "{} is not documented", key.path);
            continue;
        }
        let mut value = &toml::Value::Table(table.clone());
        for name in key.path.split('.') {
            let inner = value.as_array().and_then(|tables| tables.first()).unwrap_or(value);
            value = inner.get(name).unwrap_or_else(|| panic!("{} is not documented", key.path));
        }
        looked_at += 1;
    }
    assert!(looked_at > 40);
}
