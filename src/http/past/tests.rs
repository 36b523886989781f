//! A class that comes while somebody speaks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, join_all};
use serde_json::Value;

use super::*;
use crate::archive::Before;
use crate::binding::{BindingSettings, RuleSet};
use crate::config::Config;
use crate::index::{IndexWriter, NewRow};
use crate::model::{Kind, ManualClock, MessageId, QueueName, RoomId, StoredMessage};
use crate::piece::Place;
use crate::piece_store::PieceStore;
use crate::pipeline::ports::{Page, ReadError, Reader, Withheld};

const NOW_MS: u64 = 1_795_168_800_000;
const CONFIG: &str = "[mqtt]\nurl = \"mqtt://broker\"\n[rocketmq]\nname_servers = [\"r:9876\"]\n\
     [[binding]]\nfilter = \"room/#\"\n";

/// Topic `room` with one queue.
#[derive(Default)]
struct Queue {
    messages: Mutex<Vec<StoredMessage>>,
    /// What of the topic lies in queues that are not handed out.
    withheld: Mutex<Vec<Withheld>>,
    pulls: AtomicUsize,
}

impl Queue {
    /// Says so many lines, and gives the number of the last one.
    fn say(&self, lines: usize) -> usize {
        let mut messages = self.messages.lock().unwrap();
        for _ in 0..lines {
            let number = messages.len() as u64;
            let (at_ms, id) = (NOW_MS + number * 10, MessageId::from_parts(0xaa, number));
            let text = number.to_string();
            let properties = [
                ("topic", "room/message/7".to_owned()),
                ("rbId", id.to_string()),
                ("rbArrivedMs", at_ms.to_string()),
                ("UNIQ_KEY", text.clone()),
            ];
            messages.push(StoredMessage {
                topic: "room".to_owned(),
                tag: "message/7".to_owned(),
                keys: format!("7 {id}"),
                queue: QueueName { broker: "a".into(), id: 0 },
                queue_offset: number,
                stored_ms: at_ms,
                born_ms: at_ms,
                flag: 0,
                properties: properties.iter().map(|(name, value)| (*name, value.as_str())).collect(),
                body: text.into(),
            });
        }
        messages.len()
    }

    fn index(&self, folder: &std::path::Path) {
        let mut index = IndexWriter::open(folder, 0).unwrap();
        for message in self.messages.lock().unwrap().iter() {
            let place = Place { topic: "room".to_owned(), queue: message.queue.clone(), generation: 0 };
            let row = NewRow {
                place: &place,
                offset: message.queue_offset,
                name: &message.name(),
                at_ms: message.stored_ms,
                eff_ms: message.stored_ms,
                rooms: &["7"],
                client_id: None,
                kind: Kind::Message,
                id: Some(MessageId::from_parts(0xaa, message.queue_offset)),
                text: None,
                is_line: true,
                mark: None,
            };
            index.add(&row).unwrap();
        }
        index.commit().unwrap();
    }
}

impl Reader for Queue {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async { Ok(vec![QueueName { broker: "a".into(), id: 0 }]) })
    }

    fn withheld<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Withheld>, ReadError>> {
        let withheld = self.withheld.lock().unwrap().clone();
        Box::pin(async move { Ok(withheld) })
    }

    fn offsets<'a>(&'a self, _: &'a str, _: &'a QueueName) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        let end = self.messages.lock().unwrap().len() as u64;
        Box::pin(async move { Ok((0, end)) })
    }

    fn offset_at<'a>(
        &'a self,
        _: &'a str,
        _: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        let offset = self.messages.lock().unwrap().partition_point(|message| message.stored_ms < stored_ms);
        Box::pin(async move { Ok(offset as u64) })
    }

    fn pull<'a>(
        &'a self,
        _: &'a str,
        _: &'a QueueName,
        _: Option<&'a str>,
        from: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        let (messages, end) = {
            let all = self.messages.lock().unwrap();
            let given = all.iter().skip(from as usize).take(limit.min(32) as usize);
            (given.cloned().collect::<Vec<_>>(), all.len() as u64)
        };
        Box::pin(async move {
            tokio::task::yield_now().await;
            let next_offset = from + messages.len() as u64;
            Ok(Page { messages, next_offset, first: 0, end })
        })
    }
}

struct Class {
    queue: Arc<Queue>,
    past: Arc<Past>,
    _folder: tempfile::TempDir,
}

/// A room of so many lines, all of them indexed.
fn class(lines: usize) -> Class {
    class_with(lines, true)
}

fn class_with(lines: usize, is_indexed: bool) -> Class {
    let queue = Arc::new(Queue::default());
    queue.say(lines);
    let folder = tempfile::tempdir().unwrap();
    if is_indexed {
        queue.index(folder.path());
    }
    let config = Config::from_toml("test", CONFIG, &std::collections::BTreeMap::new()).unwrap();
    let settings = BindingSettings { origin_key: b"key".to_vec(), max_message_bytes: 4 << 20 };
    let past = Past::new(PastParts {
        rocketmq: queue.clone(),
        archive: Some((PieceStore::in_memory(), folder.path().to_owned())),
        rules: Arc::new(RuleSet::compile(&config.bindings, settings).unwrap()),
        clock: Arc::new(ManualClock::at(NOW_MS + lines as u64 * 10)),
        parent: "room".to_owned(),
    });
    Class { queue, past: Arc::new(past), _folder: folder }
}

