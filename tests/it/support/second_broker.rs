//! A second Apache broker under the name server of `ApacheRocketMq`: `broker-b`, with a store of its own.

use std::time::Duration;

use super::apache::{ApacheRocketMq, MODULES};
use super::java;
use super::ports::{free_broker_port, free_port};
use super::process::Process;
use super::scratch::Scratch;

pub struct SecondBroker {
    process: Option<Process>,
    port: u16,
    starts: u32,
    // The last field, so that the process is gone before its folder is.
    scratch: Scratch,
}

impl SecondBroker {
    /// Returns when the name server knows it.
    pub fn start(rocketmq: &ApacheRocketMq) -> SecondBroker {
        let scratch = Scratch::new("second-broker");
        let port = free_broker_port();
        let store = scratch.join("store");
        std::fs::create_dir_all(&store).expect("a scratch folder can be made");
        let lines = [
            "brokerClusterName=DefaultCluster".to_owned(),
            "brokerName=broker-b".to_owned(),
            "brokerId=0".to_owned(),
            "brokerRole=ASYNC_MASTER".to_owned(),
            "flushDiskType=ASYNC_FLUSH".to_owned(),
            format!("namesrvAddr={}", rocketmq.name_server()),
            "brokerIP1=127.0.0.1".to_owned(),
            "bindAddress=127.0.0.1".to_owned(),
            format!("listenPort={port}"),
            format!("haListenPort={}", free_port()),
            "autoCreateTopicEnable=false".to_owned(),
            "registerNameServerPeriod=10000".to_owned(),
            "mapedFileSizeCommitLog=67108864".to_owned(),
            "maxHashSlotNum=200000".to_owned(),
            "maxIndexNum=800000".to_owned(),
            "diskMaxUsedSpaceRatio=98".to_owned(),
            format!("storePathRootDir={}", store.display()),
            format!("storePathCommitLog={}", store.join("commitlog").display()),
        ];
        scratch.write("broker.conf", &(lines.join("\n") + "\n"));
        let mut broker = SecondBroker { process: None, port, starts: 0, scratch };
        broker.start_again();
        broker
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("the second broker runs").kill();
    }

    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the second broker still runs");
        self.starts += 1;
        let options = ["-Xms256m", "-Xmx1g", "-XX:MaxDirectMemorySize=1g"];
        let mut command = java::java(&[&MODULES[..], &options].concat(), self.scratch.path());
        command.args(["StartBroker", "-c"]).arg(self.scratch.join("broker.conf"));
        let log = self.scratch.join(&format!("broker-{}.log", self.starts));
        let process = self.process.insert(Process::spawn("second broker", command, &log));
        process.wait_ready(Duration::from_secs(60), |process| {
            process.log_text().contains("the name server knows the broker")
        });
    }
}
