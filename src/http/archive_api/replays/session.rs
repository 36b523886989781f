//! One replay that runs for a program: a task, a bounded channel to its reader, and the reasons for which it ends.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Standing;
use crate::archive::{
    Ended, HistoryQuery, Position, Readers, Record, Replay, ReplayError, ReplayEvent, ReplayHandle,
    ReplayOutput, ReplayParts, Speed,
};
use crate::http::archive_api::error::ApiError;
use crate::http::archive_api::limits::{Limits, Permit};
use crate::http::archive_api::messages::ShortLine;
use crate::http::archive_api::rights::{Caller, CallerKey, Shows};
use crate::http::archive_api::why::{Partial, Why};
use crate::http::archive_api::{Api, DEADLINE};

/// A session that nobody reads for so long ends.
pub(super) const WITHOUT_READER: Duration = Duration::from_secs(60);
/// Who has so many events waiting and takes none for so long does not read any more, although the connection stands.
const STALLED: Duration = Duration::from_secs(60);
/// No session is longer, whoever made it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// So often the token is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many events wait for the reader; then the replay waits.
const EVENTS: usize = 64;
const SESSIONS_OF_CALLER: usize = 4;
const SESSIONS: usize = 64;

/// All sessions that run.
pub(in crate::http::archive_api) struct Sessions {
    pub(super) limits: Arc<Limits>,
    running: Mutex<HashMap<String, Arc<Session>>>,
}

impl Default for Sessions {
    fn default() -> Self {
        let limits = Arc::new(Limits::new(SESSIONS_OF_CALLER, SESSIONS, "replays"));
        Self { limits, running: Mutex::default() }
    }
}

impl Sessions {
    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session.
pub(super) struct Session {
    pub id: String,
    pub room: String,
    pub key: CallerKey,
    pub handle: ReplayHandle,
    /// While nobody reads.
    events: Mutex<Option<mpsc::Receiver<Value>>>,
    is_read: watch::Sender<bool>,
    end: CancellationToken,
}

impl Session {
    /// Takes the events until the reader is dropped.
    pub(super) fn read(self: &Arc<Self>) -> Result<SessionReader, ApiError> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        let events = events.ok_or(ApiError::IsRead)?;
        self.is_read.send_replace(true);
        Ok(SessionReader { session: self.clone(), events: Some(events) })
    }

    /// Refuses as [`Self::read`] does, and takes nothing.
    pub(super) fn check_free(&self) -> Result<(), ApiError> {
        match self.events.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            true => Ok(()),
            false => Err(ApiError::IsRead),
        }
    }

    pub(super) fn end(&self) {
        self.end.cancel();
    }
}

/// Whoever reads a session. When it is gone, another one may read on.
pub(super) struct SessionReader {
    session: Arc<Session>,
    events: Option<mpsc::Receiver<Value>>,
}

impl SessionReader {
    /// `None`: there is nothing more.
    pub(super) async fn next(&mut self) -> Option<Value> {
        self.events.as_mut()?.recv().await
    }
}

impl Drop for SessionReader {
    fn drop(&mut self) {
        *self.session.events.lock().unwrap_or_else(PoisonError::into_inner) = self.events.take();
        self.session.is_read.send_replace(false);
    }
}

/// What a session plays.
pub(super) struct Made {
    pub room: String,
    pub query: HistoryQuery,
    pub start: Option<Position>,
    pub speed: Speed,
    pub longest_silence: Option<Duration>,
    pub follow: bool,
    pub shows: Shows,
}

/// Opens the replay, and starts its task.
pub(super) async fn start(
    api: &Arc<Api>,
    caller: Caller,
    permit: Permit,
    made: Made,
) -> Result<Arc<Session>, ApiError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| ApiError::Upstream(format!("could not draw random bytes: {error}")))?;
    let id = URL_SAFE_NO_PAD.encode(random);
    let (events, taken) = mpsc::channel(EVENTS);
    let (opened, open) = oneshot::channel();
    let (is_read, read_seen) = watch::channel(false);
    let end = CancellationToken::new();
    let task =
        Task { api: api.clone(), events, read_seen, end: end.clone(), expires_at_ms: caller.expires_at_ms };
    let room = made.room.clone();
    tokio::spawn(task.run(id.clone(), permit, made, opened));
    let handle = match tokio::time::timeout(DEADLINE, open).await {
        Ok(Ok(handle)) => handle?,
        Ok(Err(_)) => return Err(ApiError::Upstream("the replay died; see the log".to_owned())),
        Err(_) => {
            end.cancel();
            return Err(ApiError::Late);
        }
    };
    let events = Mutex::new(Some(taken));
    let session = Arc::new(Session { id: id.clone(), room, key: caller.key, handle, events, is_read, end });
    api.sessions.lock().insert(id.clone(), session.clone());
    if session.end.is_cancelled() {
        // It ended before it was put in.
        api.sessions.lock().remove(&id);
    }
    Ok(session)
}

struct Task {
    api: Arc<Api>,
    events: mpsc::Sender<Value>,
    read_seen: watch::Receiver<bool>,
    end: CancellationToken,
    expires_at_ms: Option<u64>,
}

