//! Opens RocketMQ clients: their threads, the name servers and the ACL keys; and explains their errors to people.
//!
//! Promises: clients begin and end here only; each client is new and remembers no outage; a secret key is never printed; an
//! explained error names the cause and the configuration key to look at.
//! Must never: retry, or know what is sent or read.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cheetah_string::CheetahString;
use rocketmq_client_rust::{
    AclClientRPCHook, ClientConfig, ClientError, ClientRpcHook, ClientRuntime, ClientRuntimeConfig,
    SessionCredentials, TelemetryHandle,
};
use rocketmq_runtime::{RuntimeConfig, RuntimeOwner, ShutdownDeadline};
use secrecy::{ExposeSecret, SecretString};

use super::failure::{kind_of, text_of};
use crate::config::RocketMqConfig;
use crate::model::FailureKind;

const CLOSE: Duration = Duration::from_secs(2);

/// The threads that RocketMQ clients run on could not be started.
#[derive(Debug, thiserror::Error)]
#[error("could not start a RocketMQ client: {0}; the machine may be short of memory or threads")]
pub struct StartError(String);

/// Opens clients of one RocketMQ cluster, and owns the threads that they run on.
pub struct Connector {
    name_servers: Vec<String>,
    keys: Option<(String, SecretString)>,
    timeout: Duration,
    owner: Option<RuntimeOwner>,
    opened: AtomicU64,
}

impl Connector {
    /// Starts the threads; connects to nothing.
    pub fn new(config: &RocketMqConfig) -> Result<Self, StartError> {
        let keys = config.access_key.clone().zip(config.secret_key.clone());
        Self::start(config.name_servers.clone(), keys, config.send_timeout)
    }

    /// For a RocketMQ without ACL, such as that of `roombridge dev`. `name_server`: `host:port`.
    #[cfg(any(test, feature = "testing"))]
    pub fn to_name_server(name_server: impl Into<String>) -> Result<Self, StartError> {
        Self::start(vec![name_server.into()], None, Duration::from_secs(3))
    }

    fn start(
        name_servers: Vec<String>,
        keys: Option<(String, SecretString)>,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        let config = RuntimeConfig { thread_name: "rocketmq".to_owned(), ..RuntimeConfig::default() };
        let plan = RuntimeOwner::plan(config).map_err(|error| StartError(causes(&error)))?;
        let owner = plan.build().map_err(|error| StartError(causes(&error)))?;
        Ok(Self { name_servers, keys, timeout, owner: Some(owner), opened: AtomicU64::new(0) })
    }

    /// A new client that shares nothing with the others. It takes about a millisecond and connects to nothing yet.
    pub fn open(&self) -> Result<OpenClient, StartError> {
        let owner = self.owner.as_ref().ok_or_else(|| StartError("it was stopped".to_owned()))?;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let context = owner.root_context().component("client");
        let runtime =
            ClientRuntime::try_new(context, ClientRuntimeConfig::default(), TelemetryHandle::noop())
                .map_err(|error| StartError(text_of(&error)))?;
        let mut config = ClientConfig::default();
        config.set_namesrv_addr(CheetahString::from_string(self.name_servers.join(";")));
        // RocketMQ takes two clients of the same name on one machine for the same client.
        let name = format!("roombridge-{}-{number}", std::process::id());
        config.set_instance_name(CheetahString::from_string(name));
        Ok(OpenClient { number, runtime, config })
    }

    /// Signs each request; `None` if no keys are configured.
    pub fn rpc_hook(&self) -> Option<Arc<ClientRpcHook>> {
        let (access_key, secret_key) = self.keys.as_ref()?;
        let credentials =
            SessionCredentials::with_keys(access_key.as_str(), secret_key.expose_secret().to_owned());
        Some(Arc::new(AclClientRPCHook::new(credentials)))
    }

    /// How long one request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Explains an error to people. Tries the name servers, because the client's error does not say whether one is absent.
    pub async fn explain(&self, error: &ClientError) -> String {
        let name_servers = self.name_servers.join(", ");
        if kind_of(error) == FailureKind::UnsupportedServer {
            return format!(
                "the name server at {name_servers} is older than RocketMQ 5; roombridge needs a 5.x name server \
                 (4.9 brokers behind it work)"
            );
        }
        if error.broker_response_code().is_none() && self.no_name_server_answers().await {
            return format!(
                "no name server answers at {name_servers}: is RocketMQ running? Set rocketmq.name_servers"
            );
        }
        meaning(error)
    }

    async fn no_name_server_answers(&self) -> bool {
        for name_server in &self.name_servers {
            let connect = tokio::net::TcpStream::connect(name_server.as_str());
            if matches!(tokio::time::timeout(Duration::from_secs(1), connect).await, Ok(Ok(_))) {
                return false;
            }
        }
        true
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            // Its other ways to end block, which async code must not do.
            owner.shutdown_background();
        }
    }
}

/// What one client needs to be built, and the way to end it.
pub struct OpenClient {
    number: u64,
    runtime: Arc<ClientRuntime>,
    config: ClientConfig,
}

impl OpenClient {
    /// Its number, which no other client of its [`Connector`] has.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The threads that the client runs on.
    pub fn runtime(&self) -> Arc<ClientRuntime> {
        self.runtime.clone()
    }

    /// Name servers and the client's own name.
    pub fn client_config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// Ends the client's tasks and connections in the background, because that can take seconds and nothing waits for it.
    pub fn close(&self) {
        let runtime = self.runtime.clone();
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move {
                runtime.shutdown_until(ShutdownDeadline::after(CLOSE)).await;
            });
        }
    }
}

/// What the error means, and what the user can do about it.
fn meaning(error: &ClientError) -> String {
    match kind_of(error) {
        FailureKind::Transport => {
            "there is no connection to the broker; is the RocketMQ broker running?".to_owned()
        }
        FailureKind::Timeout => "the broker did not answer in time; is it overloaded, or stopped?".to_owned(),
        FailureKind::Busy => "the broker is busy; try again later".to_owned(),
        FailureKind::TopicMissing => "the topic does not exist on the broker".to_owned(),
        FailureKind::NoPermission => {
            "the broker refuses access; check rocketmq.access_key and rocketmq.secret_key, \
                                      and what they permit on this topic"
                .to_owned()
        }
        FailureKind::NotDurable(_)
        | FailureKind::MessageIllegal
        | FailureKind::Refused
        | FailureKind::UnsupportedServer
        | FailureKind::Unknown => match error.broker_response_code() {
            Some(code) => format!("the broker answered with code {code}; see the broker's log"),
            None => text_of(error),
        },
    }
}

fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(cause) = current {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        current = cause.source();
    }
    text
}
