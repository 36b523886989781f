//! Where a follower of a RocketMQ topic begins.

/// Where a follower begins in a topic that it has never followed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With everything that RocketMQ still has.
    Earliest,
    /// With what is stored from now on.
    Latest,
}
