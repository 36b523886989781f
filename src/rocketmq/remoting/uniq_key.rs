//! UNIQ_KEY, the id that a RocketMQ client gives to each message. Administrators find a message by it, and read its time from it.
//!
//! 32 hexadecimal digits: IP address 4 bytes, process 2, a number of the client 4, milliseconds since the month began 4, counter 2.
//! Source: `MessageClientIDSetter` of Apache RocketMQ 5.5.0.

use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::{Timestamp, ToSpan, tz::TimeZone};

const HEX: &[u8; 16] = b"0123456789ABCDEF";
const ID_BYTES: usize = 16;

/// Makes keys for one process; no two processes make the same ones, unless a random number of 80 bits comes twice.
pub(crate) struct UniqKeys {
    /// The address is not ours: a random number tells more bridges apart than an address in a container does.
    prefix: [u8; 10],
    counter: AtomicU16,
    /// From its first millisecond to that of the next one; looked up once a month, because zones and calendars take time.
    month: Mutex<Range<i64>>,
}

impl UniqKeys {
    pub(crate) fn new() -> Self {
        let mut prefix = [0; 10];
        fastrand::fill(&mut prefix);
        Self { prefix, counter: AtomicU16::new(fastrand::u16(..)), month: Mutex::new(0..0) }
    }

    /// Milliseconds since the month began; wraps as Apache's does (a month has more than 2^31).
    pub(super) fn month_ms(&self, now_ms: u64) -> u32 {
        let now_ms = i64::try_from(now_ms).unwrap_or_default();
        let mut month = self.month.lock().unwrap_or_else(PoisonError::into_inner);
        if !month.contains(&now_ms) {
            *month = month_of(now_ms).unwrap_or(now_ms..now_ms);
        }
        (now_ms - month.start) as u32
    }

    /// `month_ms`: see [`UniqKeys::month_ms`].
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

/// The month of that time in the zone of this machine.
fn month_of(now_ms: i64) -> Result<Range<i64>, jiff::Error> {
    let now = Timestamp::from_millisecond(now_ms)?.to_zoned(TimeZone::system());
    let first = now.first_of_month()?.start_of_day()?;
    let next = first.checked_add(1.month())?;
    Ok(first.timestamp().as_millisecond()..next.timestamp().as_millisecond())
}
