//! `roombridge lesson`: marks where a lesson of a room begins and ends.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::class_api::ClassArgs;
use crate::classroom::LessonEdge;

const EXAMPLES: &str = "\
Examples:
  roombridge lesson start 123456 --title 'Fractions, part 2'
  roombridge lesson end 123456

Without a mark, a lesson is what was said in a room without a pause longer than archive.lesson_gap_s. A mark begins or ends
one where it is given. Nobody in the class hears it. A teacher's page, or the application's server, marks by
POST /api/rooms/ROOM/lesson with {\"mark\":\"start\"} or {\"mark\":\"end\"}, and maybe a \"title\".";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LessonArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A lesson begins now, whatever was said before.
    Start(StartArgs),
    /// The lesson ends now.
    End(EndArgs),
}

#[derive(Debug, Args)]
struct StartArgs {
    /// The room, as in room/message/ROOM.
    room: String,
    /// What the lesson is about.
    #[arg(long)]
    title: Option<String>,
    #[command(flatten)]
    class: ClassArgs,
}

#[derive(Debug, Args)]
struct EndArgs {
    /// The room, as in room/message/ROOM.
    room: String,
    #[command(flatten)]
    class: ClassArgs,
}

#[derive(Serialize)]
struct Body {
    mark: LessonEdge,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
}

pub(crate) async fn run(arguments: LessonArgs) -> anyhow::Result<ExitCode> {
    let (room, body, class) = match arguments.command {
        Command::Start(StartArgs { room, title, class }) => {
            (room, Body { mark: LessonEdge::Start, title }, class)
        }
        Command::End(EndArgs { room, class }) => (room, Body { mark: LessonEdge::End, title: None }, class),
    };
    let done = format!("marked the {} of a lesson in room {room}", body.mark);
    class.post(&room, "lesson", &body, &done).await
}
