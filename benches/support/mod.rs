//! The parts of the benchmark that the tests' harness does not have.

pub mod clocked_broker;
pub mod committed;
pub mod comparison;
pub mod flood;
pub mod marked_part;
pub mod page;
pub mod plain_subscriber;
pub mod process_usage;
pub mod report;
pub mod store_rate;
pub mod stored;
pub mod talk;

use std::io;

/// What went wrong in a child process, or between it and a broker.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The middle one; of an even number the lower of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

pub fn broken(what: impl Into<String>) -> Failure {
    Box::new(io::Error::other(what.into()))
}
