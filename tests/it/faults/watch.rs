//! Looks on while a story is told: how long publishers wait, how full the spool is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::bridge::get;
use crate::support::metrics::Metrics;
use crate::support::mqtt_client::Publisher;

/// How often publishers are looked at; waits are known to this.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The longest time for which one publisher, which always has something to say, got no acknowledgement.
    pub longest_wait: Duration,
    pub most_spooled: u64,
    /// When the spool last held something.
    pub spooled_at: Option<Instant>,
    pub most_memory_bytes: u64,
}

pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop_publishers: Arc<AtomicBool>,
    of_publishers: Option<JoinHandle<()>>,
    stop_bridge: Arc<AtomicBool>,
    of_bridge: JoinHandle<()>,
}

impl Watch {
    /// `metrics_url` may answer or not: the bridge dies in some stories.
    pub fn begin(publishers: Arc<Vec<Publisher>>, metrics_url: String) -> Watch {
        let seen = Arc::new(Mutex::default());
        let (stop_publishers, stop_bridge) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stop, notes) = (stop_publishers.clone(), seen.clone());
        let of_publishers = std::thread::spawn(move || watch_publishers(&publishers, &stop, &notes));
        let (stop, notes) = (stop_bridge.clone(), seen.clone());
        let of_bridge = std::thread::spawn(move || watch_bridge(&metrics_url, &stop, &notes));
        Watch { seen, stop_publishers, of_publishers: Some(of_publishers), stop_bridge, of_bridge }
    }

    /// The publishers are needed elsewhere; the bridge is still watched.
    pub fn let_publishers_go(&mut self) {
        self.stop_publishers.store(true, Ordering::Relaxed);
        if let Some(thread) = self.of_publishers.take() {
            thread.join().expect("a watching thread does not panic");
        }
    }

    pub fn end(mut self) -> Seen {
        self.let_publishers_go();
        self.stop_bridge.store(true, Ordering::Relaxed);
        self.of_bridge.join().expect("a watching thread does not panic");
        lock(&self.seen).clone()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics while holding what was seen")
}

fn watch_publishers(publishers: &[Publisher], stop: &AtomicBool, seen: &Mutex<Seen>) {
    let mut last: Vec<(u64, Option<Instant>)> = vec![(0, None); publishers.len()];
    while !stop.load(Ordering::Relaxed) {
        for (publisher, (count, since)) in publishers.iter().zip(&mut last) {
            let now = publisher.acknowledged_count();
            if now != *count {
                (*count, *since) = (now, Some(Instant::now()));
            } else if let Some(since) = since {
                let mut seen = lock(seen);
                seen.longest_wait = seen.longest_wait.max(since.elapsed());
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn watch_bridge(url: &str, stop: &AtomicBool, seen: &Mutex<Seen>) {
    while !stop.load(Ordering::Relaxed) {
        if let Some((200, text)) = get(url) {
            let metrics = Metrics::parse(&text);
            let spooled = metrics.books().spool_depth as u64;
            let memory = metrics.value("process_resident_memory_bytes", &[]) as u64;
            let mut seen = lock(seen);
            seen.most_spooled = seen.most_spooled.max(spooled);
            seen.most_memory_bytes = seen.most_memory_bytes.max(memory);
            if spooled > 0 {
                seen.spooled_at = Some(Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
