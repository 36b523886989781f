//! What one seed stands for: the settings of the bridge and of its world, and when what happens.

use bytes::Bytes;

use crate::gate::Point;
use crate::mqtt::Identifiers;
use crate::random::Random;
use crate::rocketmq::ILLEGAL;
use crate::world::Published;

pub const MAX_MESSAGE_BYTES: usize = 4096;
pub const TOO_LARGE_BYTES: usize = 5000;
/// A topic for which there is no rule.
pub const STRAY: &str = "stray/";

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct Setup {
    pub seed: u64,
    pub identifiers: Identifiers,
    pub first_packet_id: u16,
    pub receive_maximum: usize,
    pub intake_messages: usize,
    pub settlements: usize,
    pub batch_messages: usize,
    pub linger_ms: u64,
    /// `None`: no spool.
    pub spool_after_ms: Option<u64>,
    pub drops_newest: bool,
    /// In messages.
    pub topic_share: Option<usize>,
    pub give_up_after_s: u64,
    pub starts_with_one_broker: bool,
    pub two_bridges: bool,
    /// RocketMQ forbids or lacks a topic in this run, thus healthy messages may become dead letters.
    pub may_be_refused: bool,
    pub messages: u64,
    pub length_ms: u64,
}

/// What happens at one moment.
#[derive(Debug, Clone)]
pub enum Event {
    Publish(Published),
    BrokerAway(usize, bool),
    Flaky(bool),
    Slow(bool),
    NotPermitted(&'static str, bool),
    Missing(&'static str, bool),
    Cut { reset: bool },
    MqttAway(bool),
    LoseSession,
    LoseConnack,
    SpoolFull(bool),
    SpoolPoison(usize),
    SpoolSlow(u64),
    Start(usize),
    Kill(usize),
    KillAt(usize, Point, u64),
    Stop(usize),
    Pause(usize, bool),
    ComeBack(usize),
    ClockJump(i64),
}

impl Setup {
    pub fn of(seed: u64) -> Self {
        let mut dice = Random::of(seed, "setup", 0);
        let identifiers =
            dice.one_of(&[Identifiers::Continuing, Identifiers::Restarting, Identifiers::Reusing]);
        Self {
            seed,
            identifiers,
            first_packet_id: if identifiers == Identifiers::Continuing {
                dice.one_of(&[1, 65_500])
            } else {
                1
            },
            receive_maximum: dice.between(1, 24) as usize,
            intake_messages: dice.one_of(&[4, 16, 64, 1000]),
            settlements: dice.one_of(&[1, 4, 1024]),
            batch_messages: dice.one_of(&[1, 2, 5, 32]),
            linger_ms: dice.one_of(&[0, 0, 5]),
            spool_after_ms: dice.one_of(&[None, Some(100), Some(1000), Some(1000), Some(2500)]),
            drops_newest: dice.percent(25),
            topic_share: dice.one_of(&[None, None, Some(3)]),
            give_up_after_s: dice.one_of(&[5, 3600]),
            starts_with_one_broker: dice.percent(15),
            two_bridges: dice.percent(30),
            may_be_refused: dice.percent(30),
            messages: dice.between(40, 160),
            length_ms: dice.between(4_000, 25_000),
        }
    }

    /// Everything that will happen, in order of time.
    pub fn timeline(&self) -> Vec<(u64, Event)> {
        let mut dice = Random::of(self.seed, "timeline", 0);
        let mut events = vec![(0, Event::Start(0))];
        if self.starts_with_one_broker {
            events.push((dice.between(100, 9000), Event::BrokerAway(1, false)));
        }
        self.publish(&mut dice, &mut events);
        for _ in 0..dice.between(0, 14) {
            let at = dice.between(50, self.length_ms);
            let until = at + dice.one_of(&[200, 900, 3000, 12_000]);
            self.trouble(&mut dice, at, until, &mut events);
        }
        if self.may_be_refused {
            let (topic, at) = (dice.one_of(&["room", "second"]), dice.between(50, self.length_ms / 2));
            let until = at + dice.one_of(&[3000, 12_000, 40_000]);
            let refused = |begins| {
                if dice.clone().percent(70) {
                    Event::NotPermitted(topic, begins)
                } else {
                    Event::Missing(topic, begins)
                }
            };
            events.extend([(at, refused(true)), (until, refused(false))]);
        }
        events.sort_by_key(|(at, _)| *at);
        events
    }

    fn publish(&self, dice: &mut Random, events: &mut Vec<(u64, Event)>) {
        let rooms = dice.between(1, 7);
        let mut at = 50;
        for number in 0..self.messages {
            // Bursts, and pauses between them.
            at += if dice.percent(80) {
                dice.between(0, 20)
            } else {
                dice.between(0, 2 * 5 * self.length_ms / self.messages)
            };
            let room = dice.between(0, rooms);
            let topic = match dice.between(0, 100) {
                0..2 => format!("{STRAY}{room}"),
                2..30 => format!("second/message/{room}"),
                _ => format!("room/message/{room}"),
            };
            let body = match dice.between(0, 200) {
                0 => Bytes::from([ILLEGAL, number.to_string().as_bytes()].concat()),
                1 => Bytes::from(vec![b'x'; TOO_LARGE_BYTES]),
                2 => Bytes::new(),
                _ => Bytes::from(format!("message {number}")),
            };
            // Where an identifier is given again behind our back, a second "hi" cannot be told from a copy of the first:
            // by a broker that gives a freed one at once, or while another bridge had the session.
            let may_repeat = match self.identifiers {
                Identifiers::Continuing => true,
                Identifiers::Restarting => !self.two_bridges,
                Identifiers::Reusing => false,
            };
            if may_repeat && dice.percent(10) {
                for _ in 0..2 {
                    let (topic, body) = (topic.clone(), Bytes::from_static(b"hi"));
                    events.push((at, Event::Publish(Published { topic, body })));
                }
            } else {
                events.push((at, Event::Publish(Published { topic, body })));
            }
        }
    }

    fn trouble(&self, dice: &mut Random, at: u64, until: u64, events: &mut Vec<(u64, Event)>) {
        let topic = dice.one_of(&["room", "second"]);
        let broker = dice.between(0, 2) as usize;
        let bridge = usize::from(self.two_bridges && dice.percent(40));
        let mut during = |from: Event, to: Event| events.extend([(at, from), (until, to)]);
        match dice.between(0, 23) {
            0 => during(Event::BrokerAway(broker, true), Event::BrokerAway(broker, false)),
            1 | 2 => {
                during(Event::BrokerAway(0, true), Event::BrokerAway(0, false));
                during(Event::BrokerAway(1, true), Event::BrokerAway(1, false));
            }
            3 | 4 => during(Event::Flaky(true), Event::Flaky(false)),
            5 => during(Event::Slow(true), Event::Slow(false)),
            6 if self.may_be_refused => {
                during(Event::NotPermitted(topic, true), Event::NotPermitted(topic, false));
            }
            7 if self.may_be_refused => during(Event::Missing(topic, true), Event::Missing(topic, false)),
            6..9 => events.push((at, Event::Cut { reset: dice.percent(50) })),
            9 => during(Event::MqttAway(true), Event::MqttAway(false)),
            10 => events.push((at, Event::LoseSession)),
            11 => events.extend([(at, Event::LoseConnack), (at, Event::Cut { reset: true })]),
            // A spool that is not used cannot fail, thus RocketMQ is away meanwhile.
            12..15 => {
                during(Event::BrokerAway(0, true), Event::BrokerAway(0, false));
                during(Event::BrokerAway(1, true), Event::BrokerAway(1, false));
                match dice.between(0, 5) {
                    0 | 1 => during(Event::SpoolFull(true), Event::SpoolFull(false)),
                    2 | 3 => during(Event::SpoolSlow(dice.between(5, 1500)), Event::SpoolSlow(0)),
                    _ => events.push((at, Event::SpoolPoison(bridge))),
                }
            }
            15 => {
                during(Event::Kill(bridge), Event::Start(bridge));
            }
            16 | 17 => {
                let (point, times) = (dice.one_of(&Point::ALL), dice.between(1, 8));
                during(Event::KillAt(bridge, point, times), Event::Start(bridge));
            }
            18 if dice.percent(50) => during(Event::Stop(bridge), Event::Start(bridge)),
            18 => events.push((at, Event::ClockJump(dice.one_of(&[-86_400_000, 86_400_000])))),
            19..22 if self.two_bridges => {
                // The other one takes the session, and this one gets it back before the other could do much.
                during(Event::BrokerAway(0, true), Event::BrokerAway(0, false));
                during(Event::BrokerAway(1, true), Event::BrokerAway(1, false));
                let taken = at + dice.between(0, 1500);
                events.push((taken, Event::Start(1 - bridge)));
                events.push((taken, Event::ComeBack(1 - bridge)));
                events.push((taken + dice.between(20, 1500), Event::ComeBack(bridge)));
            }
            _ => {
                during(Event::Pause(bridge, true), Event::Pause(bridge, false));
                if self.two_bridges {
                    events.push(((at + until) / 2, Event::Start(1 - bridge)));
                    events.push((until + dice.between(0, 5000), Event::ComeBack(bridge)));
                }
            }
        }
    }
}
