//! Apache RocketMQ, the Java original: one name server and one broker.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::json;

use super::java::{self, JavaMessage, NewMessage};
use super::ports::{free_broker_port, free_port, wait_until};
use super::process::Process;
use super::remoting;
use super::scratch::Scratch;

/// Some 5 seconds on a quiet machine.
const READY: Duration = Duration::from_secs(150);
pub const MODULES: [&str; 4] = [
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    // Otherwise each start makes an RSA key, which takes seconds on a busy machine.
    "-Dtls.server.mode=disabled",
];

#[derive(Clone, Default)]
pub struct ApacheOptions {
    /// Every send waits for fsync.
    pub sync_flush: bool,
    /// `name=value` lines for broker.conf, which win over ours.
    pub extra_lines: Vec<String>,
}

/// Topics are not made by the first send here: use `create_topic`.
pub struct ApacheRocketMq {
    name_server: Option<Process>,
    broker: Option<Process>,
    name_server_port: u16,
    broker_port: u16,
    starts: u32,
    // The last field, so that the processes are gone before their folder is.
    scratch: Scratch,
}

impl ApacheRocketMq {
    pub fn start() -> ApacheRocketMq {
        ApacheRocketMq::start_with(ApacheOptions::default())
    }

    /// Takes about 5 seconds.
    pub fn start_with(options: ApacheOptions) -> ApacheRocketMq {
        let scratch = Scratch::new("rocketmq");
        let (name_server_port, broker_port) = (free_port(), free_broker_port());
        scratch.write("namesrv.conf", &name_server_config(&scratch, name_server_port));
        scratch.write("broker.conf", &broker_config(&scratch, name_server_port, broker_port, &options));
        let mut new = ApacheRocketMq {
            name_server: None,
            broker: None,
            name_server_port,
            broker_port,
            starts: 0,
            scratch,
        };
        new.spawn_name_server();
        new.spawn_broker(&[]);
        new.wait_ready();
        new
    }

    /// The one that all tests share which do not break it. It ends with the test process.
    pub fn shared() -> &'static ApacheRocketMq {
        static SHARED: OnceLock<ApacheRocketMq> = OnceLock::new();
        SHARED.get_or_init(ApacheRocketMq::start)
    }

    /// `127.0.0.1:PORT` of the name server.
    pub fn name_server(&self) -> String {
        format!("127.0.0.1:{}", self.name_server_port)
    }

    /// `127.0.0.1:PORT` of the broker.
    pub fn broker(&self) -> String {
        format!("127.0.0.1:{}", self.broker_port)
    }

    /// Its configuration, logs and `store`.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Returns when clients find it through the name server, which must run.
    pub fn start_broker(&mut self) {
        self.start_broker_with(&[]);
    }

    /// With variables in its environment.
    pub fn start_broker_with(&mut self, variables: &[(&str, String)]) {
        self.spawn_broker(variables);
        self.wait_ready();
    }

    fn spawn_broker(&mut self, variables: &[(&str, String)]) {
        assert!(self.broker.is_none(), "the broker still runs");
        let options = ["-Xms256m", "-Xmx1g", "-XX:MaxDirectMemorySize=1g"];
        self.broker = Some(self.spawn("broker", "StartBroker", &options, variables));
    }

    /// SIGTERM: it flushes and unregisters, which takes Apache about 10 seconds.
    pub fn stop_broker(&mut self) {
        let mut broker = self.broker.take().expect("the broker runs");
        broker.terminate();
        broker.wait_exit(Duration::from_secs(60));
    }

    /// SIGKILL.
    pub fn kill_broker(&mut self) {
        self.broker.take().expect("the broker runs").kill();
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn pause_broker(&mut self) {
        self.broker.as_mut().expect("the broker runs").pause();
    }

    pub fn resume_broker(&mut self) {
        self.broker.as_mut().expect("the broker runs").resume();
    }

    /// Returns when it knows the broker, if one runs. That registers itself within 10 seconds; until then clients find no route,
    /// and a reader would take a topic for an empty one.
    pub fn start_name_server(&mut self) {
        const GET_ROUTE: i64 = 105;
        self.spawn_name_server();
        self.wait_ready();
        let fields = || json!({ "topic": "DefaultCluster" });
        if self.broker.is_some() {
            wait_until("the name server knows the broker", READY, || {
                remoting::ask(&self.name_server(), GET_ROUTE, fields(), "")["code"] == 0
            });
        }
    }

    fn spawn_name_server(&mut self) {
        assert!(self.name_server.is_none(), "the name server still runs");
        let options = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC"];
        self.name_server =
            Some(self.spawn("namesrv", "org.apache.rocketmq.namesrv.NamesrvStartup", &options, &[]));
    }

    /// SIGKILL.
    pub fn kill_name_server(&mut self) {
        self.name_server.take().expect("the name server runs").kill();
    }

    fn spawn(&mut self, name: &str, class: &str, options: &[&str], variables: &[(&str, String)]) -> Process {
        self.starts += 1;
        let mut command = java::java(&[&MODULES, options].concat(), self.scratch.path());
        command.arg(class).arg("-c").arg(self.scratch.join(&format!("{name}.conf")));
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Process::spawn(name, command, &self.scratch.join(&format!("{name}-{}.log", self.starts)))
    }

    fn wait_ready(&mut self) {
        if let Some(name_server) = &mut self.name_server {
            name_server.wait_ready(READY, |process| process.log_text().contains("boot success"));
        }
        if let Some(broker) = &mut self.broker {
            broker
                .wait_ready(READY, |process| process.log_text().contains("the name server knows the broker"));
        }
    }

    /// With `queues` queues; returns when the name server knows it. Takes about a second.
    #[track_caller]
    pub fn create_topic(&self, name: &str, queues: u32) {
        self.create_topics(&[(name, queues)]);
    }

    #[track_caller]
    pub fn create_topics(&self, topics: &[(&str, u32)]) {
        java::create_topics(&self.name_server(), &self.broker(), topics);
    }

    /// As `mqadmin updateTopic -r QUEUES -w QUEUES -p PERMISSION`; 6 is reading and writing, 2 is writing.
    #[track_caller]
    pub fn update_topic(&self, name: &str, queues: u32, permission: u32) {
        const UPDATE_AND_CREATE_TOPIC: i64 = 17;
        let (queues, permission) = (queues.to_string(), permission.to_string());
        let fields = json!({
            "topic": name, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues,
            "perm": permission, "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
        });
        remoting::call(&self.broker(), UPDATE_AND_CREATE_TOPIC, fields, "");
    }

    /// Deletes the topic and makes it anew under the same name.
    #[track_caller]
    pub fn remake_topic(&self, name: &str, queues: u32) {
        java::remake_topic(&self.name_server(), &self.broker(), name, queues);
    }

    /// Its messages are gone for every reader.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        self.mqadmin(&["deleteTopic", "-t", name, "-c", "DefaultCluster"]);
    }

    /// Of a broker that was killed: the next start finds nothing of what it had.
    pub fn lose_store(&self) {
        assert!(self.broker.is_none(), "the broker still runs");
        let store = self.scratch.join("store");
        fs::remove_dir_all(&store).expect("the store of a dead broker can be removed");
        fs::create_dir_all(&store).expect("a scratch folder can be made");
    }

    /// Apache's admin tool; returns what it printed. Slow to end: 4 to 8 seconds.
    #[track_caller]
    pub fn mqadmin(&self, arguments: &[&str]) -> String {
        java::mqadmin(&self.name_server(), arguments)
    }

    /// Stores messages with Apache's own client, one after the other. Takes about a second.
    #[track_caller]
    pub fn send(&self, messages: &[NewMessage]) {
        java::send_messages(&self.name_server(), messages);
    }

    /// All that is stored in `topic`, read by Apache's own client.
    #[track_caller]
    pub fn read(&self, topic: &str) -> Vec<JavaMessage> {
        java::read_topic(&self.name_server(), topic, "*")
    }

    /// The same, of the messages with one of these tags (`a||b`).
    #[track_caller]
    pub fn read_tags(&self, topic: &str, tag_expression: &str) -> Vec<JavaMessage> {
        java::read_topic(&self.name_server(), topic, tag_expression)
    }

    /// Reads until there are `count` messages. RocketMQ shows a message some milliseconds after it confirmed it.
    #[track_caller]
    pub fn read_at_least(&self, topic: &str, count: usize, deadline: Duration) -> Vec<JavaMessage> {
        let start = Instant::now();
        loop {
            let messages = self.read(topic);
            if messages.len() >= count {
                return messages;
            }
            let found = messages.len();
            assert!(start.elapsed() < deadline, "{found} of {count} messages in {topic} after {deadline:?}");
        }
    }

    /// What the broker printed since its last start.
    pub fn broker_log(&self) -> String {
        self.broker.as_ref().map(Process::log_text).unwrap_or_default()
    }
}

