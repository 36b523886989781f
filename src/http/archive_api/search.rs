//! `GET /api/v1/search`: lines by their words, in one room for its teacher, in all rooms for operators.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Json;
use serde::{Deserialize, Serialize};

use super::asked::{Asked, Times, kind_of, limit_of};
use super::error::ApiError;
use super::rights::{Shown, Shows};
use super::why::{Partial, Why, WhyCode};
use super::{Api, DEADLINE};
use crate::archive::rfc3339;
use crate::index::{Order, Query, RANKED, RowId, Total};
use crate::model::Kind;
use crate::search::{Hit, SearchError, Wanted, search as look_for};

const MAX_HITS: usize = 100;
const DEFAULT_HITS: usize = 20;
/// Then what is found is the answer, and says so.
const TIME: Duration = Duration::from_secs(2);
/// So many characters of a line are shown.
const WIDTH: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchAsked {
    q: String,
    room: Option<String>,
    from: Option<String>,
    to: Option<String>,
    kind: Option<String>,
    from_client: Option<String>,
    #[serde(default)]
    best: bool,
    limit: Option<usize>,
    /// The `before` of an earlier answer.
    before: Option<String>,
}

/// A page of hits.
#[derive(Serialize)]
pub(super) struct Hits {
    hits: Vec<HitAnswer>,
    /// How many lines there are, copies included; null: not known.
    total: Option<TotalAnswer>,
    #[serde(flatten)]
    partial: Partial,
    /// Where the page with older hits begins; null if there is none.
    before: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum TotalAnswer {
    Exactly(u64),
    AtMost(u64),
    Over(u64),
}

#[derive(Serialize)]
struct HitAnswer {
    id: Option<String>,
    at: String,
    room: Option<String>,
    kind: Kind,
    client_id: Option<String>,
    mqtt_topic: String,
    conflict: bool,
    text: String,
    /// Pairs of character positions in `text`.
    marks: Vec<(usize, usize)>,
    cut_before: bool,
    cut_after: bool,
}

impl HitAnswer {
    fn of(hit: Hit) -> Self {
        let text = hit.snippet.text;
        let characters = |bytes: usize| text.get(..bytes).map_or(0, |before| before.chars().count());
        let marks = hit.snippet.marks.iter();
        Self {
            id: hit.id.map(|id| id.to_string()),
            at: rfc3339(hit.row.at_ms),
            room: hit.room.as_deref().map(str::to_owned),
            kind: hit.recorded.kind,
            client_id: hit.recorded.client_id.clone(),
            mqtt_topic: hit.recorded.mqtt_topic.clone(),
            conflict: hit.conflict,
            marks: marks.map(|mark| (characters(mark.start), characters(mark.end))).collect(),
            cut_before: hit.snippet.is_cut_before,
            cut_after: hit.snippet.is_cut_after,
            text,
        }
    }
}

pub(super) async fn search(
    State(api): State<Arc<Api>>,
    shown: Shown,
    Asked(asked): Asked<SearchAsked>,
) -> Result<Json<Hits>, ApiError> {
    let caller = match &asked.room {
        Some(room) => api.reader_of(&shown, room)?,
        None => api.operator(&shown, "a search in all rooms")?,
    };
    let _permit = api.limits.enter(caller.key)?;
    let (wanted, question) = wanted_of(&api, &asked, &api.shows(&caller))?;
    let before = asked.before.as_deref().map(|cursor| api.cursors.read(&question, cursor)).transpose()?;
    // Only we can have written it.
    let before = before.map(|place| place.parse::<RowId>().map_err(|_| ApiError::OldCursor)).transpose()?;
    if caller.is_operator() {
        caller.audit("a search");
    }
    let wanted = Wanted { before, ..wanted };
    let shows = api.shows(&caller);
    let (index, whole) = api.indexed().await?;
    let found = async {
        let why = api.behind(&index, &whole).await;
        Ok::<_, SearchError>((look_for(&index, &whole, &wanted, &api.parts.clock).await?, why))
    };
    let (answer, mut why) = tokio::time::timeout(DEADLINE, found).await.map_err(|_| ApiError::Late)??;
    if answer.is_partial {
        let late = "the time was over before all was looked at; narrow the search";
        why.push(Why::new(WhyCode::Late, late));
    }
    if answer.is_of_newest_only {
        why.push(Why::new(WhyCode::NewestOnly, format!("only the newest {RANKED} hits were compared")));
    }
    if answer.gone > 0 {
        why.push(Why::new(WhyCode::Gone, format!("{} lines are not there any more", answer.gone)));
    }
    let is_shown = |hit: &Hit| shows.hold(hit.recorded.kind, &hit.recorded.mqtt_topic);
    let is_all_shown = answer.hits.iter().all(is_shown);
    let total = match answer.total {
        // It would tell of what is not shown.
        _ if !is_all_shown => None,
        Total::Exact(count) => Some(TotalAnswer::Exactly(count)),
        Total::AtMost(count) => Some(TotalAnswer::AtMost(count)),
        Total::Over(count) => Some(TotalAnswer::Over(count)),
        Total::Unknown => None,
    };
    Ok(Json(Hits {
        hits: answer.hits.into_iter().filter(is_shown).map(HitAnswer::of).collect(),
        total,
        partial: why.into(),
        before: answer.next.map(|next| api.cursors.make(&question, &next.to_string())),
    }))
}

/// What to look for, and the question that a cursor is bound to.
fn wanted_of(api: &Api, asked: &SearchAsked, shows: &Shows) -> Result<(Wanted, String), ApiError> {
    if let Some(room) = &asked.room {
        api.places_of(room)?;
    }
    let times = Times::of(asked.from.as_deref(), asked.to.as_deref())?;
    let kind = asked.kind.as_deref().map(kind_of).transpose()?;
    if asked.best && asked.before.is_some() {
        return Err(ApiError::Wrong("best has one page only; leave before out".to_owned()));
    }
    let question = format!(
        "search {:?} {:?} {:?} {times:?} {kind:?} {:?}",
        shows.private, asked.q, asked.room, asked.from_client
    );
    let wanted = Wanted {
        query: Query::parse(&asked.q).map_err(|error| ApiError::Wrong(error.to_string()))?,
        room: asked.room.clone(),
        client_id: asked.from_client.clone(),
        kind,
        from_ms: times.from_ms,
        to_ms: times.to_ms,
        order: if asked.best { Order::Best } else { Order::Newest },
        limit: limit_of(asked.limit, DEFAULT_HITS, MAX_HITS)?,
        before: None,
        text_fields: api.parts.text_fields.clone(),
        time: TIME,
        width: WIDTH,
    };
    Ok((wanted, question))
}
