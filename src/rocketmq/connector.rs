//! The way to one RocketMQ cluster: name servers, keys and deadlines out of the configuration.
//!
//! Promises: connects to nothing by itself; a secret key is never printed.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::remoting::{Cluster, ClusterOptions, Keys};
use crate::config::RocketMqConfig;

/// Whoever sends, reads or administers shares its connections; so do clones.
#[derive(Clone)]
pub struct Connector {
    cluster: Arc<Cluster>,
    name_servers: String,
}

impl Connector {
    pub fn new(config: &RocketMqConfig) -> Self {
        let (names, group) = (config.name_servers.clone(), config.producer_group.clone());
        Self::with(names, keys_of(config), config.send_timeout, group, None)
    }

    /// The same with connections of its own, whose tasks run there, whoever opens them.
    pub fn on(runtime: &Handle, config: &RocketMqConfig) -> Self {
        let (names, group) = (config.name_servers.clone(), config.producer_group.clone());
        Self::with(names, keys_of(config), config.send_timeout, group, Some(runtime.clone()))
    }

    /// For a RocketMQ without ACL, such as that of `roombridge dev`. `name_server`: `host:port`.
    #[cfg(any(test, feature = "testing"))]
    pub fn to_name_server(name_server: impl Into<String>) -> Self {
        Self::with(vec![name_server.into()], None, Duration::from_secs(3), "testing".to_owned(), None)
    }

    fn with(
        name_servers: Vec<String>,
        keys: Option<Keys>,
        timeout: Duration,
        group: String,
        runtime: Option<Handle>,
    ) -> Self {
        Self {
            name_servers: name_servers.join(", "),
            cluster: Arc::new(Cluster::new(ClusterOptions {
                name_servers,
                keys,
                timeout,
                // A broker that sees one name on two connections may close the first.
                client: format!("roombridge@{}-{:08x}", std::process::id(), fastrand::u32(..)),
                group,
                runtime,
            })),
        }
    }

    pub(super) fn cluster(&self) -> Arc<Cluster> {
        self.cluster.clone()
    }

    /// All of them, for people.
    pub(super) fn name_servers(&self) -> String {
        self.name_servers.clone()
    }
}

fn keys_of(config: &RocketMqConfig) -> Option<Keys> {
    let (access_key, secret_key) = config.access_key.as_ref().zip(config.secret_key.as_ref())?;
    Keys::new(access_key, secret_key)
}
