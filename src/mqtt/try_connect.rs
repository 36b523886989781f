//! One connection for `roombridge check --connect`.

use std::time::Duration;

use anyhow::Context;

use super::connection::Connection;
use super::limits::Needs;
use super::target::Target;
use super::wire::ToBroker;
use crate::config::MqttConfig;
use crate::telemetry::BrokerLimit;

const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);

/// What a broker offers, and what of it is less than the configuration needs.
#[derive(Debug)]
pub(crate) struct Offer {
    /// What the broker allows, in one line for people.
    pub text: String,
    /// What it allows less of than the bridge needs.
    pub limits: Vec<BrokerLimit>,
}

/// Connects under a client id of its own, so that a running bridge keeps its session. `filters` are those of the bindings;
/// `publishes_bytes` is the largest message that may go down.
///
/// It asks for as long a session as a bridge does. A broker names its limit only where that is less than what was asked for (MQTT 5.0,
/// section 3.2.2.3.2), so a question for some seconds would never show it. The DISCONNECT that ends the session leaves at once behind the
/// CONNACK. A check that is killed between the two leaves a session without a subscription: nothing gathers in it, and the broker
/// forgets it after `mqtt.session_expiry_s`. No packet could shorten it afterwards. Only the trial of the subscriptions
/// (`try_subscribe`) has a session in which messages could gather, and that one is kept for some seconds.
pub(crate) async fn try_connect(
    config: &MqttConfig,
    filters: Vec<String>,
    publishes_bytes: Option<u64>,
) -> anyhow::Result<Offer> {
    let client_id = format!("{}-check-{}", config.client_id, std::process::id());
    let target = Target::with_new_session(config, &client_id)?;
    let opened = Connection::open(&target).await;
    let (mut connection, connack) =
        opened.with_context(|| format!("could not connect to {}", target.place))?;
    let place = format!("{} ({})", target.place, connection.address());
    if connection.push(&ToBroker::Goodbye { ends_session: true }).is_ok() {
        let _ = tokio::time::timeout(GOODBYE_DEADLINE, connection.finish()).await;
    }
    let limits = connack.limits;
    let mut text = format!("connected to {place}, MQTT 5, receive maximum {}", limits.receive_maximum);
    if let Some(seconds) = limits.server_keep_alive_s {
        text += &format!(", keep-alive {seconds} s as the broker wants it");
    }
    let needs = Needs { session_expiry_s: target.session_expiry_s(), filters, publishes_bytes };
    Ok(Offer { text, limits: limits.against(&needs) })
}
