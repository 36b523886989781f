//! Which hits have an id that another line has, too.

use std::sync::Arc;

use super::at_places::messages_at;
use super::hits::Hit;
use super::{SearchError, ask};
use crate::archive::Whole;
use crate::binding::read_back;
use crate::index::{Index, Row};
use crate::model::MessageId;

/// So many other messages are compared with a hit at most.
const OTHERS: usize = 16;
/// So many are read at once.
const AT_ONCE: usize = 256;

/// Marks each hit of which another line of its room has the id and another body, whether or not that one was looked for.
pub(super) async fn mark_conflicts(
    index: &Arc<Index>,
    whole: &Whole,
    hits: &mut [Hit],
) -> Result<(), SearchError> {
    let ids: Vec<MessageId> = hits.iter().filter_map(|hit| hit.id).collect();
    let asked = index.clone();
    let rows = ask(move || asked.copies_of(&ids)).await?;
    let with_id = hits.iter().enumerate().filter(|(_, hit)| hit.id.is_some());
    let mut others: Vec<(usize, &Row)> = Vec::new();
    for ((number, hit), rows) in with_id.zip(&rows) {
        let of_hit = rows.iter().filter(|row| row.id != hit.row.id && is_line_beside(row, hit));
        others.extend(of_hit.take(OTHERS).map(|row| (number, row)));
    }
    for others in others.chunks(AT_ONCE) {
        let rows: Vec<&Row> = others.iter().map(|(_, row)| *row).collect();
        let messages = messages_at(whole, &rows).await?;
        for ((number, _), message) in others.iter().zip(messages) {
            let (Some(hit), Some(message)) = (hits.get_mut(*number), message) else { continue };
            let other = read_back(&message);
            hit.conflict |= other.id == hit.id && other.payload != hit.recorded.payload;
        }
    }
    Ok(())
}

/// What a search cannot find says nothing here, either: not everybody may see it.
fn is_line_beside(row: &Row, hit: &Hit) -> bool {
    row.is_text && hit.room.as_deref().map_or(row.room.is_none(), |room| row.is_in(room))
}
