//! The yardstick: a subscriber that receives and acknowledges each message by a call, as the bridge must, and stores
//! nothing. Runs as a child process of its own, so that its processor time can be told.

use std::time::{Duration, Instant};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};

use super::{Failure, broken};

const SILENCE: Duration = Duration::from_secs(20);

/// Receives and acknowledges `count` messages of a persistent session; 0 only makes the session. Returns the seconds from
/// the first message to the end of the last PUBACK.
pub fn run(port: u16, client_id: &str, count: u64) -> Result<f64, Failure> {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(3600));
    options.set_receive_maximum(Some(1000));
    options.set_max_packet_size(Some(16 << 20));
    options.set_manual_acks(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Room for all: Mosquitto may send beyond the receive maximum, and rumqttc prefers reading to acknowledging.
        let (client, mut events) = AsyncClient::new(options, count as usize + 64);
        let first = receive(&client, &mut events, count).await?;
        // Leaves behind the last PUBACK.
        client.try_disconnect()?;
        while next(&mut events).await? != Event::Outgoing(Outgoing::Disconnect) {}
        Ok(first.elapsed().as_secs_f64())
    })
}

async fn receive(client: &AsyncClient, events: &mut EventLoop, count: u64) -> Result<Instant, Failure> {
    let (mut received, mut first) = (0, Instant::now());
    loop {
        match next(events).await? {
            Event::Incoming(Packet::ConnAck(_)) => client.try_subscribe("room/#", QoS::AtLeastOnce)?,
            Event::Incoming(Packet::SubAck(_)) if count == 0 => return Ok(first),
            Event::Incoming(Packet::Publish(publish)) => {
                if received == 0 {
                    first = Instant::now();
                }
                received += 1;
                client.try_ack(&publish)?;
                if received == count {
                    return Ok(first);
                }
            }
            _ => {}
        }
    }
}

async fn next(events: &mut EventLoop) -> Result<Event, Failure> {
    match tokio::time::timeout(SILENCE, events.poll()).await {
        Ok(event) => Ok(event?),
        Err(_) => Err(broken("the MQTT broker is silent")),
    }
}
