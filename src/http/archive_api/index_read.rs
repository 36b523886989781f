//! Asks the index, on a thread that may wait for a disk.

use std::sync::Arc;

use super::error::ApiError;
use super::limits::Permit;
use super::why::{Why, WhyCode};
use super::{Api, DEADLINE};
use crate::archive::{Whole, withheld_of};
use crate::index::{Index, IndexError};
use crate::search::behind;

impl Api {
    /// The index, and what it is an index of.
    pub(super) async fn indexed(&self) -> Result<(Arc<Index>, Whole), ApiError> {
        let folder = self.parts.folder.clone();
        let opened = tokio::task::spawn_blocking(move || Index::open(&folder)).await;
        let opened =
            opened.map_err(|died| ApiError::Upstream(format!("the index could not be opened: {died}")))?;
        let index = opened.map_err(|error| ApiError::Upstream(error.to_string()))?;
        let index = Arc::new(index.ok_or(ApiError::NoIndex)?);
        let whole = Whole::new(self.parts.rocketmq.clone(), self.parts.store.clone());
        Ok((index.clone(), whole.with_index(Some(index))))
    }

    /// What the index has not seen; none if it has seen everything. To be asked before the question, so that what comes between the
    /// two is in the answer.
    pub(super) async fn behind(&self, index: &Arc<Index>, whole: &Whole) -> Vec<Why> {
        let told = |sentence: String| vec![Why::new(WhyCode::IndexBehind, sentence)];
        let mut why = match behind(index, whole, &self.parts.topics).await {
            Ok(0) => Vec::new(),
            Ok(1) => told("1 message is not in the index yet".to_owned()),
            Ok(behind) => told(format!("{behind} messages are not in the index yet")),
            Err(error) => told(format!("it is not known how far the index is behind: {error}")),
        };
        // What RocketMQ does not hand out reaches neither the archive nor its index.
        for topic in &self.parts.topics {
            match withheld_of(whole, topic).await {
                Ok(withheld) => why.extend(withheld.iter().map(Why::of_missing)),
                Err(error) => {
                    let sentence =
                        format!("it is not known whether RocketMQ hands out all of topic {topic}: {error}");
                    why.push(Why::new(WhyCode::NotHandedOut, sentence));
                }
            }
        }
        why
    }

    /// A longer silence ends a lesson.
    pub(super) fn gap_ms(&self) -> u64 {
        u64::try_from(self.parts.lesson_gap.as_millis()).unwrap_or(u64::MAX)
    }

    /// The answer of the index to one question.
    ///
    /// One that takes longer than the deadline ends by itself, and counts until then. Each question opens the index for itself: one that takes long then holds up nobody.
    pub(super) async fn ask_index<T: Send + 'static>(
        self: &Arc<Self>,
        permit: Permit,
        question: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let folder = self.parts.folder.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Index::open(&folder)?.map(|index| question(&index)).transpose()
        });
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(Ok(Some(answer)))) => Ok(answer),
            Ok(Ok(Ok(None))) => Err(ApiError::NoIndex),
            Ok(Ok(Err(error))) => Err(ApiError::Upstream(error.to_string())),
            Ok(Err(died)) => Err(ApiError::Upstream(format!("the index could not be asked: {died}"))),
            Err(_) => Err(ApiError::Late),
        }
    }
}
