//! The settings of the embedded RocketMQ: durable like a real one, small like a tool.
//!
//! Promises: no message is deleted by age, each send is flushed before its answer, nothing listens outside 127.0.0.1,
//! no path lies outside the data folder. (The defaults of the crates break each of these promises.)

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rocketmq_broker::config::broker_config::BrokerConfig;
use rocketmq_broker::config::validated::ValidatedBrokerConfig;
use rocketmq_namesrv::NamesrvConfig;
use rocketmq_store::{FlushDiskType, MessageStoreConfig};
use rocketmq_transport::api::ServerConfig;

use crate::error::with_causes;
use crate::ports::RocketMqPorts;

/// The only address that anything listens on.
pub(crate) const LOCAL_ADDRESS: &str = "127.0.0.1";
const BROKER_NAME: &str = "embedded";
const CLUSTER_NAME: &str = "dev";
/// A hundred years: the default deletes after 72 hours.
const KEEP_HOURS: usize = 24 * 365 * 100;
/// Size of a file of the commit log. The default of 1 GiB would be allocated at the first message.
const COMMIT_LOG_FILE_BYTES: usize = 64 << 20;
/// Size of the index file: 17 MB on the disk, instead of the default of 401 MB.
const INDEX_SLOTS: u32 = 200_000;
const INDEX_ENTRIES: u32 = 800_000;
/// The shortest period that the broker allows; the default is 30 s.
const REGISTER_EVERY_MS: u64 = 10_000;

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Settings of the name server, whose files are below `folder`.
pub(crate) fn name_server(folder: &Path) -> NamesrvConfig {
    let home = folder.join("namesrv");
    NamesrvConfig {
        rocketmq_home: text(folder),
        kv_config_path: text(&home.join("kvConfig.json")),
        config_store_path: text(&home.join("namesrv.properties")),
        ..NamesrvConfig::default()
    }
}

/// A listener on this port of 127.0.0.1.
pub(crate) fn listen(port: u16) -> ServerConfig {
    ServerConfig {
        listen_port: u32::from(port),
        bind_address: LOCAL_ADDRESS.to_owned(),
        ..ServerConfig::default()
    }
}

/// Settings of the broker, whose files are below `folder`; an error says which setting it refuses.
pub(crate) fn broker(folder: &Path, ports: RocketMqPorts) -> Result<ValidatedBrokerConfig, String> {
    let store_folder = folder.join("store");
    let mut broker = BrokerConfig::default();
    broker.store_path_root_dir = text(&store_folder).into();
    broker.auth_config_path = text(&store_folder.join("auth.json")).into();
    broker.broker_ip1 = LOCAL_ADDRESS.into();
    broker.broker_ip2 = Some(LOCAL_ADDRESS.into());
    broker.listen_port = u32::from(ports.broker);
    broker.broker_server_config = listen(ports.broker);
    broker.namesrv_addr = Some(format!("{LOCAL_ADDRESS}:{}", ports.name_server).into());
    broker.broker_identity.broker_name = BROKER_NAME.into();
    broker.broker_identity.broker_cluster_name = CLUSTER_NAME.into();
    broker.auto_create_topic_enable = false;
    broker.enable_property_filter = true;
    // On a busy machine the first registration can get lost; then nobody finds the broker until the next one.
    broker.register_name_server_period = REGISTER_EVERY_MS;
    // Off, for twice the sends per second. It protects clients from each other, and here is only one.
    broker.broker_fast_failure_enable = false;
    ValidatedBrokerConfig::try_from_parts(broker, store(&store_folder, ports))
        .map_err(|error| with_causes(&error))
}

fn store(folder: &Path, ports: RocketMqPorts) -> MessageStoreConfig {
    MessageStoreConfig {
        store_path_root_dir: text(folder).into(),
        mapped_file_size_commit_log: COMMIT_LOG_FILE_BYTES,
        ha_listen_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        ha_listen_port: usize::from(ports.high_availability),
        flush_disk_type: FlushDiskType::SyncFlush,
        // Delayed messages are not used; without the timer wheel it needs half the memory and starts at once.
        timer_wheel_enable: false,
        max_hash_slot_num: INDEX_SLOTS,
        max_index_num: INDEX_ENTRIES,
        file_reserved_time: KEEP_HOURS,
        clean_file_forcibly_enable: false,
        // A full disk stops the sends; messages are never deleted.
        disk_max_used_space_ratio: 95,
        disk_space_clean_forcibly_ratio: 97,
        disk_space_warning_level_ratio: 98,
        ..MessageStoreConfig::default()
    }
}
