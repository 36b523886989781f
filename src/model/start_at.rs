//! Where a follower of a RocketMQ topic begins.

/// Where a topic is begun that was never followed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With everything that RocketMQ still has.
    Earliest,
    /// With what is stored from now on.
    Latest,
}
