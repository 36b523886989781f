//! What an answer may lack: for programs a code, for people a sentence.
//!
//! Promises: an answer without a reason has everything that is kept; a code stays when its sentence changes.

use serde::Serialize;

use crate::archive::Missing;

/// For programs. docs/API.md says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(strum::VariantArray))]
#[serde(rename_all = "snake_case")]
pub(super) enum WhyCode {
    /// The time was over.
    Late,
    /// A RocketMQ broker is away.
    BrokerAway,
    /// RocketMQ has messages and hands them out to nobody.
    NotHandedOut,
    /// Messages were gone before they were archived.
    Lost,
    /// What is so old is not kept any more.
    NotKept,
    /// The index has not seen everything.
    IndexBehind,
    /// Only the newest hits were compared.
    NewestOnly,
    /// What the index names is not there any more.
    Gone,
}

/// One reason.
#[derive(Debug)]
pub(super) struct Why {
    code: WhyCode,
    sentence: String,
}

impl Why {
    /// `sentence`: for somebody who has no command line.
    pub(super) fn new(code: WhyCode, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }

    /// What is missing in a history.
    pub(super) fn of_missing(missing: &Missing) -> Self {
        let code = match missing {
            Missing::Lost { .. } => WhyCode::Lost,
            Missing::Withheld { .. } => WhyCode::NotHandedOut,
            Missing::Older { .. } => WhyCode::NotKept,
        };
        Self::new(code, missing.to_string())
    }

    /// What a reading could not read. `away`: RocketMQ brokers.
    pub(super) fn of_reading<'a>(away: impl Iterator<Item = &'a str>, missing: &[Missing]) -> Vec<Self> {
        let sentence =
            |broker: &str| format!("RocketMQ broker {broker} is away, and with it a part of the messages");
        let away = away.map(|broker| Self::new(WhyCode::BrokerAway, sentence(broker)));
        away.chain(missing.iter().map(Self::of_missing)).collect()
    }
}

/// The fields of an answer that may lack something.
#[derive(Debug, Serialize)]
pub(super) struct Partial {
    /// Whether something may be missing; `why` says what.
    pub partial: bool,
    /// For people.
    pub why: Vec<String>,
    /// For programs: the code of each, in the same order.
    pub why_codes: Vec<WhyCode>,
}

impl From<Vec<Why>> for Partial {
    fn from(reasons: Vec<Why>) -> Self {
        let why_codes: Vec<_> = reasons.iter().map(|why| why.code).collect();
        let why: Vec<_> = reasons.into_iter().map(|why| why.sentence).collect();
        Self { partial: !why.is_empty(), why, why_codes }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    const API: &str = include_str!("../../../docs/API.md");
    const OPENAPI: &str = include_str!("openapi.json");

    #[test]
    fn each_code_is_documented() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let listed = &document["components"]["schemas"]["WhyCode"]["enum"];
        assert_eq!(listed, &serde_json::to_value(WhyCode::VARIANTS).unwrap());
        for code in WhyCode::VARIANTS {
            let name = serde_json::to_value(code).unwrap();
            let row = format!("| `{}` | ", name.as_str().unwrap());
            let (_, table) = API.split_once("## Answers that are not whole").unwrap();
            let (table, _) = table.split_once("\n## ").unwrap();
            assert!(table.contains(&row), "docs/API.md lacks {row}");
        }
    }
}
