//! The archive's store, an S3, fails in the ways in which stores fail. RocketMQ keeps the messages meanwhile, and when the store works
//! again each of them is archived, once.

use std::collections::BTreeSet;

use super::archive_books::{Archive, SOON, end, setup};
use super::lesson::Key;
use super::story::{Stage, Story, TOPIC};
use crate::support::ports::wait_until;
use crate::support::s3::S3;
use crate::support::s3_proxy::{How, Of, S3Proxy};

const WAYS: [How; 9] = [
    How::ServerError,
    How::SlowDown,
    How::AnswerLost,
    How::Conflict,
    How::Silent,
    How::CutUpload,
    How::Slow,
    How::NoRoom,
    How::Forbidden,
];

/// Those in which what was stored and what was answered differ.
const SHORT_WAYS: [How; 3] = [How::AnswerLost, How::CutUpload, How::Forbidden];

/// Which requests are in trouble, one kind after the other.
fn in_turn(how: How) -> &'static [Of] {
    match how {
        How::ServerError | How::SlowDown => &[Of::Puts, Of::Reads],
        How::Slow => &[Of::Both],
        _ => &[Of::Puts],
    }
}

/// Whether an archiver that met it has failed, however often it asked again.
fn is_failure(how: How) -> bool {
    !matches!(how, How::AnswerLost | How::Slow)
}

/// For an archiver that does not wait for an answer for the 30 s of `object_store`.
fn impatient() -> [(&'static str, String); 1] {
    [("AWS_TIMEOUT", "3s".to_owned())]
}

/// Who copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// `archive flush`, again and again.
    Commands,
    /// The bridge, by itself.
    Bridge,
    /// The bridge, and commands beside it.
    Both,
}

struct Scene {
    story: Story,
    archive: Archive,
    store: S3Proxy,
}

impl Scene {
    fn failures(&self) -> f64 {
        self.story.bridge.metrics().value("roombridge_archive_failures_total", &[])
    }

    /// The store fails, people talk all the same, and the archiver meets it.
    #[track_caller]
    fn meets(&self, who: Who, how: How, of: Of) {
        let (met, failures) = (self.store.met(how, of), self.failures());
        self.store.fail(how, of);
        let count = self.story.stage.witness.acknowledged_count();
        self.story.talk_until_acknowledged(count + 10);
        let is_met = || self.store.met(how, of) > met;
        let what = format!("an archiver meets {how:?} of {of:?}");
        if who == Who::Bridge {
            wait_until(&what, 2 * SOON, is_met);
            if is_failure(how) {
                wait_until(&format!("it says so ({what})"), 2 * SOON, || self.failures() > failures);
            }
            return;
        }
        wait_until(&what, 2 * SOON, || {
            let flushed = self.archive.try_to(&["archive", "flush"], &impatient());
            // Beside the bridge it may have had nothing to do.
            if who == Who::Commands && is_met() && is_failure(how) {
                assert!(!flushed.status.success(), "{what}, and flush ends well");
            }
            is_met()
        });
    }

    /// The store works again. Everything that was said is archived, and can be read in each room, in order.
    #[track_caller]
    fn goes_on(&mut self, who: Who) {
        self.store.heal();
        if who == Who::Bridge {
            let archived = || self.story.bridge.metrics().value("roombridge_archived_total", &[]);
            let before = archived();
            wait_until("the archiver goes on by itself", 2 * SOON, || archived() > before);
        }
        self.story.stage.mosquitto.pause();
        let (story, archive) = (&self.story, &self.archive);
        wait_until("the bridge has nothing in its hands", SOON, || {
            let books = story.bridge.metrics().books();
            books.in_flight == 0.0 && books.spool_depth == 0.0
        });
        let lesson = story.stage.setup.lesson;
        let is_said = |found: BTreeSet<Key>| {
            found == story.stage.witness.acknowledged().first.into_keys().collect::<BTreeSet<Key>>()
        };
        // What Mosquitto had written before it stood still may come a moment later.
        wait_until("everything is archived, and is what was said", 2 * SOON, || {
            if who != Who::Bridge {
                archive.flush();
            }
            archive.is_up_to_date() && is_said(archive.history(lesson)) && is_said(archive.exported(lesson))
        });
        self.story.stage.mosquitto.resume();
        self.archive.verify();
    }
}

fn the_store_fails_in_every_way(passes: &[Who], full: bool) {
    let title = format!(
        "the archive's bucket (S3) answers 500, 503, 409, 507 and 403, loses answers, keeps silent, resets uploads and is slow, {} times each",
        passes.len()
    );
    let mut setup = setup("11_store_fails_in_every_way", title, full).per_second(20);
    let ways = if full { &WAYS[..] } else { &SHORT_WAYS };
    if !full {
        (setup.lesson.rooms, setup.queues) = (2, 1);
    }
    let s3 = S3::start();
    let store = S3Proxy::start(s3.port());
    let stage = Stage::new(setup);
    let archive = Archive::in_bucket(&stage, &store.endpoint());
    let story = if passes == [Who::Commands] {
        stage.open()
    } else {
        let bridge = archive.bridge(&impatient());
        stage.open_with(bridge)
    };
    let mut scene = Scene { story, archive, store };
    for (pass, who) in passes.iter().enumerate() {
        if pass == 1 {
            // New queues begin while the store fails.
            scene.story.stage.rocketmq.create_topics(&[(TOPIC, 8)]);
        }
        for how in ways.iter().copied() {
            for of in in_turn(how) {
                scene.meets(*who, how, *of);
            }
            scene.goes_on(*who);
        }
    }
    let Scene { mut story, archive, store } = scene;
    story.fault_ends();
    end(story, &archive, &format!("{} requests met it", store.met_in_all()));
}

#[test]
fn short_store_fails_in_every_way() {
    the_store_fails_in_every_way(&[Who::Commands], false);
}

#[test]
#[ignore = "make faults"]
fn full_store_fails_in_every_way() {
    the_store_fails_in_every_way(&[Who::Bridge, Who::Both, Who::Bridge], true);
}
