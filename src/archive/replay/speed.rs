//! How fast to play.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How fast to play.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// 1 is the original pace, 4 is four times as fast.
    Times(f64),
    /// Without any pause.
    Max,
}

/// The text is no speed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no speed: write 1 for the original pace, a factor from 0.01 to 10000 such as 4 or x4, or max"
)]
pub(crate) struct BadSpeed(String);

impl FromStr for Speed {
    type Err = BadSpeed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        let factor = text.strip_prefix(['x', 'X']).unwrap_or(text).parse::<f64>();
        match factor {
            Ok(factor) if is_possible(factor) => Ok(Self::Times(factor)),
            Ok(_) | Err(_) => Err(BadSpeed(text.to_owned())),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(factor) => write!(f, "x{factor}"),
            Self::Max => f.write_str("max"),
        }
    }
}

impl Speed {
    /// So many times as fast, as long as that is a speed; `max` stays.
    pub(crate) fn times(self, more: f64) -> Self {
        match self {
            Self::Times(factor) if is_possible(factor * more) => Self::Times(factor * more),
            other => other,
        }
    }

    /// How long that much of the original takes.
    pub(super) fn scaled(self, original: Duration) -> Duration {
        match self {
            // Exact, so that the original pace never drifts.
            Self::Times(1.0) => original,
            Self::Times(factor) => original.div_f64(factor),
            Self::Max => Duration::ZERO,
        }
    }

    /// How much of the original goes by in that time; nothing is known of it at `max`.
    pub(super) fn gone_by(self, time: Duration) -> Duration {
        match self {
            Self::Times(factor) => time.mul_f64(factor),
            Self::Max => Duration::ZERO,
        }
    }
}

fn is_possible(factor: f64) -> bool {
    (0.01..=10_000.0).contains(&factor)
}
