//! What a part of the world can do wrong, so that the tests show that the oracle notices.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// RocketMQ says SEND_OK and stores nothing.
    SinkStoresNothing,
    SinkChangesBytes,
    /// One queue of RocketMQ never answers.
    SinkNeverAnswers,
    /// The spool gives rows back in the wrong order.
    SpoolReorders,
    /// The spool answers before the disk has it.
    SpoolAnswersFirst,
    /// Rows are gone as soon as they were read.
    DrainForgets,
    /// The batch in flight is not written with the rest.
    SpoolDropsLent,
    /// Each process counts its ids from the same beginning.
    IdsBeginAnew,
    /// PUBACK at arrival.
    AcknowledgesEarly,
    /// Deliveries are counted twice.
    CountsTwice,
    /// What ended because another client took the session counts as an end for a PUBACK.
    ForgetsTheTakeover,
}