fn name_server_config(scratch: &Scratch, port: u16) -> String {
    let folder = scratch.path().display();
    format!(
        "listenPort={port}\nbindAddress=127.0.0.1\n\
         kvConfigPath={folder}/namesrv/kvConfig.json\nconfigStorePath={folder}/namesrv/namesrv.properties\n"
    )
}

fn broker_config(scratch: &Scratch, name_server_port: u16, port: u16, options: &ApacheOptions) -> String {
    let store = scratch.join("store");
    fs::create_dir_all(&store).expect("a scratch folder can be made");
    let flush = if options.sync_flush { "SYNC_FLUSH" } else { "ASYNC_FLUSH" };
    let mut lines = vec![
        "brokerClusterName=DefaultCluster".to_owned(),
        "brokerName=broker-a".to_owned(),
        "brokerId=0".to_owned(),
        "brokerRole=ASYNC_MASTER".to_owned(),
        format!("flushDiskType={flush}"),
        format!("namesrvAddr=127.0.0.1:{name_server_port}"),
        "brokerIP1=127.0.0.1".to_owned(),
        "bindAddress=127.0.0.1".to_owned(),
        format!("listenPort={port}"),
        format!("haListenPort={}", free_port()),
        "autoCreateTopicEnable=false".to_owned(),
        // How long a name server that was away does not know the broker; 10 s is the least that Apache allows.
        "registerNameServerPeriod=10000".to_owned(),
        "enablePropertyFilter=true".to_owned(),
        // Its own defaults take gigabytes of disk for an empty store.
        "mapedFileSizeCommitLog=67108864".to_owned(),
        "maxHashSlotNum=200000".to_owned(),
        "maxIndexNum=800000".to_owned(),
        // A nearly full disk of a developer's machine must not make it refuse messages.
        "diskMaxUsedSpaceRatio=98".to_owned(),
    ];
    lines.extend(store_paths(&store));
    lines.extend(options.extra_lines.iter().cloned());
    lines.join("\n") + "\n"
}

fn store_paths(store: &Path) -> [String; 2] {
    [
        format!("storePathRootDir={}", store.display()),
        format!("storePathCommitLog={}", store.join("commitlog").display()),
    ]
}
