//! What a bridge costs that has nothing to do. All candidates rest side by side: none of them disturbs another.

use std::time::Duration;

use super::{Bench, QUEUES, TOPIC};
use crate::candidates::{ALL, Program, Site, in_turn};
use crate::support::clocked_broker::ClockedBroker;
use crate::support::process_usage;

pub const ROW: &str = "idle";
/// What a start leaves to do.
const SETTLING: Duration = Duration::from_secs(10);
const REST: Duration = Duration::from_secs(10);

pub fn run(bench: &mut Bench) {
    let mut resting = Vec::new();
    for candidate in in_turn(ALL, 0) {
        let broker = ClockedBroker::start();
        let site = Site {
            mqtt_port: broker.port(),
            rocketmq: &bench.rocketmq,
            filter: "room/#",
            topic: TOPIC,
            queues: QUEUES,
        };
        let mut program = Program::new(candidate, site);
        let mut running = program.start();
        let client = broker.client().unwrap_or_else(|error| panic!("{}: {error}", candidate.name()));
        running.wait_ready();
        resting.push((candidate, program, running, client));
    }
    std::thread::sleep(SETTLING);
    for round in 0..bench.options.rounds {
        bench.say_round(ROW, round);
        let pids = resting.iter_mut().map(|(_, _, running, _)| running.pid());
        let before: Vec<_> =
            pids.map(|pid| (process_usage::cpu(pid), process_usage::context_switches(pid))).collect();
        std::thread::sleep(REST);
        for ((candidate, _, running, _), (cpu, switches)) in resting.iter_mut().zip(before) {
            let pid = running.pid();
            let mut add = |figure, unit, value| bench.comparison.add(ROW, figure, unit, *candidate, value);
            let cpu = process_usage::cpu(pid).saturating_sub(cpu);
            add("of one processor", "%", cpu.as_secs_f64() / REST.as_secs_f64() * 100.0);
            let switches = process_usage::context_switches(pid).saturating_sub(switches);
            add("context switches", "/s", switches as f64 / REST.as_secs_f64());
            add("resident memory", "MB", process_usage::rss_mb(pid));
        }
    }
    for (_, _, running, _) in resting {
        running.stop();
    }
}
