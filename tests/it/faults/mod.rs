//! The fault suite: what is lost, doubled or disordered when something breaks under load. `make faults` runs all of it
//! and writes the table of docs/faults.md; `make test` runs the short forms.
//!
//! Every scenario is one `Story`: several publishers (QoS 1 and 2) speak in several rooms, something breaks and comes
//! back, and a row of figures is drawn up from witnesses that share no code with the bridge: the publishers' own
//! acknowledgements, the PUBACKs on the wire, and Apache's client. Must never count what the bridge says of itself,
//! except for the books, and must never leave a process behind.
//!
//! The rows of the archive (`archive_*`) compare its history with the PUBACKs on the wire, too.

mod archive_books;
mod archive_dies;
mod archive_disk;
mod archive_others;
mod archive_rocketmq;
mod archive_store;
mod bridge_dies;
mod clock;
mod disk;
mod followed_topic;
mod grows_while_away;
mod hostile;
mod lesson;
mod lies;
mod mqtt_breaks;
mod rocketmq_breaks;
mod row;
mod story;
mod teeth;
mod two_brokers;
mod verdict;
mod watch;
mod zz_table;
