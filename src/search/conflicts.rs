//! Which lines have an id that another line has, too.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::at_places::messages_at;
use super::{SearchError, ask};
use crate::archive::Whole;
use crate::binding::read_back;
use crate::index::{Index, Row, RowId};
use crate::model::MessageId;

/// So many other messages are compared with a line at most.
const OTHERS: usize = 16;
/// So many are read at once.
const AT_ONCE: usize = 256;

/// A line to compare with others.
pub(super) struct Line<'a> {
    pub row: &'a Row,
    /// Where it was said or heard.
    pub room: Option<&'a str>,
    pub id: MessageId,
    pub payload: &'a [u8],
}

/// Those of which another line of their room has the id and another body, whether or not that one was looked for.
pub(super) async fn in_conflict(
    index: &Arc<Index>,
    whole: &Whole,
    lines: &[Line<'_>],
) -> Result<BTreeSet<RowId>, SearchError> {
    let ids: Vec<MessageId> = lines.iter().map(|line| line.id).collect();
    let asked = index.clone();
    let rows = ask(move || asked.copies_of(&ids)).await?;
    let mut others: Vec<(&Line<'_>, &Row)> = Vec::new();
    for (line, rows) in lines.iter().zip(&rows) {
        let beside = rows.iter().filter(|row| row.id != line.row.id && is_line_beside(row, line));
        others.extend(beside.take(OTHERS).map(|row| (line, row)));
    }
    let mut found = BTreeSet::new();
    for others in others.chunks(AT_ONCE) {
        let rows: Vec<&Row> = others.iter().map(|(_, row)| *row).collect();
        let messages = messages_at(whole, &rows).await?;
        for ((line, _), message) in others.iter().zip(messages) {
            let other = message.as_ref().map(read_back);
            if other.is_some_and(|other| other.id == Some(line.id) && other.payload != line.payload) {
                found.insert(line.row.id);
            }
        }
    }
    Ok(found)
}

/// What a search cannot find says nothing here, either: not everybody may see it.
fn is_line_beside(row: &Row, line: &Line<'_>) -> bool {
    row.is_text && line.room.map_or(row.room.is_none(), |room| row.is_in(room))
}
