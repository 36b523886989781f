//! UNIQ_KEY, the id that a RocketMQ client gives to each message. Administrators find a message by it, and read its time from it.
//!
//! 32 hexadecimal digits: IP address 4 bytes, process 2, a number of the client 4, milliseconds since the month began 4, counter 2.
//! Source: `MessageClientIDSetter` of Apache RocketMQ 5.5.0.

use std::sync::atomic::{AtomicU16, Ordering};

use jiff::{Timestamp, Unit, Zoned, tz::TimeZone};

const HEX: &[u8; 16] = b"0123456789ABCDEF";
const ID_BYTES: usize = 16;

/// Makes keys for one process; no two processes make the same ones, unless a random number of 64 bits comes twice.
pub(crate) struct UniqKeys {
    /// The address is not ours: a random number tells more bridges apart than an address in a container does.
    prefix: [u8; 10],
    counter: AtomicU16,
}

impl UniqKeys {
    pub(crate) fn new() -> Self {
        let mut prefix = [0; 10];
        fastrand::fill(&mut prefix);
        Self { prefix, counter: AtomicU16::new(fastrand::u16(..)) }
    }

    /// `month_ms`: milliseconds since the month began, see [`month_ms`].
    pub(super) fn next(&self, month_ms: u32) -> [u8; 2 * ID_BYTES] {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; ID_BYTES];
        let parts = self.prefix.into_iter().chain(month_ms.to_be_bytes()).chain(counter.to_be_bytes());
        for (byte, part) in id.iter_mut().zip(parts) {
            *byte = part;
        }
        let mut text = [0; 2 * ID_BYTES];
        for (digits, byte) in text.chunks_exact_mut(2).zip(id) {
            if let [high, low] = digits {
                *high = HEX[usize::from(byte >> 4)];
                *low = HEX[usize::from(byte & 15)];
            }
        }
        text
    }
}

/// Milliseconds since the month began in the zone of this machine; wraps as Apache's does (a month has more than 2^31).
pub(super) fn month_ms(now_ms: u64) -> u32 {
    let now = i64::try_from(now_ms).ok().and_then(|now_ms| Timestamp::from_millisecond(now_ms).ok());
    let now: Zoned = now.unwrap_or_default().to_zoned(TimeZone::system());
    let began = now.first_of_month().and_then(|first| first.start_of_day());
    let since = began.and_then(|began| now.since(&began)).and_then(|span| span.total(Unit::Millisecond));
    since.map_or(0, |ms| ms as u32)
}
