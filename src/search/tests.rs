//! Choosing lessons.

use super::*;
use jiff::civil::date;

#[test]
fn a_lesson_is_chosen_by_a_word_a_day_or_a_message() {
    assert_eq!("last".parse(), Ok(Choice::Last));
    assert_eq!("2026-11-20".parse(), Ok(Choice::Day(date(2026, 11, 20))));
    assert!(matches!("00000000000000aa-1".parse(), Ok(Choice::Message(_))));
    for wrong in ["", "first", "2026-13-01", "20.11.2026", "Last"] {
        assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
    }
    for choice in ["last", "2026-11-20", "00000000000000aa-1"] {
        assert_eq!(choice.parse::<Choice>().unwrap().to_string(), choice);
    }
}
