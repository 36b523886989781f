//! The binding: which MQTT topic becomes which RocketMQ topic, tag, keys and properties, and the way back.
//!
//! Promises: the first binding whose filter matches decides; everything that a subscriber can know about an MQTT message is
//! stored under the names of ApsaraMQ and Apache rocketmq-mqtt, and [`read_back`] gives it back byte for byte; a message
//! that [`RuleSet::bind`] gives is legal for RocketMQ, so that it never makes RocketMQ refuse its whole batch.
//!
//! Must never: do IO, look at a clock, wait, or read the MQTT topic from the tag, which is only an index.

mod dead_letter;
mod derive;
mod down;
mod escape;
mod explain;
mod levels;
mod limits;
mod mqtt_destination;
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

pub(crate) use dead_letter::{as_message, letter_of_envelope, letter_of_message};
pub use dead_letter::{read_letter, stored_form};
pub(crate) use derive::{Derivation, own_record};
pub(crate) use down::{DownOutcome, id_of, letter_of_stored};
#[cfg(any(test, feature = "testing"))]
pub use levels::slot_of;
#[cfg(test)]
pub(crate) use limits::{HEADROOM_BYTES, MAX_PROPERTIES_BYTES};
pub(crate) use mqtt_destination::MqttDestination;
#[cfg(test)]
pub(crate) use origin::origin_is_genuine;
#[cfg(test)]
pub(crate) use query::QueryError;
pub(crate) use query::RoomQuery;
pub(crate) use read_back::Recorded;
pub(crate) use read_back::message_expiry_s;
pub use read_back::read_back;
pub(crate) use read_back::{Identity, arrived_ms, identity, the_rest};
pub(crate) use resend::envelope_of_letter;
pub use rules::{BindingSettings, RuleSet};
pub(crate) use rules::{Bound, NotStored, RuleError};
