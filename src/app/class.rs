//! Starts the live classroom: its follower, its task, its listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::topics::{archived_topics, status_topics};
use super::way_down::Followed;
use super::{BridgeParts, new_ids, until_it_ends};
use crate::access::{Authenticator, Deployment, LoginPolicy, Parents, SigningSecret};
use crate::config::{AccessConfig, ClassroomConfig, Config, StudentsSee};
use crate::consumer::{Topic, Wakes};
use crate::http::{
    self, ArchiveApiParts, LoginParts, PageConfig, Past, PastParts, PublicParts, RunningLesson, WebParts,
};
use crate::lifecycle::Lifecycle;
use crate::live_class::{LiveClass, LiveClassHandle, LiveClassParts};
use crate::model::StartAt;
use crate::piece_store::PieceStore;
use crate::pipeline::{DeadLetters, Intake};
use crate::rocketmq::RocketMqReader;

/// The ports of pages and login. They are taken early, so that a port in use is known before anything else starts.
pub(super) struct ClassListeners {
    web: Option<TcpListener>,
    login: Option<TcpListener>,
}

/// Where pages and login are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassAddresses {
    /// Pages and API; `None` = not served.
    pub web: Option<SocketAddr>,
    /// `GET /login`; `None` = not served.
    pub login: Option<SocketAddr>,
}

impl ClassListeners {
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |listen: Option<SocketAddr>, key| match listen {
            Some(listen) => http::bind(listen, key).await.map(Some),
            None => Ok(None),
        };
        let has_pages = config.classroom.is_some() || config.archive.is_some();
        Ok(Self {
            web: bind(config.web.listen.filter(|_| has_pages), "web.listen").await?,
            login: bind(config.login.listen, "login.listen").await?,
        })
    }

    pub(crate) fn addresses(&self) -> std::io::Result<ClassAddresses> {
        let address =
            |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        Ok(ClassAddresses { web: address(&self.web)?, login: address(&self.login)? })
    }
}

/// The authenticator that the configuration asks for: it admits no anonymous clients, and knows no operators.
pub(crate) fn authenticator(config: &Config, access: &AccessConfig) -> anyhow::Result<Authenticator> {
    let (down, up, teacher_groups) = match &config.classroom {
        Some(classroom) => {
            (classroom.heard_topic.as_str(), classroom.send_topic.as_str(), classroom.teacher_groups.clone())
        }
        None => ("room", "roomSend", Vec::new()),
    };
    let secret = SigningSecret::new(&access.secret).context("access.secret")?;
    let parents = Parents::new(down, up)?;
    let deployment = Deployment::new(&*access.access_key, &*access.instance, secret, parents)?;
    Ok(Authenticator {
        deployment: Arc::new(deployment),
        teacher_groups,
        anonymous_on_loopback: false,
        operators: Vec::new(),
    })
}

impl BridgeParts {
    /// The RocketMQ topics that the classroom reads and writes, beside those of the bindings.
    pub(super) fn class_topics(&self) -> Vec<String> {
        match &self.config.classroom {
            Some(classroom) => {
                let mut topics = status_topics(classroom);
                topics.push(classroom.audit_topic.clone());
                topics
            }
            None => Vec::new(),
        }
    }

