//! One MQTT 5 connection that costs as little as it can: rumqttc's packets, as many in one write as there are.
//!
//! Not rumqttc's event loop: hundreds of clients share the processors with the server that they measure.
//! Must never answer, retry or reconnect by itself.

use anyhow::{Context, bail};
use bytes::BytesMut;
use rumqttc::v5::mqttbytes::Error;
use rumqttc::v5::mqttbytes::v5::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const READ_AT_ONCE_BYTES: usize = 4096;
const PACKET_BYTES: u32 = 1 << 20;

pub struct Wire {
    stream: TcpStream,
    received: BytesMut,
    outbox: BytesMut,
}

impl Wire {
    pub async fn open(port: u16) -> anyhow::Result<Wire> {
        let stream =
            TcpStream::connect(("127.0.0.1", port)).await.context("no connection to the MQTT broker")?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, received: BytesMut::new(), outbox: BytesMut::new() })
    }

    /// Leaves with the next [`Self::flush`].
    pub fn push(&mut self, packet: &Packet) -> anyhow::Result<()> {
        packet.write(&mut self.outbox, None)?;
        Ok(())
    }

    pub async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.outbox.is_empty() {
            self.stream.write_all_buf(&mut self.outbox).await?;
        }
        Ok(())
    }

    /// Waits for more bytes. Loses nothing when it is cancelled.
    pub async fn read(&mut self) -> anyhow::Result<()> {
        self.received.reserve(READ_AT_ONCE_BYTES);
        if self.stream.read_buf(&mut self.received).await? == 0 {
            bail!("the MQTT broker closed the connection");
        }
        Ok(())
    }

    /// The next packet of what was read; `None` until [`Self::read`] has read more.
    pub fn next_packet(&mut self) -> anyhow::Result<Option<Packet>> {
        match Packet::read(&mut self.received, Some(PACKET_BYTES)) {
            Ok(packet) => Ok(Some(packet)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error).context("the MQTT broker sent what is no packet"),
        }
    }

    /// Flushes, and waits for a packet.
    pub async fn answer(&mut self) -> anyhow::Result<Packet> {
        self.flush().await?;
        loop {
            if let Some(packet) = self.next_packet()? {
                return Ok(packet);
            }
            self.read().await?;
        }
    }
}
