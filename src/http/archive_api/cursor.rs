//! Where the next page begins, in a form that only this process can make.
//!
//! Promises: a cursor counts for the question that it was given out for, and for callers with the same right, and for nothing else;
//! whatever else a text is, it is refused before a number of it is believed.
//! Must never: be asked instead of the caller's right, which is checked at each request.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::error::ApiError;

/// Longer texts are not looked at.
const MAX_BYTES: usize = 512;
const PROCESS_BYTES: usize = 8;
const MAC_BYTES: usize = 16;

/// Makes cursors and reads them. The key lives as long as the process.
#[derive(Clone)]
pub(super) struct Cursors {
    key: Hmac<Sha256>,
    /// Tells a cursor of an earlier process from a forged one.
    process: [u8; PROCESS_BYTES],
}

impl Cursors {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let (mut key, mut process) = ([0_u8; 64], [0; PROCESS_BYTES]);
        getrandom::fill(&mut key)?;
        getrandom::fill(&mut process)?;
        Ok(Self { key: Hmac::<Sha256>::new((&key).into()), process })
    }

    /// `question`: who asks by which right, and what, but for the page. `place`: what [`Self::read`] gives back.
    pub(super) fn make(&self, question: &str, place: &str) -> String {
        let mac = self.mac(question, place).finalize().into_bytes();
        let bytes = [&self.process[..], &mac[..MAC_BYTES], place.as_bytes()].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(super) fn read(&self, question: &str, cursor: &str) -> Result<String, ApiError> {
        let forged = || {
            ApiError::Wrong(
                "the cursor is none that an answer to this question gave; ask for the first page, and change nothing but the cursor"
                    .to_owned(),
            )
        };
        if cursor.len() > MAX_BYTES {
            return Err(forged());
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| forged())?;
        let (process, rest) = bytes.split_at_checked(PROCESS_BYTES).ok_or_else(forged)?;
        let (mac, place) = rest.split_at_checked(MAC_BYTES).ok_or_else(forged)?;
        if process != self.process {
            return Err(ApiError::OldCursor);
        }
        let place = str::from_utf8(place).map_err(|_| forged())?;
        self.mac(question, place).verify_truncated_left(mac).map_err(|_| forged())?;
        Ok(place.to_owned())
    }

    /// The length stands first, so that no part of a question can be taken for a part of a place.
    fn mac(&self, question: &str, place: &str) -> Hmac<Sha256> {
        let length = (question.len() as u64).to_be_bytes();
        self.key.clone().chain_update(length).chain_update(question).chain_update(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_counts_for_its_question_and_its_process_only() {
        let cursors = Cursors::new().unwrap();
        let cursor = cursors.make("operator, room 7", "12.3");
        assert_eq!(cursors.read("operator, room 7", &cursor).unwrap(), "12.3");
        for other in ["teacher, room 7", "operator, room 8", "", "operator, room 712", "operator, room "] {
            assert!(matches!(cursors.read(other, &cursor), Err(ApiError::Wrong(_))), "{other}");
        }
        let restarted = Cursors::new().unwrap();
        assert!(matches!(restarted.read("operator, room 7", &cursor), Err(ApiError::OldCursor)));
        let huge = "A".repeat(MAX_BYTES + 1);
        assert!(matches!(cursors.read("q", &huge), Err(ApiError::Wrong(_))));
    }

    proptest! {
        #[test]
        fn a_changed_cursor_is_refused(at in 0_usize..60, bit in 0_u8..8, place in "[0-9.]{1,12}") {
            let cursors = Cursors::new().unwrap();
            let cursor = cursors.make("q", &place);
            let mut bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(cursors.read("q", &URL_SAFE_NO_PAD.encode(&bytes)).is_err());
            prop_assert!(cursors.read("q", &cursor[..at]).is_err());
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            prop_assert!(Cursors::new().unwrap().read("q", &text).is_err());
        }
    }
}