    pub(super) async fn start_classroom(
        &mut self,
        lifecycle: &Lifecycle,
        reader: &Arc<RocketMqReader>,
        dead_letters: &Arc<DeadLetters>,
        wakes: Wakes,
        intake: &Intake,
        listeners: ClassListeners,
    ) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let (mut tasks, mut class) = (Vec::new(), None);
        if let Some(classroom) = self.config.classroom.clone() {
            let mut names = status_topics(&classroom);
            names.push(classroom.send_topic.clone());
            let topics = names.into_iter().map(|name| Topic { name: name.into(), start: StartAt::Latest });
            let Followed { follower, items, ended } =
                self.follow("classroom", topics.collect(), reader, wakes).await?;
            let (live_class, handle) = LiveClass::new(LiveClassParts {
                config: classroom.clone(),
                rules: self.rules.clone(),
                data_dir: self.data_dir.clone(),
                clock: self.clock.clone(),
                metrics: self.metrics.clone(),
                dead_letters: dead_letters.clone(),
                intake: intake.clone(),
                items,
                ended,
                news: self.news.take(),
                ids: new_ids()?,
            })?;
            let stop_now = lifecycle.stop_now.clone();
            tasks.push(
                lifecycle.spawn(
                    "the classroom's follower",
                    follower.run(lifecycle.drain.clone(), stop_now.clone()),
                ),
            );
            tasks.push(lifecycle.spawn("the classroom", live_class.run(stop_now)));
            class = Some((classroom, handle));
        }
        if let Some(listener) = listeners.web {
            let login = listeners.login.as_ref().map(TcpListener::local_addr).transpose()?;
            self.start_public(lifecycle, reader, class, listener, login)?;
        }
        if let Some(listener) = listeners.login {
            self.start_login(lifecycle, listener)?;
        }
        Ok(tasks)
    }

    /// Starts the pages and the API. Nothing waits for their end.
    fn start_public(
        &self,
        lifecycle: &Lifecycle,
        reader: &Arc<RocketMqReader>,
        class: Option<(ClassroomConfig, LiveClassHandle)>,
        listener: TcpListener,
        login: Option<SocketAddr>,
    ) -> anyhow::Result<()> {
        let class = class.map(|(classroom, handle)| self.class_parts(reader, handle, &classroom, login));
        let parts = WebParts { class: class.transpose()?, archive: self.archive_api_parts(reader)? };
        let stop = lifecycle.stop_now.clone().cancelled_owned();
        let hosts = self.config.web.hosts.clone();
        let pages = http::serve_public(listener, parts, hosts, stop);
        lifecycle.spawn("the listener of the pages", until_it_ends(pages));
        Ok(())
    }

    fn class_parts(
        &self,
        reader: &Arc<RocketMqReader>,
        live_class: LiveClassHandle,
        classroom: &ClassroomConfig,
        login: Option<SocketAddr>,
    ) -> anyhow::Result<PublicParts> {
        let access = self.access()?;
        Ok(PublicParts {
            live_class,
            authenticator: Arc::new(authenticator(&self.config, access)?),
            login_secret: self.config.login.secret.clone(),
            past: self.past(reader, classroom)?,
            running_lesson: self.running_lesson(),
            clock: self.clock.clone(),
            pages: PageConfig {
                websocket_url: self.config.web.websocket_url.clone(),
                // Without a setting, the browsers are taken to be on this machine, as in `dev`.
                login_url: (self.config.web.login_url.clone())
                    .or_else(|| login.map(|login| format!("http://{login}/login"))),
                access_key: access.access_key.clone(),
                instance: access.instance.clone(),
                parent: classroom.heard_topic.clone(),
                send_parent: classroom.send_topic.clone(),
                teacher_group: classroom.teacher_groups.first().cloned().unwrap_or_default(),
                student_group: classroom.student_groups.first().cloned().unwrap_or_default(),
                p2p_subscribe: self.has_foreign_broker,
            },
        })
    }

    /// What was said before, for the pages.
    fn past(&self, reader: &Arc<RocketMqReader>, classroom: &ClassroomConfig) -> anyhow::Result<Past> {
        let archive = match &self.config.archive {
            Some(archive) => Some((PieceStore::open(archive)?, archive.dir.clone())),
            None => None,
        };
        Ok(Past::new(PastParts {
            rocketmq: reader.clone(),
            archive,
            rules: self.rules.clone(),
            clock: self.clock.clone(),
            parent: classroom.heard_topic.clone(),
        }))
    }

    /// What students see, unless they see everything.
    fn running_lesson(&self) -> Option<RunningLesson> {
        let archive = self.config.archive.as_ref()?;
        match archive.students_see {
            StudentsSee::Lesson => Some(RunningLesson::new(archive.dir.clone(), archive.lesson_gap)),
            StudentsSee::All => None,
        }
    }

    /// The API of the archive, if there is one.
    fn archive_api_parts(&self, reader: &Arc<RocketMqReader>) -> anyhow::Result<Option<ArchiveApiParts>> {
        let Some(archive) = &self.config.archive else { return Ok(None) };
        let access = self.config.access.as_ref();
        let authenticator = access.map(|access| authenticator(&self.config, access)).transpose()?;
        let classroom = self.config.classroom.as_ref();
        Ok(Some(ArchiveApiParts {
            parent: authenticator.as_ref().map_or_else(
                || Parents::default().down().to_owned(),
                |authenticator| authenticator.deployment.parents().down().to_owned(),
            ),
            authenticator: authenticator.map(Arc::new),
            operator_secret: self.config.login.secret.clone(),
            send_parent: classroom.map(|classroom| classroom.send_topic.clone()),
            rocketmq: reader.clone(),
            store: PieceStore::open(archive)?,
            folder: archive.dir.clone(),
            lesson_gap: archive.lesson_gap,
            topics: archived_topics(&self.config, &self.rules),
            text_fields: archive.text_fields.clone(),
            rules: self.rules.clone(),
            clock: self.clock.clone(),
        }))
    }

    fn start_login(&self, lifecycle: &Lifecycle, listener: TcpListener) -> anyhow::Result<()> {
        let parts = LoginParts {
            policy: LoginPolicy {
                deployment: authenticator(&self.config, self.access()?)?.deployment,
                open: self.config.login.open,
                login_secret: self.config.login.secret.clone(),
            },
            clock: self.clock.clone(),
        };
        let stop = lifecycle.stop_now.clone().cancelled_owned();
        let hosts = self.config.web.hosts.clone();
        let login = http::serve_login(listener, parts, hosts, stop);
        lifecycle.spawn("the listener of the login", until_it_ends(login));
        Ok(())
    }

    fn access(&self) -> anyhow::Result<&AccessConfig> {
        self.config.access.as_ref().context("[access] is missing; set it")
    }
}
