//! Figures, not rules. Run with `cargo test --release spool::tests::measure -- --ignored --nocapture`.

use std::time::Instant;

use super::*;
use crate::model::SystemClock;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn batch(slot: u8, count: usize) -> Vec<SpoolMessage> {
    let mut message = message(slot, "0123456789abcdef");
    message.message.body = Bytes::from(vec![b'b'; 400]);
    let properties = [
        "rbId",
        "rbSession",
        "rbConn",
        "rbSeq",
        "rbGen",
        "rbArrivedMs",
        "rbOrigin",
        "qoslevel",
        "mqttMessageId",
        "clientId",
    ];
    for name in properties {
        message.message.properties.push(name, "0123456789abcdef0123");
    }
    vec![message; count]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute"]
async fn a_million_messages() {
    let clock: Arc<dyn crate::model::Clock> = Arc::new(SystemClock::default());
    let folder =
        tempfile::tempdir_in(std::env::var("SPOOL_FOLDER").unwrap_or_else(|_| ".".to_owned())).unwrap();
    let mut place = SpoolFolder::new();
    place.settings.path = folder.path().join("spool.sqlite3");
    place.settings.max_bytes = 4 << 30;
    place.settings.max_messages = 10_000_000;
    let mut file = schema::file(&place.settings);
    let page_bytes = std::env::var("SPOOL_PAGE_BYTES").ok();
    file.page_bytes = page_bytes.map_or(file.page_bytes, |bytes| bytes.parse().unwrap());
    let (spool, _) = SqliteSpool::open_file(&file, place.settings.clone(), clock.clone(), None).unwrap();
    let spool = Arc::new(spool);
    let before_kib = resident_kib();
    for (size, rounds) in [(1, 500), (32, 400), (128, 875)] {
        let started = Instant::now();
        let lanes = (0..8_u8).map(|lane| {
            let spool = spool.clone();
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                for round in 0..rounds {
                    let slot = lane * 32 + (round % 32) as u8;
                    let asked = Instant::now();
                    spool.put(batch(slot, size)).await.unwrap();
                    slowest = slowest.max(asked.elapsed());
                }
                slowest
            })
        });
        let slowest = futures::future::join_all(lanes).await;
        let slowest = slowest.into_iter().map(Result::unwrap).max().unwrap();
        let count = 8 * rounds as usize * size;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        println!("append: 8 lanes, batch {size}: {rate:.0} msg/s, slowest call {slowest:?}");
    }
    println!("depth {:?}, RSS {before_kib} -> {} KiB", spool.depth(), resident_kib());
    let file = std::fs::metadata(place.path()).unwrap().len();
    let log = std::fs::metadata(crate::storage::beside(place.path(), "-wal")).unwrap().len();
    println!(
        "file {file} bytes, {:.2} of what is counted, log {log}",
        file as f64 / spool.depth().bytes as f64
    );
    Arc::into_inner(spool).unwrap().close();

    let started = Instant::now();
    let (spool, report) = SqliteSpool::open(place.settings.clone(), clock).unwrap();
    println!("open with {}: {:?}, RSS {} KiB", report.depth.messages, started.elapsed(), resident_kib());
    drain(&spool, "all 256 slots", (0..=255).collect()).await;
    drain(&spool, "32 slots", (0..32).collect()).await;
}

async fn drain(spool: &SqliteSpool, what: &str, slots: Vec<u8>) {
    let started = Instant::now();
    let (mut drained, mut taking) = (0, Duration::ZERO);
    for _ in 0..500 {
        let asked = Instant::now();
        let taken = spool.take(topic(), slots.clone(), 128, 1 << 20).await.unwrap();
        taking += asked.elapsed();
        drained += taken.rows.len();
        spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    }
    let rate = drained as f64 / started.elapsed().as_secs_f64();
    let resident = resident_kib();
    println!("drain, 128 after 128, {what}: {rate:.0} msg/s, {taking:?} of it to take; RSS {resident} KiB");
}
