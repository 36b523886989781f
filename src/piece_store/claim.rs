//! Which piece a queue goes on with where no message in RocketMQ proves it: at the begin of a generation, and behind what RocketMQ
//! deleted. Two archivers could each write one, of other messages. So such a piece is claimed before it is written: the claims of a queue
//! are numbered, each is created if it is absent, and who comes second looks again.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{Created, PieceStore, StoreError};
use crate::model::QueueName;
use crate::piece::{PieceKey, claims_of};

/// What the object says.
#[derive(Serialize, Deserialize)]
struct Claim {
    /// Its name.
    piece: String,
}

impl PieceStore {
    /// How many claims a queue has; the next one has this number.
    pub(crate) async fn claims(&self, topic: &str, queue: &QueueName) -> Result<u32, StoreError> {
        let path = Path::from(claims_of(topic, queue));
        let listing = self.store.list(Some(&path)).try_fold(0, |count, object| async move {
            let number = object.location.filename().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            Ok(number.map_or(count, |number: u32| count.max(number.saturating_add(1))))
        });
        self.in_time("list its claims", listing).await
    }

    /// The piece that is claimed under that number.
    pub(crate) async fn claimed(
        &self,
        topic: &str,
        queue: &QueueName,
        number: u32,
    ) -> Result<PieceKey, StoreError> {
        let name = name(topic, queue, number);
        let bytes = self.object(&name).await?;
        let claim = serde_json::from_slice::<Claim>(&bytes).ok();
        let key = claim.and_then(|claim| PieceKey::parse(&claim.piece));
        key.filter(|key| key.place.topic == topic && key.place.queue == *queue).ok_or_else(|| {
            self.problem(&format!("say in {name} which piece is claimed"), "it names no piece of its queue")
        })
    }

    /// Claims a piece under that number. [`Created::Another`]: somebody has claimed under it.
    pub(crate) async fn claim(&self, number: u32, key: &PieceKey) -> Result<Created, StoreError> {
        let name = name(&key.place.topic, &key.place.queue, number);
        let claim = serde_json::to_vec(&Claim { piece: key.to_string() });
        let claim = claim.map_err(|error| self.problem(&format!("store {name}"), &error.to_string()))?;
        self.create_object(&name, Bytes::from(claim)).await
    }
}

fn name(topic: &str, queue: &QueueName, number: u32) -> Path {
    Path::from(format!("{}/{number:08}.json", claims_of(topic, queue)))
}
