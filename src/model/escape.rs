//! Makes text from strangers safe to show on a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text, with escapes for all characters that would move the cursor, colour the screen or reverse the reading direction.
///
/// Class members choose their payloads and ids. Shown raw, these could overwrite the lines of others on the terminal of
/// the reader, or type commands into it.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if is_harmless(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            dangerous if is_dangerous(dangerous) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(dangerous));
            }
            harmless => out.push(harmless),
        }
    }
    Cow::Owned(out)
}

/// The same for a JSON text: dangerous characters can only stand in its strings, where JSON has an escape for them.
pub(crate) fn visible_json(json: String) -> String {
    if is_harmless(&json) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_dangerous(character) {
            // All of them are in the first plane, so four digits are enough. Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// So much of what another program said is shown: a remark can hold a whole stack trace.
const SHOWN_CHARACTERS: usize = 200;

/// What another program said, for people: safe to show, and only its beginning.
pub(crate) fn their_words(text: &str) -> String {
    let (beginning, more) = beginning(text);
    format!("{}{more}", visible(beginning))
}

/// The same in quotes.
pub(crate) fn quoted(text: &str) -> String {
    let (beginning, more) = beginning(text);
    format!("{beginning:?}{more}")
}

/// At most [`SHOWN_CHARACTERS`], and three dots if there are more.
fn beginning(text: &str) -> (&str, &'static str) {
    let end = text.char_indices().nth(SHOWN_CHARACTERS).map(|(end, _)| end);
    end.and_then(|end| text.get(..end)).map_or((text, ""), |beginning| (beginning, "..."))
}

/// Most texts are plain ASCII. The compiler makes one comparison for many bytes of a part, because it is looked through to its end.
fn is_harmless(text: &str) -> bool {
    let is_plain = |part: &[u8]| part.iter().fold(true, |all, byte| all & (b' '..=b'~').contains(byte));
    text.as_bytes().chunks(64).all(is_plain) || !text.chars().any(is_dangerous)
}

fn is_dangerous(character: char) -> bool {
    character.is_control()
        // Direction marks, embeddings and isolates, line and paragraph separator, byte order mark.
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_others_are_cut_and_cannot_control_the_terminal() {
        assert_eq!(their_words("the broker's disk is full"), "the broker's disk is full");
        assert_eq!(their_words("red \u{1b}[31m\nnext"), "red \\u{1b}[31m\\nnext");
        let long = their_words(&"\u{e4}".repeat(1_000));
        assert_eq!(long.chars().count(), 203);
    }

    #[test]
    fn words_are_cut_and_what_is_not_seen_is_made_visible() {
        assert_eq!(quoted("come back later"), "\"come back later\"");
        assert_eq!(quoted("\u{1b}[2Ja\nb\u{202e}c"), "\"\\u{1b}[2Ja\\nb\\u{202e}c\"");
        assert_eq!(quoted(&"课".repeat(200)), format!("\"{}\"", "课".repeat(200)));
        assert_eq!(quoted(&"课".repeat(201)), format!("\"{}\"...", "课".repeat(200)));
    }
}
