//! What archiver and indexer take for a message, from a RocketMQ in memory, printed. `cargo test --release --lib
//! archive::tests::measure -- --ignored --nocapture`; the variable `MESSAGES` says how many.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::archiver::{Archiver, ArchiverParts, LeaveOut};
use crate::binding::{BindingSettings, RuleSet};
use crate::indexer::{Indexer, IndexerParts};
use crate::model::{Clock, SystemClock};
use crate::piece_store::PieceStore;

const QUEUES: u64 = 8;
const ROOMS: u64 = 10_000;
const PAGE: usize = 32;

/// Lines of a class as the bridge stores them; the topic can be deleted.
struct Made {
    queues: Vec<Vec<StoredMessage>>,
    is_gone: AtomicBool,
}

impl Made {
    fn new(messages: u64) -> Self {
        let mut queues = vec![Vec::new(); QUEUES as usize];
        for number in 0..messages {
            let room = number * 7919 % ROOMS;
            let queue: &mut Vec<StoredMessage> = &mut queues[(room % QUEUES) as usize];
            queue.push(line(number, room, queue.len() as u64));
        }
        Self { queues, is_gone: AtomicBool::new(false) }
    }
}

fn line(number: u64, room: u64, queue_offset: u64) -> StoredMessage {
    const WORDS: [&str; 8] = ["今天", "我们", "学习", "老师", "问题", "答案", "勾股", "定理"];
    let ms = 1_800_000_000_000 + number / 50;
    let id = MessageId::from_parts(7, number);
    let text: String = (0..4 + number % 8).map(|at| WORDS[((number >> at) % 8) as usize]).collect();
    let body = format!(
        r#"{{"peer":"GID_student@@@{:05}","roomId":"{room}","msg":"{text}","ref":"school-{number}"}}"#,
        number % 30
    );
    let topic = format!("room/message/{room}");
    let named = [
        ("MIN_OFFSET", "0".to_owned()),
        ("UNIQ_KEY", format!("7F0000010B2A0000000000000{number:07X}")),
        ("CLUSTER", "DefaultCluster".to_owned()),
        ("mqttSecondTopic", format!("/message/{room}")),
        ("topic", topic.clone()),
        ("qoslevel", "1".to_owned()),
        ("mqttMessageId", (number % 65_535).to_string()),
        ("mqttPublishDubFlag", "false".to_owned()),
        ("mqttRetain", "false".to_owned()),
        ("originMqttTopic", topic),
        ("qosLevel", "1".to_owned()),
        ("rbId", id.to_string()),
        ("rbSession", "0123456789abcdef".to_owned()),
        ("rbConn", "1".to_owned()),
        ("rbSeq", number.to_string()),
        ("rbGen", "1".to_owned()),
        ("rbArrivedMs", (ms - 3).to_string()),
        ("rbOrigin", format!("1.0.{number:032x}")),
        ("rbRules", "0123456789abcdef".to_owned()),
        ("rbKind", "message".to_owned()),
    ];
    StoredMessage {
        topic: "room".to_owned(),
        tag: format!("message/{room}"),
        keys: format!("{room} {id}"),
        queue: QueueName { broker: "broker-a".into(), id: (room % QUEUES) as i32 },
        queue_offset,
        stored_ms: ms,
        born_ms: ms - 1,
        flag: 0,
        properties: named.into_iter().collect(),
        body: body.into(),
    }
}

impl Reader for Made {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        let name = |id| QueueName { broker: "broker-a".into(), id };
        let missing = ReadError {
            what: format!("topic {topic}"),
            cause: "it is gone".to_owned(),
            kind: FailureKind::TopicMissing,
        };
        let is_gone = self.is_gone.load(Ordering::Relaxed);
        let queues = if is_gone { Err(missing) } else { Ok((0..QUEUES as i32).map(name).collect()) };
        Box::pin(async { queues })
    }

    fn offsets<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        let end = self.queues[queue.id as usize].len() as u64;
        Box::pin(async move { Ok((0, end)) })
    }

    fn offset_at<'a>(
        &'a self,
        _: &'a str,
        _: &'a QueueName,
        _: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async { Ok(0) })
    }

    fn pull<'a>(
        &'a self,
        _: &'a str,
        queue: &'a QueueName,
        _: Option<&'a str>,
        from: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        let all = &self.queues[queue.id as usize];
        let messages: Vec<_> = all[from as usize..].iter().take(PAGE.min(limit as usize)).cloned().collect();
        let next_offset = from + messages.len() as u64;
        let end = all.len() as u64;
        Box::pin(async move { Ok(Page { messages, next_offset, first: 0, end }) })
    }
}

/// Of the whole process: RocketMQ in memory costs little.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

async fn told<T>(what: &str, messages: u64, work: impl Future<Output = T>) -> T {
    let (begin, processor) = (Instant::now(), on_processor());
    let done = work.await;
    let us = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
    let (wall, processor) = (us(begin.elapsed()), us(on_processor() - processor));
    eprintln!("{what:<20} {wall:>7.2} us a message, {processor:>7.2} on a processor");
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, for a minute"]
async fn figures() {
    let asked = std::env::var("MESSAGES").ok().and_then(|text| text.parse().ok());
    let messages = asked.unwrap_or(300_000);
    let folder = tempfile::tempdir().unwrap();
    let store = PieceStore::in_folder(&folder.path().join("archive")).unwrap();
    let rocketmq = Arc::new(Made::new(messages));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut archiver = Archiver::new(ArchiverParts {
        reader: rocketmq.clone(),
        store: store.clone(),
        topics: vec!["room".to_owned()],
        leave_out: LeaveOut::default(),
        cut_every: Duration::from_secs(3600),
        rocketmq_keeps: Duration::from_secs(72 * 3600),
        clock: clock.clone(),
    });
    let (round, failed) = told("archived", messages, archiver.round(true)).await;
    assert!(failed.is_none() && round.lines == messages, "{failed:?}, {round:?}");
    let settings = BindingSettings { origin_key: vec![7; 32], max_message_bytes: 4 << 20 };
    let rules = Arc::new(RuleSet::compile(&[], settings).unwrap());
    for (what, is_gone) in [("indexed, RocketMQ", false), ("indexed, pieces", true)] {
        rocketmq.is_gone.store(is_gone, Ordering::Relaxed);
        // What was never archived is read from RocketMQ.
        let store = if is_gone { store.clone() } else { PieceStore::in_memory() };
        let mut indexer = Indexer::new(IndexerParts {
            rocketmq: rocketmq.clone(),
            store,
            dir: folder.path().join(what),
            min_free_bytes: 0,
            topics: vec!["room".to_owned()],
            heard: ["room".to_owned()].into(),
            text_fields: vec!["msg".to_owned(), "text".to_owned()],
            rules: rules.clone(),
            clock: clock.clone(),
        });
        let mut rows = 0;
        told(what, messages, indexer.round(&mut |progress| rows = progress.rows)).await.unwrap();
        assert_eq!(rows, messages);
        indexer.close().await;
    }
}
