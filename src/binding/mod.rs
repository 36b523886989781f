//! The binding: which MQTT topic becomes which RocketMQ topic, tag, keys and properties, and the way back.
//!
//! Promises: the first binding whose filter matches decides; everything about an MQTT message that a subscriber can
//! know is written as ApsaraMQ and Apache rocketmq-mqtt name it, and [`read_back`] gives it back byte for byte; what
//! [`RuleSet::bind`] lets through is legal for RocketMQ, so that one message never condemns its batch.
//!
//! Must never: do IO, look at a clock, wait; parse the MQTT topic back from the tag, which is only an index.

mod dead_letter;
mod derive;
mod down;
mod escape;
mod explain;
mod filter;
mod heard;
mod levels;
mod limits;
mod origin;
mod properties;
mod query;
mod read_back;
mod relations;
mod resend;
mod rules;
mod template;

#[cfg(test)]
mod tests;

pub use dead_letter::{as_message, letter_of_envelope, letter_of_message, read_letter, stored_form};
pub use derive::{Derivation, own_record};
pub use down::{DownOutcome, id_of, letter_of_stored};
pub use explain::{ExplainedProperty, Explanation};
pub use filter::{Filter, FilterError};
pub use heard::HeardAs;
pub use levels::slot_of;
pub use limits::{HEADROOM_BYTES, MAX_PROPERTIES_BYTES};
pub use origin::origin_is_genuine;
pub use query::{QueryError, RoomQuery};
pub use read_back::{Recorded, message_expiry_s, read_back};
pub use resend::envelope_of_letter;
pub use rules::{BindingSettings, Bound, NotStored, RuleError, RuleSet};
pub use template::TemplateError;
