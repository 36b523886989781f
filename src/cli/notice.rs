//! `roombridge notice`: gives everybody in a room a notice.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::class_api::ClassArgs;

#[derive(Debug, Args)]
pub(crate) struct NoticeArgs {
    /// The room, as in room/message/ROOM.
    room: String,
    /// The text that everyone in the room reads.
    text: String,
    #[command(flatten)]
    class: ClassArgs,
}

#[derive(Serialize)]
struct Body<'a> {
    text: &'a str,
}

pub(crate) async fn run(arguments: NoticeArgs) -> anyhow::Result<ExitCode> {
    let NoticeArgs { room, text, class } = arguments;
    class.post(&room, "notice", &Body { text: &text }, &format!("told room {room}")).await
}
