//! Tells a follower that something was stored, so that what the bridge itself writes is read at once and not at the
//! next look.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::model::{QueueName, Sent};
use crate::pipeline::ports::{Batch, ReadError, Sink};

/// When full, the news is left out; the follower then looks by itself a little later.
const NEWS: usize = 1024;

/// Which queue of which topic has something new.
type News = (Arc<str>, QueueName);

/// The end of a follower.
pub(crate) type Wakes = mpsc::Receiver<News>;

/// Where the news comes in, and where it goes out.
pub(crate) fn wakes() -> (mpsc::Sender<News>, Wakes) {
    mpsc::channel(NEWS)
}

/// A sink that tells followers about what it has stored.
struct WakingSink {
    /// Stores the batches.
    inner: Arc<dyn Sink>,
    followers: Arc<[mpsc::Sender<News>]>,
}

/// A sink that stores as `inner` does, and tells these followers.
pub(crate) fn waking(inner: Arc<dyn Sink>, followers: Vec<mpsc::Sender<News>>) -> Arc<dyn Sink> {
    if followers.is_empty() { inner } else { Arc::new(WakingSink { inner, followers: followers.into() }) }
}

impl Sink for WakingSink {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        self.inner.queues(topic)
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        let sending = self.inner.send(batch.clone());
        let followers = self.followers.clone();
        Box::pin(async move {
            let sent = sending.await;
            if sent.iter().any(|sent| matches!(sent, Sent::Stored)) {
                for follower in followers.iter() {
                    let _ = follower.try_send((batch.topic.clone(), batch.queue.clone()));
                }
            }
            sent
        })
    }
}
