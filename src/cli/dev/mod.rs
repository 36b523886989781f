//! `roombridge dev`: MQTT broker, RocketMQ and the bridge in one process, with nothing else installed.

mod access;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use roombridge_embedded::{
    ClientPolicy, MqttBroker, MqttBrokerOptions, RocketMq, RocketMqOptions, start_mqtt_broker, start_rocketmq,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc;

use super::output;
use super::run::exit_code;
use super::target::{DEV_OPERATOR, DevInstance, default_dev_data_dir, in_dev_folder};
use crate::access::{Authenticator, Operator};
use crate::app::{self, Bridge};
use crate::config::{Config, LogConfig};
use crate::lifecycle::Lifecycle;
use crate::model::SystemClock;
use crate::telemetry::{self, Readiness};
use access::{Auth, ClassAccess, end_expired, origin, pass_on};

/// Events that wait between the broker and the classroom. When there are so many, the broker lets its clients wait.
const EVENTS: usize = 1024;
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Folder for everything that dev keeps, so that today's messages are still there tomorrow.
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new().try_map(folder))]
    data: Option<PathBuf>,
    /// Port of MQTT over TCP. 0 takes a free port, here and for the ports below.
    #[arg(long, value_name = "PORT", default_value_t = 1883)]
    mqtt_port: u16,
    /// Port of MQTT over WebSocket; the path is /mqtt.
    #[arg(long, value_name = "PORT", default_value_t = 8083)]
    websocket_port: u16,
    /// Port of RocketMQ's name server.
    #[arg(long, value_name = "PORT", default_value_t = 9876)]
    name_server_port: u16,
    /// Port of RocketMQ's broker, which also takes PORT-2 and PORT+1.
    #[arg(long, value_name = "PORT", default_value_t = 10911)]
    broker_port: u16,
    /// Port of metrics and health.
    #[arg(long, value_name = "PORT", default_value_t = 9464)]
    http_port: u16,
    /// Port of the classroom's pages and API.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    web_port: u16,
    /// Port of the login, which gives tokens.
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    login_port: u16,
    /// Who may connect without a token.
    #[arg(long, value_enum, default_value_t = Auth::Optional)]
    auth: Auth,
    /// With --auth required: other pages that may use the WebSocket, as https://class.example; several with commas.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    allow_origin: Vec<String>,
    /// What to log: a level or tracing directives.
    #[arg(long, value_name = "LEVEL", default_value = "warn", env = "ROOMBRIDGE_LOG")]
    log: String,
}

/// In `--data=~/x` no shell puts the home in its place, and a folder named ~ would be made.
fn folder(path: PathBuf) -> Result<PathBuf, &'static str> {
    if path.as_os_str().as_encoded_bytes().starts_with(b"~") {
        return Err("it begins with ~, which is no folder; write the whole path");
    }
    Ok(path)
}

