//! What somebody looks for in texts: says which tokens a hit has, whether a text is one, and where in it.
//!
//! Words apart from each other may stand anywhere in the text. What stands between quotes, or together without a blank or a sign, must
//! stand together in the text. A minus before it leaves texts with it out.

use std::collections::BTreeSet;
use std::ops::Range;

use super::words::{Run, counted, fold, push_folded, runs, searchable, tokens_to_find};

/// A longer question is none that a person asks.
const MAX_CHARACTERS: usize = 1000;
/// So many tokens are looked up; the text itself is compared with all.
const MAX_TOKENS: usize = 64;
const QUOTES: [char; 4] = ['"', '“', '”', '＂'];
const MINUS: [char; 2] = ['-', '－'];

/// Why there is nothing to look for.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("{0:?} has no letter and no digit to look for; write a word, or one character")]
    Empty(String),
    #[error("{0:?} only says what to leave out; write a word to look for before it")]
    OnlyExcluded(String),
    #[error("the words to look for are longer than {MAX_CHARACTERS} characters; write fewer")]
    TooLong,
}

/// See the head of this file. Has at least one word to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    wanted: Vec<Phrase>,
    excluded: Vec<Phrase>,
}

/// Words that stand one after the other; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase(Vec<Word>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    /// Folded.
    text: String,
    is_spaceless: bool,
}

/// What of it the index looks up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Each hit has all of them.
    pub wanted: BTreeSet<String>,
    /// No hit has one of them.
    pub excluded: BTreeSet<String>,
}

/// A part of a text to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snippet {
    /// As it stands in the text.
    pub text: String,
    /// Bytes of `text` that were looked for, one after the other; empty if they stand where nothing can be marked.
    pub marks: Vec<Range<usize>>,
    /// Whether the text begins before.
    pub is_cut_before: bool,
    /// Whether the text goes on behind.
    pub is_cut_after: bool,
}

