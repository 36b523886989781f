//! The floor of what the way of a message costs: one thread holds the MQTT and the RocketMQ socket, and writes each
//! message once, with the product's properties, into the buffer of its batch.
//!
//! A yardstick: it sends again only what a busy broker refused, and has no spool, no queue tables, no metrics and no
//! bound. Runs as a child process of its own, until it is killed.

mod buffer;
mod message;
mod mqtt;
mod rocketmq;

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpStream;

use crate::support::Failure;
use message::Writer;
use mqtt::{Acknowledgements, Packets};
use rocketmq::Lanes;

/// Below the keep alive of its CONNECT.
const PING: Duration = Duration::from_secs(20);

/// Prints READY when it has asked for its subscription.
pub fn run(mqtt_port: u16, broker: &str, topic: &str, queues: usize) -> Result<f64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(carry(mqtt_port, broker, topic, queues))?;
    Err(super::support::broken("a broker closed the connection"))
}

async fn carry(mqtt_port: u16, broker: &str, topic: &str, queues: usize) -> io::Result<()> {
    let mut mqtt = TcpStream::connect(("127.0.0.1", mqtt_port)).await?;
    let mut rocketmq = TcpStream::connect(broker).await?;
    mqtt.set_nodelay(true)?;
    rocketmq.set_nodelay(true)?;
    mqtt::open_session(&mut mqtt).await?;
    println!("READY");

    let (mut writer, mut lanes) = (Writer::new(), Lanes::new(topic, queues));
    let mut acknowledgements = Acknowledgements::default();
    let (mut from_mqtt, mut from_rocketmq) = (Vec::new(), Vec::new());
    let (mut to_mqtt, mut to_rocketmq) = (Vec::new(), Vec::new());
    let mut ping = tokio::time::interval(PING);
    loop {
        let open = tokio::select! {
            ready = mqtt.readable() => { ready?; buffer::read_available(&mqtt, &mut from_mqtt)? }
            ready = rocketmq.readable() => { ready?; buffer::read_available(&rocketmq, &mut from_rocketmq)? }
            _ = ping.tick() => { to_mqtt.extend(mqtt::PINGREQ); true }
        };
        if !open {
            return Ok(());
        }
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);

        let mut packets = Packets::new(&from_mqtt);
        while let Some(publish) = packets.next_publish() {
            let number = acknowledgements.expect(publish.packet_id);
            let batch = lanes.batch_of(publish.room());
            writer.append(&mut batch.body, &publish, number, now_ms);
            batch.numbers.push(number);
        }
        let read = packets.read();
        from_mqtt.drain(..read);

        let read = lanes.take_answers(&from_rocketmq, |number| acknowledgements.stored(number))?;
        from_rocketmq.drain(..read);
        acknowledgements.write_due(&mut to_mqtt);

        lanes.write_due(&mut to_rocketmq, now_ms);
        buffer::write(&mut rocketmq, &mut to_rocketmq).await?;
        buffer::write(&mut mqtt, &mut to_mqtt).await?;
    }
}
