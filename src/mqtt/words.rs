//! Words of the broker, safe and short enough for a log line and for `/readyz`.

/// More is cut off.
const MAX_CHARACTERS: usize = 200;

/// In quotes, cut at 200 characters, with escapes for everything that would not be seen or would move the cursor.
pub(crate) fn quoted(words: &str) -> String {
    match words.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{:?}...", words.get(..end).unwrap_or_default()),
        None => format!("{words:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_and_what_is_not_seen_is_made_visible() {
        assert_eq!(quoted("come back later"), "\"come back later\"");
        assert_eq!(quoted("\u{1b}[2Ja\nb\u{202e}c"), "\"\\u{1b}[2Ja\\nb\\u{202e}c\"");
        assert_eq!(quoted(&"课".repeat(200)), format!("\"{}\"", "课".repeat(200)));
        assert_eq!(quoted(&"课".repeat(201)), format!("\"{}\"...", "课".repeat(200)));
    }
}
