//! Finds the RocketMQ and the MQTT broker for a command: those of a configuration, or those of a running `roombridge dev`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::output::aside;
use crate::archive::Whole;
use crate::binding::{BindingSettings, RuleError, RuleSet};
use crate::config::{ArchiveConfig, Config, ProcessEnvironment};
use crate::data_dir::known_brokers;
use crate::happy_eyeballs;
use crate::index::Index;
use crate::model::QueueName;
use crate::piece::Place;
use crate::piece_store::PieceStore;
use crate::pipeline::ports::{ReadError, Reader};
use crate::rocketmq::{Connector, RocketMqReader};

const DEV_FILE: &str = "dev.json";

/// Username of the bridge, and of commands that publish, at the embedded broker.
pub(crate) const DEV_OPERATOR: &str = "roombridge";

// No doc comment: clap would show it as the description of each command that flattens this in.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Use the brokers and bindings of this configuration file; without it, those of a running `roombridge dev`.
    #[arg(long, short, env = "ROOMBRIDGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder of the running `roombridge dev`, if it was started with --data; wins over --config.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Where a command reads what was said.
pub(crate) struct Sources {
    rocketmq: Arc<dyn Reader>,
    /// Both as one; `None` = there is no archive.
    maybe_whole: Option<Arc<Whole>>,
    /// `None`: there is none that can be read.
    maybe_index: Option<Arc<Index>>,
}

impl Sources {
    pub(crate) fn reader(&self) -> &dyn Reader {
        match &self.maybe_whole {
            Some(whole) => &**whole,
            None => &*self.rocketmq,
        }
    }

    /// RocketMQ and archive as one; `None` = there is no archive.
    pub(crate) fn whole(&self) -> Option<Arc<Whole>> {
        self.maybe_whole.clone()
    }

    /// Where the archive's lines lie; `None`: nobody can say so.
    pub(crate) fn index(&self) -> Option<Arc<Index>> {
        self.maybe_index.clone()
    }

    /// RocketMQ alone.
    pub(crate) fn rocketmq(&self) -> &dyn Reader {
        &*self.rocketmq
    }

    /// Which queue of RocketMQ, and which one of its name, the reader means by a name.
    pub(crate) async fn places(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<(String, QueueName), Place>, ReadError> {
        let mut places = BTreeMap::new();
        let Some(whole) = &self.maybe_whole else { return Ok(places) };
        for topic in topics {
            let of_topic = whole.places(topic).await?.into_iter();
            places.extend(of_topic.map(|(queue, place)| ((topic.clone(), queue), place)));
        }
        Ok(places)
    }

    /// Says on standard error how much of what was read nobody can read any more.
    pub(crate) fn tell_lost(&self) -> u64 {
        let lost = self.maybe_whole.as_ref().map_or(0, |whole| whole.lost_in_all());
        if lost > 0 {
            aside(format_args!(
                "{lost} messages of these topics were gone before they were archived; \
                 `roombridge archive status` shows where"
            ));
        }
        lost
    }
}

/// The configuration that a command uses.
pub(crate) struct Target {
    pub config: Config,
}

impl TargetArgs {
    /// Whether the command goes to a running `roombridge dev`.
    pub(crate) fn is_dev(&self) -> bool {
        self.config.is_none() || self.data.is_some()
    }

    /// The brokers of the configuration, else those of a running `roombridge dev`.
    pub(crate) async fn find(&self) -> anyhow::Result<Target> {
        if let (Some(path), None) = (&self.config, &self.data) {
            return Ok(Target { config: Config::load(path, &ProcessEnvironment)? });
        }
        let folder = self.data.clone().map_or_else(default_dev_data_dir, Ok)?;
        let Some(instance) = DevInstance::find(&folder)? else {
            bail!(
                "no RocketMQ to read from: no `roombridge dev` runs on {}, and no configuration is given; \
                 start `roombridge dev`, or name your configuration with -c FILE",
                folder.display()
            );
        };
        if !listens(&instance.name_server).await {
            bail!(
                "`roombridge dev` (process {}) left its addresses in {}, but nobody listens at {}; \
                 start `roombridge dev` again, or name your configuration with -c FILE",
                instance.pid,
                folder.join(DEV_FILE).display(),
                instance.name_server
            );
        }
        Ok(Target { config: instance.config(&folder)? })
    }

    /// For commands that only read the data directory: that of the configuration, else that of `roombridge dev`, running or
    /// not.
    pub(crate) fn on_disk(&self) -> anyhow::Result<Target> {
        if let (Some(path), None) = (&self.config, &self.data) {
            return Ok(Target { config: Config::load(path, &ProcessEnvironment)? });
        }
        let folder = self.data.clone().map_or_else(default_dev_data_dir, Ok)?;
        let mut config = Config::for_dev()?;
        in_dev_folder(&mut config, &folder);
        Ok(Target { config })
    }

    /// For commands without a connection: the bindings of the configuration, else those of `roombridge dev`.
    pub(crate) fn offline(&self) -> anyhow::Result<Target> {
        let config = match &self.config {
            Some(path) => Config::load(path, &ProcessEnvironment)?,
            None => Config::for_dev()?,
        };
        Ok(Target { config })
    }
}

impl Target {
    pub(crate) fn connector(&self) -> Connector {
        Connector::new(&self.config.rocketmq)
    }

