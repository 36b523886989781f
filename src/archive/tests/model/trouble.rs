//! What happens to RocketMQ and to the processes, by the dice.

use fastrand::Rng;

use super::rocketmq::{Line, State};
use super::run::{DAY_MS, PROCESSES, Run, YEAR_MS};
use crate::model::QueueName;

/// Something new, a copy, or another body under a known id.
fn line(random: &mut Rng, state: &State) -> Line {
    let known = random.choice(&state.with_ids).cloned();
    let new = state.new_line(random.u8(..5).to_string(), random.u8(..8) == 0, random.bool());
    match (random.u8(..16), known) {
        (0, Some(known)) => known,
        (1, Some(known)) => Line { body: new.body, ..known },
        _ => new,
    }
}

impl Run {
    pub(super) fn say(&mut self) {
        let mut state = self.rocketmq.lock();
        let names: Vec<QueueName> = state.queues.keys().cloned().collect();
        let Some(name) = self.random.choice(names) else { return };
        for _ in 0..self.random.u32(1..30) {
            state.clock_ms += self.random.u64(..5000);
            let line = line(&mut self.random, &state);
            state.say(&name, line);
        }
    }

    pub(super) fn trouble_rocketmq(&mut self) {
        let mut state = self.rocketmq.lock();
        let names: Vec<QueueName> = state.queues.keys().cloned().collect();
        let random = &mut self.random;
        let what = match random.u8(..16) {
            0..5 => {
                let Some(name) = random.choice(names) else { return };
                let count = random.u64(..60);
                state.forget(&name, count);
                format!("RocketMQ deletes {count} of {name}")
            }
            5 => {
                state.delete_topic();
                "the topic is deleted".to_owned()
            }
            6..8 => {
                state.remake_topic(&self.brokers, self.queues);
                "the topic is made anew".to_owned()
            }
            8 => {
                if !self.comes_back {
                    return;
                }
                state.bring_back();
                "a deleted topic is back".to_owned()
            }
            9 => {
                self.queues = (self.queues * 2).min(8);
                if !state.is_gone {
                    state.make(&self.brokers, self.queues);
                }
                format!("{} queues", self.queues)
            }
            10 => {
                let (from, to) = (self.brokers[0], *random.choice(&["a", "b", "c"]).unwrap());
                if from == to || state.queues.keys().any(|name| &*name.broker == to) {
                    return;
                }
                self.brokers = vec![to];
                state.rename_broker(from, to);
                format!("broker {from} is named {to}")
            }
            11 => {
                state.clock_ms = state.clock_ms.saturating_sub(DAY_MS);
                "the broker's clock is set back a day".to_owned()
            }
            12 => {
                state.clock_ms = self.now_ms;
                "the broker's clock is right".to_owned()
            }
            13 => {
                let Some(name) = random.choice(names) else { return };
                let end = state.queues[&name].end();
                let offset = end.saturating_sub(random.u64(1..6));
                state.withhold(&name, offset);
                format!("{name} withholds {offset}")
            }
            _ => {
                state.is_silent = true;
                "RocketMQ is silent".to_owned()
            }
        };
        drop(state);
        self.tell(what);
    }

    pub(super) fn trouble_process(&mut self) {
        let number = self.random.usize(..PROCESSES);
        match self.random.u8(..8) {
            0..2 => self.kill(number),
            2..4 => {
                let steps = self.random.usize(10..400);
                self.processes[number].stopped = steps;
                self.tell(format_args!("process {number} stands still"));
            }
            4 => {
                let ahead_ms = if self.processes[number].ahead_ms == 0 { YEAR_MS } else { 0 };
                self.processes[number].ahead_ms = ahead_ms;
                self.pass(0);
                self.tell(format_args!("the clock of {number} is {ahead_ms} ms ahead"));
            }
            _ => {
                self.faults = if self.faults == 0 { self.random.u64(1..40) } else { 0 };
                let faults = self.faults;
                self.tell(format_args!("{faults} of 1000 questions fail"));
            }
        }
    }
}