impl Class {
    async fn joins(&self, since_ms: Option<u64>) -> Vec<usize> {
        self.page(since_ms, None).await.0
    }

    /// The newest page, or the one before.
    async fn answer(&self, since_ms: Option<u64>, before: Option<Before>) -> Value {
        let room = RoomId::parse("7").unwrap();
        let asked = PageAsked { room, notices: true, limit: 200, since_ms };
        serde_json::from_slice(&self.past.page(&asked, before).await.unwrap()).unwrap()
    }

    /// The numbers of the lines, and where the next page begins.
    async fn page(&self, since_ms: Option<u64>, before: Option<Before>) -> (Vec<usize>, Option<Before>) {
        let answer = self.answer(since_ms, before).await;
        assert_eq!(answer["complete"], true, "{answer}");
        let lines = answer["messages"].as_array().unwrap().iter();
        let numbers = lines.map(|line| line["body"].as_str().unwrap().parse().unwrap()).collect();
        (numbers, answer["before"].as_str().map(|before| before.parse().unwrap()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_that_joins_a_long_room_is_one_reading_and_each_gets_the_newest_lines() {
    let class = class(20_000);
    let newest: Vec<usize> = (19_800..20_000).collect();
    let first = class.joins(None).await;
    let pulls = class.queue.pulls.swap(0, Ordering::Relaxed);
    assert_eq!(first, newest);
    assert!(pulls < 20, "{pulls} pulls for 200 lines of 20,000");
    let answers = join_all((0..1500).map(|_| class.joins(None))).await;
    assert!(answers.iter().all(|lines| *lines == newest) && answers.len() == 1500);
    assert_eq!(class.queue.pulls.load(Ordering::Relaxed), 0, "nothing was said, so nothing is read again");
}

/// Between the last line of the answer and the first one that is heard live is nothing, if a fence came back before the question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_while_somebody_speaks_misses_no_line_and_gets_none_twice() {
    let class = Arc::new(class(2_000));
    let joins = (0..1500).map(|number| {
        let class = class.clone();
        tokio::spawn(async move {
            let said = if number % 10 == 0 { class.queue.say(1) } else { class.queue.say(0) };
            let lines = class.joins(None).await;
            let last = *lines.last().unwrap();
            assert!(last + 1 >= said, "line {} was said before, and the answer ends with {last}", said - 1);
            assert_eq!(lines, (last - 199..=last).collect::<Vec<_>>());
        })
    });
    for joined in join_all(joins).await {
        joined.unwrap();
    }
}

#[tokio::test]
async fn a_student_gets_what_was_said_since_the_lesson_began_from_the_first_page_to_the_last() {
    let class = class(1_000);
    let begin_ms = NOW_MS + 750 * 10;
    let (newest, before) = class.page(Some(begin_ms), None).await;
    assert_eq!(newest, (800..1000).collect::<Vec<_>>());
    let (oldest, end) = class.page(Some(begin_ms), before).await;
    assert_eq!((oldest, end), ((750..800).collect(), None));
    // And whoever sees more is not answered with it.
    assert_eq!(class.page(None, before).await.0, (600..800).collect::<Vec<_>>());
}

/// "Nobody has said anything" must not be told of a room whose queue RocketMQ does not hand out.
#[tokio::test]
async fn a_page_is_not_complete_while_rocketmq_does_not_hand_out_a_part_and_counts_for_a_whole_class() {
    for is_indexed in [false, true] {
        // Given a room whose topic has fewer read queues than before
        let class = class_with(10, is_indexed);
        let queue = QueueName { broker: "a".into(), id: 7 };
        let withheld = Withheld { queue, offsets: 0..3, may_be_read: true };
        class.queue.withheld.lock().unwrap().push(withheld);

        // When a pupil joins, then what is there is shown, and is not called complete
        let answer = class.answer(None, None).await;
        assert_eq!(answer["messages"].as_array().unwrap().len(), 10, "{answer}");
        assert_eq!(answer["complete"], false, "indexed: {is_indexed}, {answer}");

        // And the rest of the class costs no further reading
        class.queue.pulls.store(0, Ordering::Relaxed);
        for _ in 0..20 {
            assert_eq!(class.answer(None, None).await, answer);
        }
        assert_eq!(class.queue.pulls.load(Ordering::Relaxed), 0);

        // When the topic has its queues back, and somebody speaks, then nothing is missing
        class.queue.withheld.lock().unwrap().clear();
        class.queue.say(1);
        assert_eq!(class.joins(None).await.len(), 11);
    }
}
