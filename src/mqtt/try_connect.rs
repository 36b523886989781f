//! One connection for `roombridge check --connect`.

use std::time::Duration;

use anyhow::{Context, bail};
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event};

use super::options::options;
use crate::config::MqttConfig;

const DEADLINE: Duration = Duration::from_secs(10);

/// Connects under a client id of its own, so that a running bridge keeps its session, and says what the broker offers.
pub async fn try_connect(config: &MqttConfig) -> anyhow::Result<String> {
    let client_id = format!("{}-check-{}", config.client_id, std::process::id());
    let (client, mut event_loop) = AsyncClient::new(options(config, &client_id)?, 8);
    let connack = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Event::Incoming(Packet::ConnAck(connack)) = event_loop.poll().await? {
                return Ok::<_, anyhow::Error>(connack);
            }
        }
    });
    let place = format!("{}:{}", config.host, config.port);
    let Ok(connack) = connack.await else {
        bail!("no answer from {place} within {} s", DEADLINE.as_secs());
    };
    let connack = connack.with_context(|| format!("could not connect to {place}"))?;
    let _ = client.try_disconnect();
    let _ = tokio::time::timeout(Duration::from_millis(200), event_loop.poll()).await;
    let window = connack.properties.and_then(|properties| properties.receive_max);
    Ok(match window {
        Some(window) => format!("connected to {place}, MQTT 5, receive maximum {window}"),
        None => format!("connected to {place}, MQTT 5"),
    })
}
