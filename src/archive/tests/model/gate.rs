//! Where a process stands still until the run says how it goes on: before each question to RocketMQ and to the store.

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::piece_store::double::{Fate, Gate, Question};

/// A process waits at a question.
pub(super) struct Asked {
    pub process: usize,
    pub what: What,
    pub answer: oneshot::Sender<Fate>,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Store(Question),
    Reader { _what: String },
}

/// The gates of one process.
#[derive(Clone)]
pub(super) struct Gates {
    pub process: usize,
    pub asked: mpsc::UnboundedSender<Asked>,
}

impl Gates {
    async fn pass(&self, what: What) -> Fate {
        let (answer, fate) = oneshot::channel();
        let asked = Asked { process: self.process, what, answer };
        let is_there = self.asked.send(asked).is_ok();
        match fate.await {
            Ok(fate) if is_there => fate,
            // It is dead.
            Ok(_) | Err(_) => std::future::pending().await,
        }
    }

    pub(super) async fn pass_reader(&self, what: &str) -> Result<(), ()> {
        match self.pass(What::Reader { _what: what.to_owned() }).await {
            Fate::Answered => Ok(()),
            Fate::Slow(long) => {
                tokio::time::sleep(long).await;
                Ok(())
            }
            Fate::Refused | Fate::AnswerLost | Fate::Conflict => Err(()),
            Fate::DiesBefore | Fate::DiesAfter | Fate::OnlySaid => std::future::pending().await,
        }
    }

    pub(super) fn of_store(&self) -> Gate {
        let gates = self.clone();
        std::sync::Arc::new(move |question| {
            let gates = gates.clone();
            async move { gates.pass(What::Store(question)).await }.boxed()
        })
    }
}