impl Query {
    /// Reads what a user wrote.
    pub(crate) fn parse(text: &str) -> Result<Self, QueryError> {
        if text.chars().nth(MAX_CHARACTERS).is_some() {
            return Err(QueryError::TooLong);
        }
        let mut query = Self { wanted: Vec::new(), excluded: Vec::new() };
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (is_excluded, is_quoted, term, after) = next_term(rest);
            let phrases = if is_excluded { &mut query.excluded } else { &mut query.wanted };
            phrases.extend(phrases_of(term, is_quoted));
            rest = after.trim_start();
        }
        match (query.wanted.is_empty(), query.excluded.is_empty()) {
            (false, _) => Ok(query),
            (true, false) => Err(QueryError::OnlyExcluded(text.to_owned())),
            (true, true) => Err(QueryError::Empty(text.to_owned())),
        }
    }

    /// Whether the text is a hit. The index may give out others, see [`Self::is_exact`].
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut folded = String::new();
        fold(text, &mut folded);
        let runs: Vec<_> = runs(&folded).collect();
        let has = |phrase: &Phrase| !phrase.places(&folded, &runs).is_empty();
        self.wanted.iter().all(has) && !self.excluded.iter().any(has)
    }

    /// Whether the tokens alone say what a hit is, so that the index counts hits exactly.
    pub(crate) fn is_exact(&self) -> bool {
        let count: usize = self.wanted.iter().chain(&self.excluded).map(|phrase| phrase.0.len()).sum();
        count <= MAX_TOKENS && self.wanted.iter().chain(&self.excluded).all(|phrase| phrase.token().is_some())
    }

    pub(super) fn tokens(&self) -> Tokens {
        let words = self.wanted.iter().flat_map(|phrase| &phrase.0);
        let wanted = words.flat_map(|word| tokens_to_find(&word.text, word.is_spaceless));
        // The tokens of a longer phrase can also stand apart, in a text that is a hit.
        let excluded = self.excluded.iter().filter_map(Phrase::token);
        Tokens { wanted: wanted.take(MAX_TOKENS).collect(), excluded: excluded.take(MAX_TOKENS).collect() }
    }

    /// The part of the text, of so many characters, in which the first mark stands; the beginning, if there is none.
    pub(crate) fn snippet(&self, text: &str, width: usize) -> Snippet {
        let text = searchable(text);
        let marks = self.marks(text);
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let characters = starts.len() - 1;
        let first = marks.first().map_or(0, |mark| starts.partition_point(|at| *at < mark.start));
        let from = first.saturating_sub(width / 3).min(characters.saturating_sub(width));
        let to = from.saturating_add(width).min(characters);
        let byte = |character: usize| starts.get(character).copied().unwrap_or(text.len());
        let (begin, end) = (byte(from), byte(to));
        let shown = marks.iter().map(|mark| mark.start.max(begin)..mark.end.min(end));
        let marks =
            shown.filter(|mark| mark.start < mark.end).map(|mark| mark.start - begin..mark.end - begin);
        Snippet {
            text: text.get(begin..end).unwrap_or_default().to_owned(),
            marks: marks.collect(),
            is_cut_before: begin > 0,
            is_cut_after: end < text.len(),
        }
    }

    /// Bytes of the text that were looked for, in order, none twice.
    fn marks(&self, text: &str) -> Vec<Range<usize>> {
        let (folded, parts) = fold_by_parts(text);
        let runs: Vec<_> = runs(&folded).collect();
        let mut found: Vec<_> = self.wanted.iter().flat_map(|phrase| phrase.places(&folded, &runs)).collect();
        found.sort_by_key(|place| (place.start, place.end));
        let mut marks: Vec<Range<usize>> = Vec::new();
        for place in found {
            let first = parts.partition_point(|part| part.folded.end <= place.start);
            let behind = parts.partition_point(|part| part.folded.start < place.end);
            let Some(of_text) = parts.get(first..behind) else { continue };
            let (Some(first), Some(last)) = (of_text.first(), of_text.last()) else { continue };
            let (start, end) = (first.text.start, last.text.end);
            match marks.last_mut() {
                Some(before) if start <= before.end => before.end = before.end.max(end),
                Some(_) | None => marks.push(start..end),
            }
        }
        marks
    }
}

/// The next word or quoted words, and what stands behind: is it to be left out, is it quoted, the text, the rest.
fn next_term(rest: &str) -> (bool, bool, &str, &str) {
    let begins_a_term = |rest: &&str| rest.chars().next().is_some_and(|first| !first.is_whitespace());
    let (is_excluded, term) = match rest.strip_prefix(MINUS).filter(begins_a_term) {
        Some(term) => (true, term),
        None => (false, rest),
    };
    if let Some(quoted) = term.strip_prefix(QUOTES) {
        let (quoted, after) = quoted.split_once(QUOTES).unwrap_or((quoted, ""));
        return (is_excluded, true, quoted, after);
    }
    let ends = |character: char| character.is_whitespace() || QUOTES.contains(&character);
    let (word, after) = term.split_at(term.find(ends).unwrap_or(term.len()));
    (is_excluded, false, word, after)
}

/// Quoted words are one phrase; of others, what touches.
fn phrases_of(term: &str, is_quoted: bool) -> Vec<Phrase> {
    let mut folded = String::new();
    fold(term, &mut folded);
    let mut phrases: Vec<Phrase> = Vec::new();
    let mut end = None;
    for Run { range, is_spaceless } in runs(&folded) {
        let text = folded.get(range.clone()).unwrap_or_default();
        let text = if is_spaceless { text } else { counted(text) };
        let word = Word { text: text.to_owned(), is_spaceless };
        let touches = end == Some(range.start);
        end = Some(range.end);
        match phrases.last_mut().filter(|_| is_quoted || touches) {
            Some(phrase) => phrase.0.push(word),
            None => phrases.push(Phrase(vec![word])),
        }
    }
    phrases
}

impl Phrase {
    /// The token that says all of it, if there is one.
    fn token(&self) -> Option<String> {
        let [word] = self.0.as_slice() else { return None };
        let tokens = tokens_to_find(&word.text, word.is_spaceless);
        <[String; 1]>::try_from(tokens).ok().map(|[token]| token)
    }

