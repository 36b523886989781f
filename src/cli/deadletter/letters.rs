//! Reads dead letters from the two places where they lie, one place after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Context;

use crate::archive::{LetterPlace, LetterReading};
use crate::cli::in_words;
use crate::cli::output::aside;
use crate::cli::target::{Target, TargetArgs};
use crate::config::Config;
use crate::data_dir::known_brokers;
use crate::model::DeadLetter;
use crate::pipeline::ports::Reader;
use crate::rocketmq::{Connector, RocketMqReader};
use crate::spool::{DEAD_LETTERS_FILE, LocalDeadLetters, StoredLetter};

/// Letters of the local store that are in memory at once. Few, because a payload may have some MiB.
const PAGE_LETTERS: usize = 16;

/// The local store and RocketMQ, as far as a command can use them.
pub(crate) struct Sources {
    pub config: Config,
    local: Option<LocalDeadLetters>,
    rocketmq: Option<RocketMq>,
}

/// The connection to RocketMQ.
pub(crate) struct RocketMq {
    pub connector: Connector,
    pub reader: Arc<RocketMqReader>,
}

/// One letter, in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundLetter {
    pub letter: DeadLetter,
    pub place: LetterPlace,
    /// Its number in the local store; `None` if it lies in RocketMQ.
    pub local_number: Option<u64>,
    /// Whether the payload is damaged on the disk.
    pub damaged: bool,
}

impl Sources {
    /// Opens the local store, and RocketMQ if `ask_rocketmq`. Without a configuration and a running `roombridge dev` there is no
    /// RocketMQ to ask; then it says so to the user and uses the local store alone.
    pub(crate) async fn open(arguments: &TargetArgs, ask_rocketmq: bool) -> anyhow::Result<Self> {
        let config = arguments.on_disk()?.config;
        let rocketmq = match ask_rocketmq {
            true => match arguments.find().await {
                Ok(target) => Some(RocketMq::connect(&target)?),
                Err(error) => {
                    aside(format_args!("only the local store is shown: {}", in_words(&error)));
                    None
                }
            },
            false => None,
        };
        let local = local_store(&config)?;
        Ok(Self { config, local, rocketmq })
    }

    /// Opens both places; an error if there is no RocketMQ.
    pub(crate) async fn open_both(arguments: &TargetArgs) -> anyhow::Result<Self> {
        let target = arguments.find().await?;
        let rocketmq = Some(RocketMq::connect(&target)?);
        let local = local_store(&target.config)?;
        Ok(Self { config: target.config, local, rocketmq })
    }

    pub(crate) fn rocketmq(&self) -> anyhow::Result<&RocketMq> {
        self.rocketmq.as_ref().context("there is no RocketMQ to send to")
    }

    pub(crate) fn local(&self) -> Option<&LocalDeadLetters> {
        self.local.as_ref()
    }

    pub(crate) fn letters(&self) -> Letters<'_> {
        Letters { sources: self, page: VecDeque::new(), after: None, reading: None }
    }
}

impl RocketMq {
    fn connect(target: &Target) -> anyhow::Result<Self> {
        let connector = target.connector();
        let mut known = known_brokers(&target.config.data_dir)?;
        if let Some(topic) = &target.config.dead_letter.topic {
            // The queue tables do not hold this topic, so every known broker may have a part of it.
            let all = known.values().flatten().cloned().collect();
            known.insert(topic.clone(), all);
        }
        let reader = RocketMqReader::new(&connector).with_known_brokers(known);
        let reader = Arc::new(reader);
        Ok(Self { connector, reader })
    }
}

/// Opens the local store. A missing one is not created, because to look must change nothing.
pub(crate) fn local_store(config: &Config) -> anyhow::Result<Option<LocalDeadLetters>> {
    let path = config.data_dir.join(DEAD_LETTERS_FILE);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(LocalDeadLetters::open(&path, config.dead_letter.max_bytes)?))
}

/// Reads the local store, then the RocketMQ topic.
pub(crate) struct Letters<'a> {
    sources: &'a Sources,
    page: VecDeque<StoredLetter>,
    after: Option<u64>,
    reading: Option<LetterReading<'a>>,
}

impl Letters<'_> {
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<FoundLetter>> {
        match self.next_local()? {
            Some(found) => Ok(Some(found)),
            None => self.next_in_rocketmq().await,
        }
    }

    pub(crate) fn next_local(&mut self) -> anyhow::Result<Option<FoundLetter>> {
        let Some(local) = &self.sources.local else {
            return Ok(None);
        };
        if self.page.is_empty() {
            self.page = local.list(PAGE_LETTERS, self.after)?.into();
        }
        let Some(mut stored) = self.page.pop_front() else {
            return Ok(None);
        };
        self.after = Some(stored.number);
        if stored.damaged {
            stored.letter.detail += " (its payload is damaged on the disk)";
        }
        Ok(Some(FoundLetter {
            letter: stored.letter,
            place: LetterPlace::Local,
            local_number: Some(stored.number),
            damaged: stored.damaged,
        }))
    }

    pub(crate) async fn next_in_rocketmq(&mut self) -> anyhow::Result<Option<FoundLetter>> {
        let (Some(rocketmq), Some(topic)) = (&self.sources.rocketmq, &self.sources.config.dead_letter.topic)
        else {
            return Ok(None);
        };
        let reading = match &mut self.reading {
            Some(reading) => reading,
            none => {
                for broker in rocketmq.reader.away(topic).await? {
                    aside(format_args!(
                        "RocketMQ broker {broker} is away: dead letters that lie there are missing here"
                    ));
                }
                none.insert(LetterReading::open(&*rocketmq.reader, topic).await?)
            }
        };
        let next = reading.next().await?;
        Ok(next.map(|(letter, place)| FoundLetter { letter, place, local_number: None, damaged: false }))
    }
}
