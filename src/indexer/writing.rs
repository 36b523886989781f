//! The thread that writes the index. Only it waits for the disk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::IndexingError;
use super::row::OwnedRow;
use crate::index::{COMMIT_ROWS, Holes, IndexError, IndexWriter, Position};
use crate::piece::Place;

/// So many questions may wait for the thread; then the reader waits.
const WAITING: usize = 4;

enum Order {
    Add(Vec<OwnedRow>),
    /// Each with a store time of then.
    Holes(Vec<(Place, Holes, u64)>),
    /// Nothing to index lies before these positions.
    SkipTo(Vec<(Arc<Place>, Position)>),
    Commit(oneshot::Sender<Result<(), IndexError>>),
    Close(oneshot::Sender<()>),
}

/// How far each queue is, and how far its holes are known.
pub(super) type Known = (HashMap<Place, Position>, HashMap<Place, u64>);

/// A writer on a thread of its own. After an error it is of no more use.
pub(super) struct Writing {
    orders: mpsc::Sender<Order>,
}

impl Writing {
    /// Opens the index, and says how far each queue is, and how far its holes are known.
    pub(super) async fn open(dir: PathBuf, min_free_bytes: u64) -> Result<(Self, Known), IndexingError> {
        let (orders, taken) = mpsc::channel(WAITING);
        let (opened, answer) = oneshot::channel();
        let work = move || match IndexWriter::open(&dir, min_free_bytes) {
            Ok(writer) => {
                let _ = opened.send(Ok((writer.positions(), writer.holes_known().clone())));
                work(writer, taken);
            }
            Err(error) => _ = opened.send(Err(error)),
        };
        let thread = std::thread::Builder::new().name("index".to_owned()).spawn(work);
        thread.map_err(|_| IndexingError::Died)?;
        let known = answer.await.map_err(|_| IndexingError::Died)??;
        Ok((Self { orders }, known))
    }

    /// Waits while the thread has enough to do.
    pub(super) async fn add(&self, rows: Vec<OwnedRow>) -> Result<(), IndexingError> {
        self.orders.send(Order::Add(rows)).await.map_err(|_| IndexingError::Died)
    }

    /// Of each queue the holes, and a store time of then.
    pub(super) async fn note_holes(&self, holes: Vec<(Place, Holes, u64)>) -> Result<(), IndexingError> {
        self.orders.send(Order::Holes(holes)).await.map_err(|_| IndexingError::Died)
    }

    pub(super) async fn skip_to(&self, positions: Vec<(Arc<Place>, Position)>) -> Result<(), IndexingError> {
        self.orders.send(Order::SkipTo(positions)).await.map_err(|_| IndexingError::Died)
    }

    /// Returns when everything that was added is part of the index.
    pub(super) async fn commit(&self) -> Result<(), IndexingError> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order::Commit(done)).await.map_err(|_| IndexingError::Died)?;
        Ok(answer.await.map_err(|_| IndexingError::Died)??)
    }

    /// Returns when the files are closed.
    pub(super) async fn close(self) {
        let (done, answer) = oneshot::channel();
        if self.orders.send(Order::Close(done)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

/// Ends when nobody gives orders any more.
fn work(mut writer: IndexWriter, mut orders: mpsc::Receiver<Order>) {
    let mut waiting = 0;
    // Told with the next answer; what comes after an error is left out.
    let mut failed: Option<IndexError> = None;
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Add(rows) if failed.is_none() => {
                failed = add(&mut writer, &rows, &mut waiting).err();
            }
            Order::SkipTo(positions) if failed.is_none() => {
                let mut all = positions.iter();
                failed = all.try_for_each(|(place, position)| writer.skip_to(place, position)).err();
            }
            Order::Holes(holes) if failed.is_none() => {
                let mut all = holes.iter();
                failed =
                    all.try_for_each(|(place, holes, eff_ms)| writer.note_holes(place, holes, *eff_ms)).err();
            }
            Order::Add(_) | Order::Holes(_) | Order::SkipTo(_) => {}
            Order::Commit(done) => {
                waiting = 0;
                let answer = match failed.take() {
                    Some(error) => Err(error),
                    None => writer.commit(),
                };
                let _ = done.send(answer);
            }
            Order::Close(done) => {
                if let Err(error) = writer.close() {
                    tracing::warn!(%error, "the index was not closed in order; the next start goes on where it ends");
                }
                let _ = done.send(());
                return;
            }
        }
    }
}

fn add(writer: &mut IndexWriter, rows: &[OwnedRow], waiting: &mut usize) -> Result<(), IndexError> {
    for row in rows {
        row.with(|row| writer.add(row))?;
        *waiting += 1;
        if *waiting >= COMMIT_ROWS {
            writer.commit()?;
            *waiting = 0;
        }
    }
    Ok(())
}
