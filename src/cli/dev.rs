//! `roombridge dev`: MQTT broker, RocketMQ and the bridge in one process, with nothing else installed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use roombridge_embedded::{
    MqttBroker, MqttBrokerOptions, RocketMq, RocketMqOptions, start_mqtt_broker, start_rocketmq,
};

use super::run::exit_code;
use super::target::{DevInstance, default_dev_data_dir, dev_bridge_dir};
use crate::app::Bridge;
use crate::config::{Config, LogConfig};
use crate::lifecycle::Lifecycle;
use crate::telemetry;

const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct DevArgs {
    /// Folder for everything that is kept; messages of yesterday are still there tomorrow.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// MQTT over TCP; 0 takes a free port, here and below.
    #[arg(long, value_name = "PORT", default_value_t = 1883)]
    mqtt_port: u16,
    /// MQTT over WebSocket, path /mqtt.
    #[arg(long, value_name = "PORT", default_value_t = 8083)]
    websocket_port: u16,
    /// RocketMQ's name server.
    #[arg(long, value_name = "PORT", default_value_t = 9876)]
    name_server_port: u16,
    /// RocketMQ's broker; it also takes PORT-2 and PORT+1.
    #[arg(long, value_name = "PORT", default_value_t = 10911)]
    broker_port: u16,
    /// Metrics and health.
    #[arg(long, value_name = "PORT", default_value_t = 9464)]
    http_port: u16,
    /// What to log: a level or tracing directives.
    #[arg(long, value_name = "LEVEL", default_value = "warn", env = "ROOMBRIDGE_LOG")]
    log: String,
}

pub async fn run(arguments: DevArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut config = Config::for_dev()?;
    telemetry::init(
        &LogConfig {
            level: arguments.log.clone(),
            ..config.log.clone()
        },
        &[],
    )?;
    let data = arguments.data.clone().map_or_else(default_dev_data_dir, Ok)?;
    let lifecycle = Lifecycle::default();
    lifecycle.listen_for_signals(DRAIN)?;

    let (mqtt, rocketmq) = tokio::join!(mqtt_broker(&arguments, &data), rocketmq(&arguments, &data));
    let (mqtt, rocketmq) = (mqtt?, rocketmq?);
    config.data_dir = dev_bridge_dir(&data);
    config.mqtt.port = mqtt.tcp_port();
    config.rocketmq.name_servers = vec![rocketmq.name_server_address()];
    config.http.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.http_port));
    let bridge = Bridge::prepare(config, false).await?;
    let instance = DevInstance {
        pid: std::process::id(),
        mqtt: format!("127.0.0.1:{}", mqtt.tcp_port()),
        websocket: format!("127.0.0.1:{}", mqtt.websocket_port()),
        name_server: rocketmq.name_server_address(),
        http: bridge.http_address()?.to_string(),
    };
    instance
        .write(&data)
        .context("could not leave the addresses for the other commands")?;

    let readiness = bridge.readiness();
    let banner = banner(&instance, &data, arguments.data.is_some());
    tokio::spawn(async move {
        while !readiness.is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!(
            "{banner}\n\nReady after {:.1} s. Stop with Ctrl-C.",
            started.elapsed().as_secs_f64()
        );
    });
    let ended = bridge.run(lifecycle).await;
    DevInstance::remove(&data);
    tokio::join!(mqtt.shutdown(), rocketmq.shutdown());
    Ok(exit_code(ended?))
}

async fn mqtt_broker(arguments: &DevArgs, data: &Path) -> anyhow::Result<MqttBroker> {
    let options = MqttBrokerOptions {
        tcp_port: arguments.mqtt_port,
        websocket_port: arguments.websocket_port,
        data_dir: data.to_owned(),
    };
    Ok(start_mqtt_broker(options).await?)
}

async fn rocketmq(arguments: &DevArgs, data: &Path) -> anyhow::Result<RocketMq> {
    let options = RocketMqOptions {
        name_server_port: arguments.name_server_port,
        broker_port: arguments.broker_port,
        data_dir: data.to_owned(),
    };
    Ok(start_rocketmq(options).await?)
}

/// What runs where, and what to type next, so that it works when copied.
fn banner(instance: &DevInstance, data: &Path, data_was_given: bool) -> String {
    let mqtt_port = instance.mqtt.rsplit(':').next().unwrap_or_default();
    let program = shell_word(&std::env::args().next().unwrap_or_else(|| "roombridge".to_owned()));
    let where_to_look = if data_was_given {
        format!(" --data {}", shell_word(&data.display().to_string()))
    } else {
        String::new()
    };
    format!(
        "\
roombridge dev: everything runs in this process, on this machine only

  MQTT         {mqtt}
  WebSocket    ws://{websocket}/mqtt
  RocketMQ     {name_server} (name server)
  metrics      http://{http}/metrics
  data         {data}

Try, in another terminal:

  mosquitto_pub -p {mqtt_port} -q 1 -t room/message/123456 \\
    -m '{{\"peer\":\"GID_student@@@001\",\"roomId\":\"123456\",\"msg\":\"hello\"}}'
  {program} history 123456{where_to_look}
  {program} replay 123456 --speed 4{where_to_look}
  {program} explain room/message/123456
  curl -s http://{http}/metrics",
        mqtt = instance.mqtt,
        websocket = instance.websocket,
        name_server = instance.name_server,
        http = instance.http,
        data = data.display(),
    )
}

/// The text as one word for a shell.
fn shell_word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_space_or_a_quote_stays_one_word() {
        assert_eq!(shell_word("/home/a/b-c_1.d"), "/home/a/b-c_1.d");
        assert_eq!(shell_word("/home/my data"), "'/home/my data'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
    }
}