    /// Where it stands in a folded text.
    fn places(&self, folded: &str, runs: &[Run]) -> Vec<Range<usize>> {
        if let [word] = self.0.as_slice() {
            return runs.iter().flat_map(|run| word.places(folded, run)).collect();
        }
        runs.windows(self.0.len()).filter_map(|runs| self.stands(folded, runs)).collect()
    }

    /// Whether its words are these runs, of which the first may begin and the last may go on with more of a script without blanks.
    fn stands(&self, folded: &str, runs: &[Run]) -> Option<Range<usize>> {
        let last = self.0.len() - 1;
        let (mut start, mut end) = (0, 0);
        for (number, (word, run)) in self.0.iter().zip(runs).enumerate() {
            let text = folded.get(run.range.clone())?;
            let fits = match word.is_spaceless {
                _ if word.is_spaceless != run.is_spaceless => false,
                true if number == 0 => text.ends_with(&word.text),
                true if number == last => text.starts_with(&word.text),
                true => text == word.text,
                false => counted(text) == word.text,
            };
            if !fits {
                return None;
            }
            if number == 0 {
                start = if word.is_spaceless { run.range.end - word.text.len() } else { run.range.start };
            }
            end = if word.is_spaceless && number == last {
                run.range.start + word.text.len()
            } else {
                run.range.end
            };
        }
        Some(start..end)
    }
}

impl Word {
    fn places(&self, folded: &str, run: &Run) -> Vec<Range<usize>> {
        let text = folded.get(run.range.clone()).unwrap_or_default();
        match (self.is_spaceless, run.is_spaceless) {
            (true, true) => {
                let begin = run.range.start;
                let found = text.match_indices(&self.text);
                found.map(|(at, found)| begin + at..begin + at + found.len()).collect()
            }
            (false, false) if counted(text) == self.text => vec![run.range.clone()],
            (false, false) | (true, false) | (false, true) => Vec::new(),
        }
    }
}

/// A part of a text and what folding makes of it.
struct Part {
    text: Range<usize>,
    folded: Range<usize>,
}

/// As [`fold`], character by character, each with the marks behind it. The two differ in rare sequences only, which are then not marked.
fn fold_by_parts(text: &str) -> (String, Vec<Part>) {
    let (mut folded, mut parts) = (String::new(), Vec::new());
    let mut characters = text.char_indices().peekable();
    while let Some((start, _)) = characters.next() {
        while characters.next_if(|(_, character)| is_attached(*character)).is_some() {}
        let end = characters.peek().map_or(text.len(), |(at, _)| *at);
        let before = folded.len();
        push_folded(text.get(start..end).unwrap_or_default(), &mut folded);
        if folded.len() > before {
            parts.push(Part { text: start..end, folded: before..folded.len() });
        }
    }
    (folded, parts)
}

