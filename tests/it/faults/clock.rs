//! The bridge's wall clock jumps, by libfaketime, while RocketMQ is away and the spool has a limit of age.

use std::path::Path;

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage};
use crate::support::bridge::Bridge;
use crate::support::scratch::Scratch;

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// For a process whose clock is as the file `clock` says, right at first; `None` without libfaketime.
pub fn fake_clock(scratch: &Scratch) -> Option<[(&'static str, String); 4]> {
    let library = LIBRARIES.iter().find(|library| Path::new(library).exists())?;
    let clock = scratch.write("clock", "+0");
    Some([
        ("LD_PRELOAD", (*library).to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

/// Hazards 12 and 14: a clock a day ahead deletes nothing that waits, and one that goes back makes no id twice.
#[test]
#[ignore = "make faults"]
fn full_clock_jumps() {
    let mut setup = Setup::new(
        Victim::Bridge,
        "08_clock",
        "clock a day ahead, then two days back, with a limit of age and RocketMQ away",
        true,
    );
    setup.more_config = "[spool]\nwhen_full = \"drop_oldest\"\nmax_age_s = 3600\n".to_owned();
    let scratch = Scratch::new("clock");
    let Some(variables) = fake_clock(&scratch) else {
        return setup.skip("libfaketime is not installed, so the clock cannot jump");
    };
    let stage = Stage::new(setup);
    let mut bridge = Bridge::start_with_variables(&stage.config(), &variables);
    bridge.wait_ready();
    let mut story = stage.open_with(bridge);
    story.talk(1.0);
    story.stage.rocketmq.pause_broker();
    story.talk(4.0);
    scratch.write("clock", "+1d");
    story.talk(2.0);
    story.bridge.kill();
    story.bridge.start_again();
    story.talk(2.0);
    scratch.write("clock", "-1d");
    story.talk(2.0);
    story.stage.rocketmq.resume_broker();
    story.fault_ends();
    story.talk(2.0);
    let row = story.end();
    assert!(row.most_spooled > 1000, "the spool was in use: {row:?}");
    row.check(Allowed::default());
}
