//! Telemetry: what people and machines can see of a running bridge, in logs, metrics and readiness.
//!
//! Promises: one closed list of metrics, each in `docs/METRICS.md`; no room id and no client id in a label; no secret and no
//! payload in a log.
//! Must never: import a room that does work; those rooms report to this one.

mod archive_metrics;
mod consumer_lag;
mod downlink_metrics;
mod log_writer;
mod logging;
mod metrics;
mod readiness;
mod register;
mod throttle;

pub(crate) use logging::{flush, init, write_beside_the_log};
pub(crate) use metrics::EndCounts;
pub use metrics::Metrics;
pub use readiness::Readiness;
pub(crate) use readiness::{BrokerLimit, Severity};
pub(crate) use throttle::Throttle;
