//! One member of the class: a login, a connection, a subscription; listens, and speaks if it is one of those who do.
//!
//! Acknowledges all that it hears at once. Must never reconnect: who is cut off has missed something.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectReturnCode, Filter, Login, Packet, PubAck, PubAckReason, Publish, Subscribe,
    SubscribeReasonCode,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::heard::{Heard, Ids, Line, SENDERS};
use crate::wire::Wire;

pub const ROOM: &str = "123456";
pub const PER_SENDER_S: u32 = 2;
const PAUSE: Duration = Duration::from_millis(1000 / PER_SENDER_S as u64);
/// Longer than any trial, so that nobody has to ping.
const KEEP_ALIVE_S: u16 = 1800;

/// What all members of one trial share.
pub struct Lesson {
    pub lines: usize,
    pub begins: Instant,
    pub ids: Ids,
    /// Lines heard, copies left out, by all members together.
    pub heard: AtomicU64,
    pub is_over: CancellationToken,
}

impl Lesson {
    /// One clock for what is sent and what is heard: all members live in this process.
    fn now_us(&self) -> u64 {
        self.begins.elapsed().as_micros() as u64
    }
}

/// How the lesson went for one member.
pub struct Attended {
    pub heard: Heard,
    pub said: usize,
    /// Lines that the broker or the classroom refused, or that nobody acknowledged.
    pub not_accepted: usize,
    /// The most that a line left after it was due: the measuring itself was too slow.
    pub left_late: Duration,
    pub cut_off: Option<String>,
}

pub struct Member {
    client_id: String,
    wire: Wire,
    sender: Option<usize>,
    last_packet_id: u16,
}

impl Member {
    /// Returns after the SUBACK.
    pub async fn join(
        port: u16,
        client_id: String,
        token: &str,
        sender: Option<usize>,
    ) -> anyhow::Result<Member> {
        let mut wire = Wire::open(port).await?;
        let connect = Connect {
            keep_alive: KEEP_ALIVE_S,
            client_id: client_id.clone(),
            clean_start: true,
            properties: None,
        };
        let login = Login::new("Token|dev|dev", format!("RW|{token}"));
        wire.push(&Packet::Connect(connect, None, Some(login)))?;
        match wire.answer().await? {
            Packet::ConnAck(connack) if connack.code == ConnectReturnCode::Success => {}
            other => bail!("instead of a CONNACK came {other:?}"),
        }
        let mut subscribe =
            Subscribe::new(Filter::new(format!("room/message/{ROOM}"), QoS::AtLeastOnce), None);
        subscribe.pkid = 1;
        wire.push(&Packet::Subscribe(subscribe))?;
        match wire.answer().await? {
            Packet::SubAck(suback) => ensure!(
                suback.return_codes == [SubscribeReasonCode::Success(QoS::AtLeastOnce)],
                "the subscription is refused: {suback:?}"
            ),
            other => bail!("instead of a SUBACK came {other:?}"),
        }
        Ok(Member { client_id, wire, sender, last_packet_id: 1 })
    }

    /// Until the lesson is over, or this member is cut off.
    pub async fn attend(mut self, lesson: Arc<Lesson>) -> Attended {
        let mut attended = Attended {
            heard: Heard::nothing_of(lesson.lines),
            said: 0,
            not_accepted: 0,
            left_late: Duration::ZERO,
            cut_off: None,
        };
        let ended = tokio::select! {
            () = lesson.is_over.cancelled() => Ok(()),
            ended = self.listen_and_speak(&lesson, &mut attended) => ended,
        };
        if let Err(error) = ended {
            attended.cut_off = Some(format!("{}: {error:#}", self.client_id));
        }
        attended
    }

    async fn listen_and_speak(&mut self, lesson: &Lesson, attended: &mut Attended) -> anyhow::Result<()> {
        let mut due = self.due(lesson);
        loop {
            let next = due.front().map_or(lesson.begins, |(at, _)| *at);
            tokio::select! {
                read = self.wire.read() => {
                    read?;
                    let now_us = lesson.now_us();
                    while let Some(packet) = self.wire.next_packet()? {
                        self.take(packet, now_us, lesson, attended)?;
                    }
                }
                () = sleep_until(next), if !due.is_empty() => {
                    if let Some((at, line)) = due.pop_front() {
                        attended.left_late = attended.left_late.max(at.elapsed());
                        self.say(line, lesson)?;
                        attended.said += 1;
                        // Until the PUBACK.
                        attended.not_accepted += 1;
                    }
                }
            }
            self.wire.flush().await?;
        }
    }

    /// When this member says which lines: at any moment of each pause, as people do, and the same in each trial.
    fn due(&self, lesson: &Lesson) -> VecDeque<(Instant, usize)> {
        let Some(sender) = self.sender else {
            return VecDeque::new();
        };
        let mut random = fastrand::Rng::with_seed(sender as u64);
        (0..lesson.lines / SENDERS)
            .map(|turn| {
                let within = PAUSE.mul_f64(random.f64());
                (lesson.begins + PAUSE * turn as u32 + within, turn * SENDERS + sender)
            })
            .collect()
    }

    fn say(&mut self, line: usize, lesson: &Lesson) -> anyhow::Result<()> {
        let body = Line {
            peer: self.client_id.clone(),
            room_id: ROOM.to_owned(),
            msg: format!("line {line}: may I ask something about the second exercise?"),
            line,
            sent_us: lesson.now_us(),
        };
        let mut publish =
            Publish::new("roomSend/message", QoS::AtLeastOnce, serde_json::to_vec(&body)?, None);
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        publish.pkid = self.last_packet_id;
        self.wire.push(&Packet::Publish(publish))
    }

    fn take(
        &mut self,
        packet: Packet,
        now_us: u64,
        lesson: &Lesson,
        attended: &mut Attended,
    ) -> anyhow::Result<()> {
        match packet {
            Packet::Publish(publish) => {
                if publish.qos != QoS::AtMostOnce {
                    self.wire.push(&Packet::PubAck(PubAck::new(publish.pkid, None)))?;
                }
                self.hear(&publish, now_us, lesson, attended);
                Ok(())
            }
            Packet::PubAck(ack) if ack.reason == PubAckReason::Success => {
                attended.not_accepted = attended.not_accepted.saturating_sub(1);
                Ok(())
            }
            // Stays among what was not accepted.
            Packet::PubAck(_) => Ok(()),
            other => bail!("the MQTT broker sent {other:?}"),
        }
    }

    fn hear(&self, publish: &Publish, now_us: u64, lesson: &Lesson, attended: &mut Attended) {
        if !publish.topic.starts_with(b"room/message/") {
            // For this member alone: the classroom refuses a line, or mutes.
            attended.not_accepted += 1;
            return;
        }
        let user_properties = publish.properties.iter().flat_map(|all| &all.user_properties);
        let mut ids = user_properties.filter(|(name, _)| name == "rbId");
        let id = ids.next().map(|(_, id)| id.as_str());
        if attended.heard.take(&publish.payload, id, now_us, &lesson.ids) {
            lesson.heard.fetch_add(1, Ordering::Relaxed);
        }
    }
}
