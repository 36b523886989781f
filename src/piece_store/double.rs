//! An object store in memory that fails as real ones do, for tests. Several processes share its objects; each has a gate of its own,
//! at which a test says what becomes of each question.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A question to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    List,
    Get(String),
    Put(String),
    Delete(String),
}

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// 500, 503, a full disk, a disk that can only be read, an upload that was cut: nothing is done.
    Refused,
    /// It is done, and the answer is lost: 500, or a connection that broke.
    AnswerLost,
    /// 409: somebody else creates it just now. Nothing is done.
    Conflict,
    /// It is done after so long.
    Slow(Duration),
    /// The process dies before.
    DiesBefore,
    /// The process dies after it is done.
    DiesAfter,
    /// A lie: a put is answered and not done.
    OnlySaid,
}

/// Decides at each question; it may wait.
pub(crate) type Gate = Arc<dyn Fn(Question) -> BoxFuture<'static, Fate> + Send + Sync>;

/// What all processes see.
#[derive(Clone, Default)]
pub(crate) struct Objects(Arc<Shared>);

#[derive(Default)]
struct Shared {
    memory: InMemory,
    /// When each was stored, by the store's clock.
    stored_ms: Mutex<BTreeMap<String, u64>>,
    now_ms: Mutex<u64>,
    /// Objects that were stored or removed.
    changes: AtomicU64,
    /// A lie: it creates what is there already.
    overwrites: AtomicBool,
}

impl Objects {
    pub(crate) fn set_clock_ms(&self, now_ms: u64) {
        *self.0.now_ms.lock().unwrap_or_else(PoisonError::into_inner) = now_ms;
    }

    /// Rises with each object that is stored or removed.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_overwrites(&self) {
        self.0.overwrites.store(true, Ordering::Relaxed);
    }

    /// The store as one process sees it.
    pub(crate) fn through(&self, gate: Gate) -> super::PieceStore {
        super::PieceStore::over(Arc::new(Double { objects: self.clone(), gate }))
    }

    /// The store as it is, without faults.
    pub(crate) fn plain(&self) -> super::PieceStore {
        self.through(Arc::new(|_| async { Fate::Answered }.boxed()))
    }

    fn aged(&self, mut object: ObjectMeta) -> ObjectMeta {
        let stored_ms = self.0.stored_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = stored_ms.get(object.location.as_ref()).copied().unwrap_or(0);
        let has = object.last_modified.timestamp_millis() as u64;
        object.last_modified = match wanted.checked_sub(has) {
            Some(later) => object.last_modified + Duration::from_millis(later),
            None => object.last_modified - Duration::from_millis(has - wanted),
        };
        object
    }
}

struct Double {
    objects: Objects,
    gate: Gate,
}

impl Double {
    async fn ask<T>(&self, question: Question, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fate = (self.gate)(question.clone()).await;
        self.carry_out(fate, question, work).await
    }

    async fn carry_out<T>(
        &self,
        fate: Fate,
        question: Question,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let broken = || Error::Generic { store: "double", source: "503 Service Unavailable".into() };
        match fate {
            Fate::Answered | Fate::OnlySaid => work.await,
            Fate::Refused => Err(broken()),
            Fate::AnswerLost => {
                let _ = work.await;
                Err(broken())
            }
            Fate::Conflict => match question {
                // As object_store tells a 409 of a conditional put.
                Question::Put(path) => Err(Error::AlreadyExists { path, source: "409 Conflict".into() }),
                Question::List | Question::Get(_) | Question::Delete(_) => Err(broken()),
            },
            Fate::Slow(long) => {
                tokio::time::sleep(long).await;
                work.await
            }
            Fate::DiesBefore => std::future::pending().await,
            Fate::DiesAfter => {
                let _ = work.await;
                std::future::pending().await
            }
        }
    }
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Double")
    }
}

impl fmt::Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a double")
    }
}

fn unused<T>() -> Result<T> {
    Err(Error::NotImplemented { operation: "this".to_owned(), implementer: "double".to_owned() })
}

#[async_trait]
impl ObjectStore for Double {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let shared = &self.objects.0;
        if shared.overwrites.load(Ordering::Relaxed) {
            options.mode = PutMode::Overwrite;
        }
        let work = async {
            let done = shared.memory.put_opts(path, payload, options).await?;
            let now_ms = *shared.now_ms.lock().unwrap_or_else(PoisonError::into_inner);
            let mut stored_ms = shared.stored_ms.lock().unwrap_or_else(PoisonError::into_inner);
            stored_ms.insert(path.to_string(), now_ms);
            shared.changes.fetch_add(1, Ordering::Relaxed);
            Ok(done)
        };
        let question = Question::Put(path.to_string());
        match (self.gate)(question.clone()).await {
            Fate::OnlySaid => {
                let nowhere = InMemory::new();
                nowhere.put(path, PutPayload::default()).await
            }
            fate => self.carry_out(fate, question, work).await,
        }
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let work = async {
            let mut found = self.objects.0.memory.get_opts(path, options).await?;
            found.meta = self.objects.aged(found.meta);
            Ok(found)
        };
        self.ask(Question::Get(path.to_string()), work).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (objects, gate) = (self.objects.clone(), self.gate.clone());
        let delete = move |path: Path| {
            let double = Self { objects: objects.clone(), gate: gate.clone() };
            async move {
                let one = futures::stream::iter([Ok(path.clone())]).boxed();
                let work = async {
                    let done = double.objects.0.memory.delete_stream(one).try_collect::<Vec<_>>().await;
                    double.objects.0.changes.fetch_add(1, Ordering::Relaxed);
                    done
                };
                double.ask(Question::Delete(path.to_string()), work).await.map(|_| path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let double = Self { objects: self.objects.clone(), gate: self.gate.clone() };
        let prefix = prefix.cloned();
        let listing = async move {
            let work = double.objects.0.memory.list(prefix.as_ref()).try_collect::<Vec<_>>();
            let found = double.ask(Question::List, work).await?;
            let aged = found.into_iter().map(move |object| Ok(double.objects.aged(object)));
            Ok::<_, Error>(futures::stream::iter(aged))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unused()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unused()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unused()
    }
}

/// A gate that gives these fates to the next puts, and answers everything else.
pub(crate) fn puts(fates: impl IntoIterator<Item = Fate>) -> Gate {
    let fates: Mutex<Vec<Fate>> = Mutex::new(fates.into_iter().collect());
    Arc::new(move |question| {
        let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
        let is_next = matches!(question, Question::Put(_)) && !fates.is_empty();
        let fate = if is_next { fates.remove(0) } else { Fate::Answered };
        async move { fate }.boxed()
    })
}
