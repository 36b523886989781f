//! Questions to the running classroom: who is present, who is muted, and the request to give a notice.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::LiveClass;
use crate::classroom::{
    Audit, AuditAction, LessonEdge, LessonMarkError, NoticeError, SenderRole, derived_id, lesson_mark, notice,
};
use crate::model::{ClientId, MessageId, RoomId};

/// One question, and the channel for its answer.
#[derive(Debug)]
pub(crate) enum ClassQuestion {
    /// The members of a room.
    Members(RoomId, oneshot::Sender<Vec<PresentMember>>),
    /// The mutes in force in a room, those for all rooms included.
    Mutes(RoomId, oneshot::Sender<Vec<MutedClient>>),
    /// Give a room a notice; the answer is its id.
    Notice {
        /// Which room hears it.
        room: RoomId,
        /// What it says.
        text: String,
        /// The teacher who gives it; `None` = the application's server, or a token without a client.
        by: Option<ClientId>,
        /// Where the id goes once the notice is on its way.
        answer: oneshot::Sender<Result<MessageId, NoticeError>>,
    },
    /// Mark where a lesson of a room begins or ends; the answer is the mark's id.
    Lesson {
        /// Of which room.
        room: RoomId,
        /// Which end.
        edge: LessonEdge,
        /// What it is about.
        title: Option<String>,
        /// The teacher who marks it; `None` = the application's server, or a token without a client.
        by: Option<ClientId>,
        /// Where the id goes once the mark is on its way.
        answer: oneshot::Sender<Result<MessageId, LessonMarkError>>,
    },
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PresentMember {
    /// Who it is.
    pub client_id: String,
    /// A stranger's text, to be escaped where it is shown.
    pub name: Option<String>,
    /// `teacher` or `student`, by the group of the client id.
    pub role: &'static str,
    /// Whether it has a connection.
    pub online: bool,
    /// Since when it is a member of the room, milliseconds since 1970-01-01 UTC.
    pub since_ms: u64,
    /// Whether it is muted in this room now.
    pub muted: bool,
    /// When its mute ends, milliseconds since 1970-01-01 UTC; `None` = not muted, or muted until a teacher lifts it.
    pub muted_until_ms: Option<u64>,
}

/// A mute in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MutedClient {
    /// Who is muted.
    pub client_id: String,
    /// `None`: in all rooms.
    pub room_id: Option<String>,
    /// When it ends, milliseconds since 1970-01-01 UTC; `None` = when a teacher lifts it.
    pub until_ms: Option<u64>,
    /// The teacher who muted it.
    pub by: String,
    /// When the command arrived, milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
}

/// The classroom is not running, or about to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the classroom is not running; set [classroom] and start again, or try again if it is just starting")]
pub(crate) struct ClassNotRunning;

/// Asks the running classroom; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LiveClassHandle {
    questions: mpsc::Sender<ClassQuestion>,
}

impl LiveClassHandle {
    pub(super) fn new(questions: mpsc::Sender<ClassQuestion>) -> Self {
        Self { questions }
    }

    /// The members of a room, sorted by client id.
    pub(crate) async fn members(&self, room: RoomId) -> Result<Vec<PresentMember>, ClassNotRunning> {
        self.ask(|answer| ClassQuestion::Members(room, answer)).await
    }

    /// The mutes in force in a room, those for all rooms included.
    pub(crate) async fn mutes(&self, room: RoomId) -> Result<Vec<MutedClient>, ClassNotRunning> {
        self.ask(|answer| ClassQuestion::Mutes(room, answer)).await
    }

    /// Gives a notice to a room, and returns its id. `by`: the teacher who gives it, if it is a client.
    pub(crate) async fn notice(
        &self,
        room: RoomId,
        text: String,
        by: Option<ClientId>,
    ) -> Result<Result<MessageId, NoticeError>, ClassNotRunning> {
        self.ask(|answer| ClassQuestion::Notice { room, text, by, answer }).await
    }

    /// Marks where a lesson begins or ends, and returns the mark's id. `by`: the teacher who does it, if it is a client.
    pub(crate) async fn lesson(
        &self,
        room: RoomId,
        edge: LessonEdge,
        title: Option<String>,
        by: Option<ClientId>,
    ) -> Result<Result<MessageId, LessonMarkError>, ClassNotRunning> {
        self.ask(|answer| ClassQuestion::Lesson { room, edge, title, by, answer }).await
    }