pub(crate) async fn run(arguments: DevArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut config = Config::for_dev()?;
    telemetry::init(&LogConfig { level: arguments.log.clone(), ..config.log.clone() }, &[])?;
    let data = arguments.data.clone().map_or_else(default_dev_data_dir, Ok)?;
    let lifecycle = Lifecycle::new(DRAIN);
    lifecycle.listen_for_signals()?;

    if arguments.auth == Auth::None {
        config.classroom = None;
    }
    let (events, event_receiver) = mpsc::channel(EVENTS);
    let (authenticator, password) = authenticator(&config)?;
    let own_clients =
        authenticator.operators.iter().flat_map(|operator| operator.client_ids.clone()).collect();
    config.mqtt.username = Some(DEV_OPERATOR.to_owned());
    config.mqtt.password = Some(password.clone());
    let class_access =
        Arc::new(ClassAccess::new(authenticator, arguments.auth, Arc::new(SystemClock::default())));
    let web_port = chosen_port(arguments.web_port)?;
    let client_policy = ClientPolicy {
        allowed_origins: allowed_origins(&arguments, web_port)?,
        access: Some(class_access.clone()),
        p2p_parents: config.downlinks.iter().map(|downlink| downlink.mqtt_topic.clone()).collect(),
        events: Some(events),
        ..ClientPolicy::default()
    };
    let (mqtt, rocketmq) =
        tokio::join!(mqtt_broker(&arguments, &data, client_policy), rocketmq(&arguments, &data));
    let (mqtt, rocketmq) = (Arc::new(mqtt?), rocketmq?);
    in_dev_folder(&mut config, &data);
    config.mqtt.port = mqtt.tcp_port();
    config.rocketmq.name_servers = vec![rocketmq.name_server_address()];
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    config.http.listen = local(arguments.http_port);
    config.web.listen = config.classroom.is_some().then(|| local(web_port));
    config.login.listen = Some(local(arguments.login_port));
    config.web.websocket_url = Some(format!("ws://127.0.0.1:{}/mqtt", mqtt.websocket_port()));
    let mut bridge = Bridge::prepare(config, false).await?;
    let (news, news_receiver) = mpsc::channel(EVENTS);
    bridge.take_news(news_receiver);
    lifecycle.spawn("the embedded MQTT broker", mqtt.ended());
    lifecycle.spawn("the embedded RocketMQ", rocketmq.ended());
    lifecycle.spawn("passing on the news of clients", pass_on(event_receiver, news, own_clients));
    let expiring = lifecycle.spawn("the watch of tokens", end_expired(class_access, mqtt.clone()));
    let class = bridge.class_addresses()?;
    let shown = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let instance = DevInstance {
        pid: std::process::id(),
        mqtt: format!("127.0.0.1:{}", mqtt.tcp_port()),
        websocket: format!("127.0.0.1:{}", mqtt.websocket_port()),
        name_server: rocketmq.name_server_address(),
        http: bridge.http_address()?.to_string(),
        web: shown(class.web),
        login: shown(class.login),
        mqtt_password: password.expose_secret().to_owned(),
    };
    instance.write(&data).context("could not leave the addresses for the other commands")?;

    let banner = banner(&instance, &data, arguments.data.is_some());
    tokio::spawn(print_when_ready(banner, bridge.readiness(), started));
    let ended = bridge.run(lifecycle).await;
    DevInstance::remove(&data);
    expiring.abort();
    let _ = expiring.await;
    // The watch of tokens was its only other owner. If there were one more, the broker would stop when that one drops it.
    match Arc::try_unwrap(mqtt) {
        Ok(mqtt) => _ = tokio::join!(mqtt.shutdown(), rocketmq.shutdown()),
        Err(_) => rocketmq.shutdown().await,
    }
    Ok(exit_code(ended?))
}

/// Prints the banner once the bridge is ready, with the seconds that this took.
async fn print_when_ready(banner: String, readiness: Arc<Readiness>, started: Instant) {
    while !readiness.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ready_after = started.elapsed().as_secs_f64();
    let printed = output::line(format_args!("{banner}\n\nReady after {ready_after:.1} s. Stop with Ctrl-C."));
    if let Err(error) = printed {
        tracing::warn!(%error, "nobody reads the addresses; they stand in dev.json of the data folder, too");
    }
}

/// Any page on the internet can open a WebSocket to this machine. `None`: every page may connect.
fn allowed_origins(arguments: &DevArgs, web_port: u16) -> anyhow::Result<Option<Vec<String>>> {
    if arguments.auth == Auth::Required {
        let own = [format!("http://127.0.0.1:{web_port}"), format!("http://localhost:{web_port}")];
        return Ok(Some(own.into_iter().chain(arguments.allow_origin.clone()).collect()));
    }
    if !arguments.allow_origin.is_empty() {
        bail!("--allow-origin changes nothing here: every page may connect; it goes with --auth required");
    }
    Ok(None)
}

