//! Reads the arguments of a request. What is not understood is refused, and never passed over: a caller who mistypes `from` must not
//! get an answer about all of time.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::ApiError;
use crate::model::Kind;

/// The query of a request.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let read = Query::<T>::try_from_uri(&parts.uri);
        read.map(|Query(asked)| Self(asked)).map_err(|error| ApiError::Wrong(error.body_text()))
    }
}

/// The JSON body of a request.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge,
            _ => ApiError::Wrong(error.body_text()),
        })?;
        // Without a body all is as it is by default.
        let json: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(json).map(Self).map_err(|error: serde_json::Error| {
            let sentence = format!("the body is not what this path takes: {error}");
            // As the routes of the class: JSON that says something else is not the same as no JSON.
            match error.classify() {
                Category::Data => ApiError::BadBody(sentence),
                Category::Syntax | Category::Eof | Category::Io => ApiError::Wrong(sentence),
            }
        })
    }
}

/// Milliseconds since 1970-01-01 UTC of an argument: such a number, or RFC 3339.
pub(super) fn time_ms(name: &str, text: &str) -> Result<u64, ApiError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let read = match is_number {
        true => text.parse().ok(),
        // The library passes over the name of a zone, also one that contradicts the offset.
        false if text.contains('[') => None,
        false => text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok()),
    };
    read.ok_or_else(|| {
        let example = "write it as 2026-11-20T10:00:00Z, or as milliseconds since 1970-01-01 UTC";
        ApiError::Wrong(format!("{name}={text:?} is no time; {example}"))
    })
}

/// How many are asked for.
pub(super) fn limit_of(asked: Option<usize>, default: usize, most: usize) -> Result<usize, ApiError> {
    let limit = asked.unwrap_or(default);
    match (1..=most).contains(&limit) {
        true => Ok(limit),
        false => Err(ApiError::Wrong(format!("limit={limit} is out of range; write 1 to {most}"))),
    }
}

/// A kind of messages.
pub(super) fn kind_of(name: &str) -> Result<Kind, ApiError> {
    name.parse().map_err(|_| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        ApiError::Wrong(format!("kind={name:?} is no kind; write one of {}", known.join(", ")))
    })
}

/// A range of times; the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Times {
    pub from_ms: Option<u64>,
    pub to_ms: Option<u64>,
}

impl Times {
    pub(super) fn of(from: Option<&str>, to: Option<&str>) -> Result<Self, ApiError> {
        let from_ms = from.map(|text| time_ms("from", text)).transpose()?;
        let to_ms = to.map(|text| time_ms("to", text)).transpose()?;
        match (from_ms, to_ms) {
            (Some(from), Some(to)) if from >= to => {
                Err(ApiError::Wrong("to must be later than from; exchange the two".to_owned()))
            }
            _ => Ok(Self { from_ms, to_ms }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_read_in_both_forms_and_nothing_else_is_one() {
        for text in ["2026-11-20T10:00:00Z", "2026-11-20T11:00:00+01:00", "1795168800000"] {
            assert_eq!(time_ms("from", text).unwrap(), 1_795_168_800_000, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "-5",
            "2026-11-20",
            "99999999999999999999999",
            "1969-12-31T23:59:59Z",
            "2026-11-20T10:00:00Z[Asia/Tokyo]",
        ] {
            let refused = time_ms("from", text).unwrap_err().to_string();
            assert!(refused.contains("from=") && refused.contains("write it as"), "{refused}");
        }
    }

    #[test]
    fn a_range_that_holds_nothing_is_refused() {
        assert!(Times::of(Some("5"), Some("5")).is_err() && Times::of(Some("6"), Some("5")).is_err());
        assert_eq!(Times::of(Some("5"), None).unwrap(), Times { from_ms: Some(5), to_ms: None });
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = time_ms("to", &text);
        }
    }
}