    /// Waits until the classroom has handled what came before, so the caller sets a deadline.
    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> ClassQuestion,
    ) -> Result<T, ClassNotRunning> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(question(answer)).await.map_err(|_| ClassNotRunning)?;
        answered.await.map_err(|_| ClassNotRunning)
    }
}

impl LiveClass {
    pub(super) async fn answer(&mut self, question: ClassQuestion) {
        // The asker may have given up meanwhile, so a failed send is no error.
        match question {
            ClassQuestion::Members(room, answer) => _ = answer.send(self.members(&room)),
            ClassQuestion::Mutes(room, answer) => _ = answer.send(self.mutes(&room)),
            ClassQuestion::Notice { room, text, by, answer } => {
                _ = answer.send(self.give_notice(&room, &text, by.as_ref()).await)
            }
            ClassQuestion::Lesson { room, edge, title, by, answer } => {
                _ = answer.send(self.mark_lesson(&room, edge, title.as_deref(), by.as_ref()).await)
            }
        }
    }

    fn members(&self, room: &RoomId) -> Vec<PresentMember> {
        let now_ms = self.parts.clock.wall_ms();
        let members = self.presence.members(room).into_iter();
        members
            .map(|member| {
                let mute = self.classroom.mutes().in_force(&member.client, room, now_ms);
                PresentMember {
                    role: match self.role_of(Some(member.client.as_str()), None) {
                        SenderRole::Teacher => "teacher",
                        SenderRole::Student => "student",
                    },
                    online: self.presence.is_online(&member.client),
                    name: member.name,
                    since_ms: member.since_ms,
                    muted: mute.is_some(),
                    muted_until_ms: mute.and_then(|mute| mute.until_ms()),
                    client_id: member.client.as_str().to_owned(),
                }
            })
            .collect()
    }

    fn mutes(&self, room: &RoomId) -> Vec<MutedClient> {
        let now_ms = self.parts.clock.wall_ms();
        let mutes = self.classroom.mutes().list(room, now_ms).into_iter();
        mutes
            .map(|mute| MutedClient {
                client_id: mute.client.as_str().to_owned(),
                room_id: mute.room.as_ref().map(|room| room.as_str().to_owned()),
                until_ms: mute.until_ms(),
                by: mute.by.as_str().to_owned(),
                at_ms: mute.at_ms,
            })
            .collect()
    }

    async fn give_notice(
        &mut self,
        room: &RoomId,
        text: &str,
        by: Option<&ClientId>,
    ) -> Result<MessageId, NoticeError> {
        let now_ms = self.parts.clock.wall_ms();
        let delivery = notice(room, text, now_ms)?;
        let id = self.parts.ids.next_id();
        let source = id.to_string();
        let audit = Audit::of_own(AuditAction::Noticed, room, text, by, &source, now_ms);
        let delivered = self.delivery((&source, now_ms), None, &delivery);
        let messages = delivered.into_iter().chain(self.audit(&audit)).collect();
        self.send(None, messages).await;
        Ok(derived_id(&source, delivery.ordinal))
    }

    async fn mark_lesson(
        &mut self,
        room: &RoomId,
        edge: LessonEdge,
        title: Option<&str>,
        by: Option<&ClientId>,
    ) -> Result<MessageId, LessonMarkError> {
        let now_ms = self.parts.clock.wall_ms();
        let delivery = lesson_mark(room, edge, title, now_ms)?;
        let source = self.parts.ids.next_id().to_string();
        let what = match edge {
            LessonEdge::Start => AuditAction::LessonStarted,
            LessonEdge::End => AuditAction::LessonEnded,
        };
        let audit = Audit::of_own(what, room, title.unwrap_or_default(), by, &source, now_ms);
        let mark = self.delivery((&source, now_ms), None, &delivery).ok_or(LessonMarkError::NotBound)?;
        let messages = std::iter::once(mark).chain(self.audit(&audit)).collect();
        self.send(None, messages).await;
        Ok(derived_id(&source, delivery.ordinal))
    }
}
