//! What people and machines can see of a running bridge: logs, metrics, readiness.
//!
//! Promises: one closed list of metrics, each in `docs/METRICS.md`; no room id and no client id in a label; no secret and no
//! payload in a log.
//! Must never: import a room that does work; the rooms report to here.

mod consumer_lag;
mod downlink_metrics;
mod log_writer;
mod logging;
mod metrics;
mod readiness;
mod register;

pub use consumer_lag::ConsumerLag;
pub use downlink_metrics::DownlinkMetrics;
pub use logging::{LoggingError, flush, init, write_beside_the_log};
pub use metrics::{EndCounts, Metrics};
pub use readiness::{
    BrokerLimit, MqttReadiness, Readiness, ReadinessReport, RocketMqReadiness, Severity, SpoolReadiness,
};