/// The port that is asked for, or a free one. The WebSocket's allowed origins name it, so it must be known early.
fn chosen_port(port: u16) -> std::io::Result<u16> {
    match port {
        0 => Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()),
        port => Ok(port),
    }
}

/// Checks logins to the embedded broker. The password is that of this process's own bridge, drawn at random at each start.
fn authenticator(config: &Config) -> anyhow::Result<(Authenticator, SecretString)> {
    let access = config.access.as_ref().context("dev has no [access]; please report this")?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("could not draw random bytes: {error}"))?;
    let password = SecretString::from(format!("{:032x}", u128::from_be_bytes(random)));
    let mut authenticator = app::authenticator(config, access)?;
    authenticator.operators.push(Operator {
        username: DEV_OPERATOR.to_owned(),
        password: password.clone(),
        client_ids: vec![config.mqtt.client_id.clone(), format!("{}-down", config.mqtt.client_id)],
    });
    Ok((authenticator, password))
}

async fn mqtt_broker(
    arguments: &DevArgs,
    data: &Path,
    client_policy: ClientPolicy,
) -> anyhow::Result<MqttBroker> {
    let options = MqttBrokerOptions {
        tcp_port: arguments.mqtt_port,
        websocket_port: arguments.websocket_port,
        data_dir: data.to_owned(),
        client_policy,
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

/// What runs where, and which commands to try; they work when they are copied.
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

  classroom    {classroom}
  MQTT         {mqtt}
  WebSocket    ws://{websocket}/mqtt
  login        http://{login}/login (access key, instance, secret: dev)
  RocketMQ     {name_server} (name server)
  metrics      http://{http}/metrics
  data         {data}

{invitation}, in another terminal:

  mosquitto_pub -p {mqtt_port} -q 1 -t {topic} \\
    -i GID_student@@@001 -m '{{\"peer\":\"GID_student@@@001\",\"roomId\":\"123456\",\"msg\":\"hello\"}}'
  {program} history 123456{where_to_look}
  {program} replay 123456 --speed 4{where_to_look}
  {program} explain room/message/123456
  curl -s http://{http}/metrics",
        mqtt = instance.mqtt,
        topic = if instance.web.is_empty() { "room/message/123456" } else { "roomSend/message" },
        classroom = if instance.web.is_empty() {
            "none, because of --auth none".to_owned()
        } else {
            format!("http://{}/", instance.web)
        },
        invitation = if instance.web.is_empty() {
            "There is no class, and whoever connects may publish everywhere; try"
        } else {
            "Open the classroom in a browser, as teacher and as student; and try"
        },
        login = instance.login,
        websocket = instance.websocket,
        name_server = instance.name_server,
        http = instance.http,
        data = data.display(),
    )
}

/// The text as one word for a shell. Only a NUL cannot be quoted, which no path and no argument holds.
fn shell_word(text: &str) -> String {
    shlex::try_quote(text).unwrap_or(text.into()).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        dev: DevArgs,
    }

    #[test]
    fn a_folder_that_begins_with_a_tilde_is_refused() {
        let parsed = |data: &str| Line::try_parse_from(["dev", data]);
        for data in ["--data=~", "--data=~/x", "--data=~alice/x"] {
            let refused = parsed(data).unwrap_err().to_string();
            assert!(refused.contains("begins with ~") && refused.contains("the whole path"), "{refused}");
        }
        for (data, folder) in [("--data=./~x", "./~x"), ("--data=/home/a~b", "/home/a~b")] {
            assert_eq!(parsed(data).unwrap().dev.data.as_deref(), Some(Path::new(folder)));
        }
    }

    #[test]
    fn a_folder_with_a_space_or_a_quote_stays_one_word() {
        assert_eq!(shell_word("/home/a/b-c_1.d"), "/home/a/b-c_1.d");
        assert_eq!(shell_word("/home/my data"), "'/home/my data'");
        assert_eq!(shell_word("it's"), "\"it's\"");
    }
}