    /// A reader of stored messages. It knows the brokers that the bridge saw, if the data directory is on this machine.
    pub(crate) fn reader(&self) -> anyhow::Result<RocketMqReader> {
        let known = known_brokers(&self.config.data_dir)?;
        Ok(RocketMqReader::new(&self.connector()).with_known_brokers(known))
    }

    /// The archive, if something was archived there, or may have been.
    pub(crate) fn existing_archive(&self) -> Option<&ArchiveConfig> {
        let archive = self.config.archive.as_ref();
        archive.filter(|archive| archive.bucket.is_some() || archive.dir.is_dir())
    }

    /// What RocketMQ has, and what the archive has beyond it, if there is one.
    pub(crate) fn sources(&self) -> anyhow::Result<Sources> {
        let rocketmq: Arc<dyn Reader> = Arc::new(self.reader()?);
        let Some(archive) = self.existing_archive() else {
            return Ok(Sources { rocketmq, maybe_whole: None, maybe_index: None });
        };
        let whole = Whole::new(rocketmq.clone(), PieceStore::open(archive)?);
        // What is wrong with it is told by those who write it and search it.
        let maybe_index = Index::open(&archive.dir).ok().flatten().map(Arc::new);
        let maybe_whole = Some(Arc::new(whole.with_index(maybe_index.clone())));
        Ok(Sources { rocketmq, maybe_whole, maybe_index })
    }

    pub(crate) fn rules(&self) -> anyhow::Result<RuleSet> {
        Ok(rules_to_read_by(&self.config)?)
    }
}

/// The bindings for a command that only reads. Reading makes no proofs of origin, so it needs neither the key nor the data
/// directory that a running bridge holds.
pub(crate) fn rules_to_read_by(config: &Config) -> Result<RuleSet, RuleError> {
    let settings =
        BindingSettings { origin_key: vec![0; 32], max_message_bytes: config.rocketmq.max_message_bytes };
    Ok(RuleSet::compile(&config.bindings, settings)?.with_downlinks(&config.downlinks))
}

/// The addresses of a running `roombridge dev`, left in its data folder for the other commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevInstance {
    pub pid: u32,
    pub mqtt: String,
    pub websocket: String,
    pub name_server: String,
    pub http: String,
    /// Address of the pages; empty without a classroom.
    pub web: String,
    pub login: String,
    /// For commands that publish. Only its owner can read the file.
    pub mqtt_password: String,
}

impl DevInstance {
    /// Writes the file in one step, so that readers never see a part of it.
    #[cfg(any(feature = "embedded", test))]
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.persist(folder.join(DEV_FILE))?;
        Ok(())
    }

    /// Removes the file at a stop. If it stays, the commands notice that nobody listens there.
    #[cfg(any(feature = "embedded", test))]
    pub(crate) fn remove(folder: &Path) {
        let _ = fs::remove_file(folder.join(DEV_FILE));
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn find(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(DEV_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
        };
        let damaged = || format!("{} is damaged; start `roombridge dev` again", path.display());
        serde_json::from_str(&text).map(Some).with_context(damaged)
    }

    fn config(&self, folder: &Path) -> anyhow::Result<Config> {
        let mut config = Config::for_dev()?;
        in_dev_folder(&mut config, folder);
        let (host, port) =
            self.mqtt.rsplit_once(':').context("dev.json holds no MQTT address; start dev again")?;
        config.mqtt.host = host.to_owned();
        config.mqtt.port = port.parse().context("dev.json holds no MQTT port; start dev again")?;
        config.mqtt.username = Some(DEV_OPERATOR.to_owned());
        config.mqtt.password = Some(self.mqtt_password.clone().into());
        config.rocketmq.name_servers = vec![self.name_server.clone()];
        config.web.listen = self.web.parse().ok();
        Ok(config)
    }
}

/// The bridge's own part of the data folder of `roombridge dev`, and its archive.
pub(crate) fn in_dev_folder(config: &mut Config, folder: &Path) {
    config.data_dir = folder.join("bridge");
    if let Some(archive) = &mut config.archive {
        archive.dir = folder.join("archive");
    }
}

/// Where `roombridge dev` keeps its data unless told otherwise.
pub(crate) fn default_dev_data_dir() -> anyhow::Result<PathBuf> {
    let folders = directories::ProjectDirs::from("", "", "roombridge")
        .context("this user has no home folder; give a folder with --data DIR")?;
    Ok(folders.data_local_dir().join("dev"))
}

async fn listens(address: &str) -> bool {
    happy_eyeballs::connect(address, Duration::from_secs(2)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_running_dev_are_found_until_it_stops() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(DevInstance::find(folder.path()).unwrap(), None);

        let instance = DevInstance {
            pid: 7,
            mqtt: "127.0.0.1:1883".to_owned(),
            websocket: "127.0.0.1:8083".to_owned(),
            name_server: "127.0.0.1:9876".to_owned(),
            http: "127.0.0.1:9464".to_owned(),
            web: "127.0.0.1:8080".to_owned(),
            login: "127.0.0.1:8081".to_owned(),
            mqtt_password: "secret".to_owned(),
        };
        instance.write(folder.path()).unwrap();
        assert_eq!(DevInstance::find(folder.path()).unwrap(), Some(instance));

        DevInstance::remove(folder.path());
        assert_eq!(DevInstance::find(folder.path()).unwrap(), None);
    }
}
