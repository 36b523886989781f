//! The way to one RocketMQ cluster: name servers, keys and deadlines out of the configuration.
//!
//! Promises: connects to nothing by itself; a secret key is never printed.

use std::sync::Arc;
use std::time::Duration;

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
        let keys = config.access_key.as_ref().zip(config.secret_key.as_ref());
        let keys = keys.and_then(|(access_key, secret_key)| Keys::new(access_key, secret_key));
        Self::with(config.name_servers.clone(), keys, config.send_timeout, &config.producer_group)
    }

    /// For a RocketMQ without ACL, such as that of `roombridge dev`. `name_server`: `host:port`.
    #[cfg(any(test, feature = "testing"))]
    pub fn to_name_server(name_server: impl Into<String>) -> Self {
        Self::with(vec![name_server.into()], None, Duration::from_secs(3), "testing")
    }

    fn with(name_servers: Vec<String>, keys: Option<Keys>, timeout: Duration, group: &str) -> Self {
        Self {
            name_servers: name_servers.join(", "),
            cluster: Arc::new(Cluster::new(ClusterOptions {
                name_servers,
                keys,
                timeout,
                // A broker that sees one name on two connections may close the first.
                client: format!("roombridge@{}-{:08x}", std::process::id(), fastrand::u32(..)),
                group: group.to_owned(),
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