/// What becomes one character with the one before: accents, the marks of Japanese, the later letters of a Korean syllable.
fn is_attached(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{1160}'..='\u{11ff}' | '\u{3099}' | '\u{309a}' | '\u{ff9e}' | '\u{ff9f}'
        | '\u{fe00}'..='\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn words_stand_anywhere_and_quoted_words_together() {
        let text = "Hello world, this is 勾股定理 and 第3课.";
        for (asked, is_hit) in [
            ("hello", true),
            ("HELLO ｗｏｒｌｄ", true),
            ("world hello", true),
            ("\"hello world\"", true),
            ("“Hello World”", true),
            ("\"world hello\"", false),
            ("\"hello this\"", false),
            ("hell", false),
            ("勾股", true),
            ("勾股定理", true),
            ("股", true),
            ("勾定", false),
            ("定理勾股", false),
            ("定理 勾股", true),
            ("第3课", true),
            ("3第课", false),
            ("\"is 勾股定理 and\"", true),
            ("\"is 勾股\"", true),
            ("\"股定理 and\"", true),
            ("\"股定 and\"", false),
            ("hello -nobody", true),
            ("hello -world", false),
            ("hello -\"this is\"", false),
            ("hello -\"is this\"", true),
            ("hello -勾理", true),
            ("hello -股定理", false),
            ("hello - world", true),
            ("hello -", true),
            ("\"hello", true),
        ] {
            assert_eq!(query(asked).matches(text), is_hit, "{asked}");
        }
    }

    #[test]
    fn a_question_without_a_word_is_refused() {
        assert!(matches!(Query::parse(" ?! "), Err(QueryError::Empty(_))));
        assert!(matches!(Query::parse(""), Err(QueryError::Empty(_))));
        assert!(matches!(Query::parse("-hello"), Err(QueryError::OnlyExcluded(_))));
        assert_eq!(Query::parse(&"学".repeat(1001)), Err(QueryError::TooLong));
        assert!(Query::parse(&"学".repeat(1000)).is_ok());
    }

    #[test]
    fn only_what_one_token_says_is_counted_exactly() {
        for (asked, is_exact) in [
            ("hello world", true),
            ("勾股", true),
            ("股", true),
            ("勾股定", false),
            ("\"a b\"", false),
            ("a -b", true),
            ("第3", false),
        ] {
            assert_eq!(query(asked).is_exact(), is_exact, "{asked}");
        }
    }

    #[test]
    fn a_snippet_shows_the_first_place_and_marks_all() {
        let text = format!("{}今天讲勾股定理，ｶﾞ{}", "前".repeat(100), "后".repeat(100));
        let found = query("勾股定理 ガ").snippet(&text, 12);
        assert_eq!(found.text, "前今天讲勾股定理，ｶﾞ后");
        let marked: Vec<_> = found.marks.iter().map(|mark| &found.text[mark.clone()]).collect();
        assert_eq!(marked, ["勾股定理", "ｶﾞ"]);
        assert!(found.is_cut_before && found.is_cut_after);
        let whole = query("e\u{301}te\u{301} ÉTÉ").snippet("l'e\u{301}te\u{301}", 100);
        assert_eq!(whole.text, "l'e\u{301}te\u{301}");
        assert_eq!(whole.marks.first(), Some(&(2..9)));
        assert!(!whole.is_cut_before && !whole.is_cut_after);
        let none = query("x").snippet("abc", 2);
        assert_eq!((none.text.as_str(), none.marks.len()), ("ab", 0));
    }

    const ANY: &str = "[a-c学习课ﾊﾟ É3\"“”.，-]{0,12}";

    proptest! {
        #[test]
        fn a_hit_has_all_tokens_and_a_mark(asked in ANY, text in ANY) {
            let Ok(query) = Query::parse(&asked) else { return Ok(()) };
            let (mut folded, mut tokens) = (String::new(), String::new());
            fold(&text, &mut folded);
            crate::index::words::push_tokens(&folded, &mut tokens);
            let has: BTreeSet<_> = tokens.split_whitespace().map(str::to_owned).collect();
            let Tokens { wanted, excluded } = query.tokens();
            let found = wanted.is_subset(&has) && excluded.is_disjoint(&has);
            if query.is_exact() {
                prop_assert_eq!(query.matches(&text), found);
            }
            let snippet = query.snippet(&text, 5);
            if query.matches(&text) {
                prop_assert!(found);
                prop_assert!(!snippet.marks.is_empty(), "{:?}", snippet);
            }
            let mut end = 0;
            for mark in &snippet.marks {
                prop_assert!(mark.start >= end && snippet.text.get(mark.clone()).is_some(), "{:?}", snippet);
                end = mark.end;
            }
            prop_assert!(snippet.text.chars().count() <= 5);
        }

        #[test]
        fn whatever_is_asked_ends(asked in "\\PC{0,40}", text in "\\PC{0,40}", width in 0_usize..50) {
            if let Ok(query) = Query::parse(&asked) {
                query.matches(&text);
                query.snippet(&text, width);
            }
        }
    }
}
