//! Reads the configuration and validates it.
//!
//! Promises: a [`Config`] that exists is complete and free of contradictions; every error names the file (and line)
//! or environment variable, the key, and what to do; secrets are never printed, neither by `Debug` nor by an error.
//! Must never: start, open or connect anything; it only reads the configuration and the secret files that it names.
//!
//! The steps: [`document`] reads TOML and environment variables, and checks every key by the table in [`keys`]; [`raw`]
//! holds the values as written; [`validate`] turns them into the types of [`settings`].

mod document;
mod environment;
mod error;
mod keys;
mod kubernetes;
mod raw;
mod settings;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;

pub(crate) use environment::Environment;
pub use environment::ProcessEnvironment;
pub(crate) use error::ConfigError;
#[cfg(feature = "s3")]
pub(crate) use settings::BucketConfig;
#[cfg(test)]
pub(crate) use settings::DeadLetterConfig;
pub(crate) use settings::{
    AccessConfig, ArchiveConfig, BindingConfig, ClassroomConfig, DownlinkConfig, LagConfig, LogConfig,
    LogFormat, MqttConfig, SenderSource, SpoolConfig, StudentsSee, TlsConfig,
};
pub use settings::{Config, RocketMqConfig};

pub(crate) use document::ignored_variables;

use document::Document;

impl Config {
    /// The largest message that a downlink may publish on MQTT, in bytes; `None` if there is no downlink.
    pub fn goes_down_bytes(&self) -> Option<u64> {
        (!self.downlinks.is_empty()).then_some(self.rocketmq.max_message_bytes as u64)
    }

    /// Reads the file, lets the environment override it, and validates both together.
    pub fn load(path: &Path, environment: &dyn Environment) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::from_toml(&path.display().to_string(), &text, environment)
    }

    /// The same for a text that is already in memory; errors show `name` in place of a file name.
    pub fn from_toml(name: &str, text: &str, environment: &dyn Environment) -> Result<Self, ConfigError> {
        let (raw, places) = Document::read(name, text, environment)?.into_raw()?;
        validate::config(raw, &places)
    }

    /// The configuration of `roombridge dev`, which fills in the addresses. Environment variables are not read.
    pub fn for_dev() -> Result<Self, ConfigError> {
        let mut config = Self::from_toml("roombridge dev", FOR_DEV, &BTreeMap::new())?;
        for binding in &mut config.bindings {
            binding.sender = Some(SenderSource::EmbeddedBroker);
        }
        Ok(config)
    }
}

const FOR_DEV: &str = r#"
[mqtt]
url = "mqtt://127.0.0.1:1883"
[rocketmq]
name_servers = ["127.0.0.1:9876"]
create_topics = true
[[binding]]
filter = "room/#"
sender = { user_property = "x-mqtt-client-id" }
[[binding]]
filter = "roomSend/#"
order_key_field = "roomId"
sender = { user_property = "x-mqtt-client-id" }
[[downlink]]
topic = "room"
[archive]
dir = "archive"
[classroom]
[access]
access_key = "dev"
instance = "dev"
secret = "dev"
[login]
listen = "127.0.0.1:8081"
open = true
secret = "dev"
[web]
listen = "127.0.0.1:8080"
[spool]
# A machine for trying things out may be nearly full.
min_free_bytes = 16777216
"#;