type Opened = oneshot::Sender<Result<ReplayHandle, ApiError>>;

impl Task {
    /// Plays until an end; then nobody finds the session any more.
    async fn run(self, id: String, permit: Permit, made: Made, opened: Opened) {
        let end = self.end.clone();
        let why = tokio::select! {
            why = self.play(made, opened) => why,
            why = self.until_it_must_end() => why,
            () = end.cancelled() => "it was ended".to_owned(),
        };
        // Before it is taken out, so that whoever puts it in later sees it.
        end.cancel();
        self.api.sessions.lock().remove(&id);
        // One who does not read holds no session meanwhile.
        drop(permit);
        say_end(&self.events, &why).await;
    }

    async fn play(&self, made: Made, opened: Opened) -> String {
        let reader = self.api.reader().await;
        let rocketmq = self.api.parts.rocketmq.clone();
        let parts = ReplayParts {
            readers: Readers { until_now: &reader, follow: made.follow.then_some(&*rocketmq) },
            query: made.query,
            start: made.start,
            speed: made.speed,
            longest_silence: made.longest_silence,
            clock: &*self.api.parts.clock,
        };
        let mut replay = match Replay::open(parts, &mut |_| {}).await {
            Ok((replay, handle)) => {
                // The first event, so there is room.
                let _ = not_whole(&replay).map(|event| self.events.try_send(event));
                let _ = opened.send(Ok(handle));
                replay
            }
            Err(error) => {
                let _ = opened.send(Err(of_replay(error)));
                return "it could not be opened".to_owned();
            }
        };
        let mut read_seen = self.read_seen.clone();
        if read_seen.wait_for(|is_read| *is_read).await.is_err() {
            return "its reader is gone".to_owned();
        }
        let mut output = Events { events: self.events.clone(), shows: made.shows };
        let told = self.events.clone();
        // What finds no room is told by the state of the session, too.
        let mut watch = |event: ReplayEvent| drop(shown(&event).map(|event| told.try_send(event)));
        match replay.run(&mut output, &mut watch).await {
            Ok(Ended::Whole) => "everything was played".to_owned(),
            Ok(Ended::Stopped) => "it was ended".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Until the token has expired, or nobody has read for too long.
    async fn until_it_must_end(&self) -> String {
        let begun = Instant::now();
        let mut read_at = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if *self.read_seen.borrow() {
                read_at = Instant::now();
            }
            if self.expires_at_ms.is_some_and(|expires| self.api.parts.clock.wall_ms() >= expires) {
                return "the token has expired".to_owned();
            }
            if read_at.elapsed() >= WITHOUT_READER {
                return format!("nobody has read it for {} s", WITHOUT_READER.as_secs());
            }
            if begun.elapsed() >= LONGEST {
                return format!("it has run for {} h", LONGEST.as_secs() / 3600);
            }
        }
    }
}

/// The reader finds what was played before, and this: however slow it is, if it reads at all.
async fn say_end(events: &mpsc::Sender<Value>, why: &str) {
    let end = json!({"event": "end", "why": why});
    let _ = tokio::time::timeout(STALLED, events.send(end)).await;
}

fn of_replay(error: ReplayError) -> ApiError {
    match error {
        ReplayError::History(error) => error.into(),
        ReplayError::NoSuchMessage(_) => ApiError::Wrong(error.to_string()),
        ReplayError::Read(_) | ReplayError::Cut { .. } | ReplayError::Write(_) | ReplayError::Publish(_) => {
            ApiError::Upstream(error.to_string())
        }
    }
}

/// What a reader is told first, if the replay may lack something.
fn not_whole(replay: &Replay<'_>) -> Option<Value> {
    let reasons = Why::of_reading(replay.away(), replay.missing());
    let Partial { partial, why, why_codes } = reasons.into();
    partial.then(|| json!({"event": "partial", "why": why, "why_codes": why_codes}))
}

/// What a reader is told beside the messages.
fn shown(event: &ReplayEvent) -> Option<Value> {
    match event {
        ReplayEvent::Pause(silence) => Some(json!({"event": "silence", "seconds": silence.as_secs_f64()})),
        ReplayEvent::LeftOut(silence) => Some(json!({"event": "left_out", "seconds": silence.as_secs_f64()})),
        ReplayEvent::Played(_) => None,
        ReplayEvent::Changed(state) => Some(json!({"event": "state", "state": Standing::of(*state)})),
        ReplayEvent::Live => Some(json!({"event": "live"})),
        ReplayEvent::Trouble(error) => Some(json!({"event": "trouble", "why": error.to_string()})),
        ReplayEvent::NotThere(id) => Some(json!({"event": "not_there", "message": id.to_string()})),
    }
}

/// Gives the records to the reader, and waits while there is no room.
struct Events {
    events: mpsc::Sender<Value>,
    shows: Shows,
}

impl ReplayOutput for Events {
    fn play<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, Result<(), ReplayError>> {
        Box::pin(async move {
            if self.shows.hold(record.kind, &record.mqtt_topic) {
                let event = json!({"event": "message", "message": ShortLine::of(record.clone())});
                let sent = tokio::time::timeout(STALLED, self.events.send(event)).await;
                // It is refused only when the session is over, and then nothing is played any more.
                let _ = sent.map_err(|_| {
                    let why = format!("its reader took nothing for {} s", STALLED.as_secs());
                    ReplayError::Write(io::Error::new(io::ErrorKind::TimedOut, why))
                })?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::{FromRequestParts as _, Path, State};
    use axum::http::{HeaderMap, Method, Request};

    use super::*;
    use crate::archive::HistoryQuery;
    use crate::http::archive_api::replays::stream;
    use crate::http::archive_api::rights::Shown;
    use crate::http::archive_api::tests::{Memory, NOW_MS, SECRET, parts};
    use crate::model::{ManualClock, QueueName, StoredMessage};

    fn record() -> Record {
        let message = StoredMessage {
            topic: "room".to_owned(),
            tag: String::new(),
            keys: String::new(),
            queue: QueueName { broker: "a".into(), id: 0 },
            queue_offset: 0,
            stored_ms: 1,
            born_ms: 1,
            flag: 0,
            properties: [("topic", "room/message/7")].into_iter().collect(),
            body: "hello".into(),
        };
        let query = HistoryQuery {
            places: vec![crate::binding::RoomQuery {
                topic: "room".to_owned(),
                tag: None,
                shared: false,
                room: None,
                kind: None,
            }],
            ..HistoryQuery::default()
        };
        query.record_of(&message).unwrap()
    }

    /// Its connection stands, so nothing else would end it before its token does.
    #[tokio::test(start_paused = true)]
    async fn a_replay_whose_reader_takes_nothing_ends_at_its_deadline() {
        let begun = Instant::now();
        let (events, _taken) = mpsc::channel(EVENTS);
        let mut output = Events { events, shows: Shows { private: true, sent_below: None } };
        for _ in 0..EVENTS {
            output.play(&record()).await.unwrap();
        }
        let ended = output.play(&record()).await.unwrap_err().to_string();
        assert!(ended.contains("its reader took nothing for 60 s"), "{ended}");
        assert_eq!(begun.elapsed(), STALLED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_told_the_end_and_one_who_takes_nothing_is_not_waited_for() {
        let (events, mut taken) = mpsc::channel(EVENTS);
        for number in 0..EVENTS {
            events.try_send(json!(number)).unwrap();
        }
        let read = async {
            tokio::time::sleep(STALLED / 2).await;
            let mut last = json!(null);
            for _ in 0..=EVENTS {
                last = taken.recv().await.unwrap();
            }
            last
        };
        let ((), last) = tokio::join!(say_end(&events, "everything was played"), read);
        assert_eq!(last, json!({"event": "end", "why": "everything was played"}));

        for number in 0..EVENTS {
            events.try_send(json!(number)).unwrap();
        }
        let begun = Instant::now();
        say_end(&events, "everything was played").await;
        assert_eq!(begun.elapsed(), STALLED);
    }

    /// What a request of the operator shows.
    async fn shown_by_operator() -> Shown {
        let request = Request::builder().header("authorization", format!("Bearer {SECRET}"));
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        Shown::from_request_parts(&mut head, &()).await.unwrap()
    }

    /// A program that looks at the headers alone must not begin the replay for the one who reads it.
    #[tokio::test]
    async fn a_head_of_a_stream_begins_nothing_and_is_answered_as_a_reader_would_be() {
        // Given a replay that waits for its reader, and lasts for minutes
        let rocketmq = Arc::new(Memory::default());
        for body in [b"a line", b"2 line"] {
            rocketmq.lock().store("room/message/7", "7", "anna", body);
        }
        let api = Arc::new(Api::new(parts(rocketmq, Arc::new(ManualClock::at(NOW_MS)))).unwrap());
        let caller = api.reader_of(&shown_by_operator().await, "7").unwrap();
        let permit = api.sessions.limits.enter(caller.key).unwrap();
        let places = api.places_of("7").unwrap();
        let made = Made {
            room: "7".to_owned(),
            query: HistoryQuery { places, partial: true, ..HistoryQuery::default() },
            start: None,
            speed: Speed::Times(0.01),
            longest_silence: None,
            follow: false,
            shows: Shows { private: true, sent_below: None },
        };
        let session = start(&api, caller, permit, made).await.unwrap();
        let seen = session.is_read.subscribe();
        let head = async || {
            let (api, id) = (State(api.clone()), Path(session.id.clone()));
            stream(api, id, shown_by_operator().await, Method::HEAD, HeaderMap::new()).await
        };

        // When its stream is asked for without a body, then the answer has the headers, and nobody has begun to read
        let answer = head().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        drop(answer);
        assert!(!seen.has_changed().unwrap(), "the replay took it for a reader");

        // And while somebody reads, the answer is that of a second reader
        let reader = session.read().unwrap();
        assert!(matches!(head().await, Err(ApiError::IsRead)));
        drop(reader);
        assert!(head().await.is_ok());
    }
}
