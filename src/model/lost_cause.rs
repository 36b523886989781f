//! Why a stored message can be read no more before it was archived.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// A label of metrics, and a word of the archive's books.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    VariantArray,
    IntoStaticStr,
    Display,
    EnumString,
    Serialize,
    Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum LostCause {
    /// RocketMQ had deleted it: its retention was over, or its disk was full.
    Deleted,
    /// RocketMQ counts it and does not give it out.
    NotGivenOut,
}

impl LostCause {
    /// Every cause once.
    pub(crate) const ALL: &[Self] = Self::VARIANTS;
}
