//! Administration: creates a topic on every broker of the cluster.
//!
//! Promises: each call ends within a deadline; to create a topic that exists changes nothing.
//! Must never: run while a message waits for it, delete anything, or let the broker create a topic from its own template.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_client_rust::{ClientError, ClientResult, DefaultMQAdminExt, MQAdminReadExt, TopicAdmin};
use rocketmq_model::topic::TopicConfig;

use super::client::{Connector, OpenClient, StartError};
use super::failure::kind_of;
use crate::model::FailureKind;

const STOP: Duration = Duration::from_secs(2);

/// An administrator's request to the cluster failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error(transparent)]
    Threads(#[from] StartError),
    #[error("could not {what}: {cause}")]
    Failed { what: String, cause: String },
}

/// Creates the topic with so many queues on each broker, unless it exists.
pub(crate) async fn create_topic(
    connector: &Arc<Connector>,
    name: &str,
    queues: u32,
) -> Result<(), AdminError> {
    let admin = Admin::start(connector.clone()).await?;
    let created = admin.create_topic(name, queues).await;
    admin.stop().await;
    created
}

/// A client with an administrator's calls.
pub(crate) struct Admin {
    connector: Arc<Connector>,
    open: OpenClient,
    client: DefaultMQAdminExt,
}

impl Admin {
    pub(crate) async fn start(connector: Arc<Connector>) -> Result<Self, AdminError> {
        let open = connector.open()?;
        let group = "roombridge-admin";
        let mut client = match connector.rpc_hook() {
            Some(hook) => DefaultMQAdminExt::with_admin_ext_group_and_rpc_hook(open.runtime(), group, hook),
            None => DefaultMQAdminExt::with_admin_ext_group(open.runtime(), group),
        };
        *client.client_config_mut() = open.client_config();
        let started = MQAdminReadExt::start(&mut client).await;
        let admin = Self { connector, open, client };
        match started {
            Ok(()) => Ok(admin),
            Err(error) => {
                admin.open.close();
                Err(admin.failed("connect to RocketMQ", &error).await)
            }
        }
    }

    /// Creates the topic with so many queues on each broker, unless it exists.
    pub(crate) async fn create_topic(&self, name: &str, queues: u32) -> Result<(), AdminError> {
        let what = format!("create topic {name}");
        // To create it again would change its number of queues, and so move rooms between queues.
        if self.topic_exists(name).await? {
            return Ok(());
        }
        let cluster = self.answer(&what, MQAdminReadExt::examine_broker_cluster_info(&self.client)).await?;
        let brokers = cluster.broker_addr_table.unwrap_or_default();
        let masters: Vec<_> = brokers.values().filter_map(|broker| broker.broker_addrs().get(&0)).collect();
        if masters.is_empty() {
            let cause = "the name server knows no broker: is the RocketMQ broker running?".to_owned();
            return Err(AdminError::Failed { what, cause });
        }
        for master in masters {
            let config = TopicConfig::with_queues(name, queues, queues);
            let create = TopicAdmin::create_and_update_topic_config(&self.client, master.clone(), config);
            self.answer(&format!("{what} on broker {master}"), create).await?;
        }
        Ok(())
    }

    async fn topic_exists(&self, name: &str) -> Result<bool, AdminError> {
        let what = format!("look up topic {name}");
        let limit = self.limit();
        let route = MQAdminReadExt::examine_topic_route_info(&self.client, name.into());
        match tokio::time::timeout(limit, route).await {
            Ok(Ok(route)) => Ok(route.is_some()),
            Ok(Err(error)) if kind_of(&error) == FailureKind::TopicMissing => Ok(false),
            Ok(Err(error)) => Err(self.failed(&what, &error).await),
            Err(_) => Err(no_answer(what, limit)),
        }
    }

    /// Closes the connections; waits two seconds at most.
    pub(crate) async fn stop(mut self) {
        let _ = tokio::time::timeout(STOP, MQAdminReadExt::shutdown(&mut self.client)).await;
        self.open.close();
    }

    fn limit(&self) -> Duration {
        // A request to the cluster is several requests to brokers.
        self.connector.timeout() * 2
    }

    async fn answer<T>(
        &self,
        what: &str,
        request: impl Future<Output = ClientResult<T>>,
    ) -> Result<T, AdminError> {
        let limit = self.limit();
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed(what, &error).await),
            Err(_) => Err(no_answer(what.to_owned(), limit)),
        }
    }

    async fn failed(&self, what: &str, error: &ClientError) -> AdminError {
        AdminError::Failed { what: what.to_owned(), cause: self.connector.explain(error).await }
    }
}

fn no_answer(what: String, limit: Duration) -> AdminError {
    AdminError::Failed { what, cause: format!("no answer within {} ms", limit.as_millis()) }
}
