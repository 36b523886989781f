//! Makes words of a text: the same ones of a line that is indexed and of what somebody looks for.
//!
//! A text is folded (NFKC, lower case) and cut into runs. A run of letters and digits is one word. Chinese, Japanese and other scripts
//! are written without blanks, so such a run is indexed by each of its characters and each pair of neighbours.

use std::ops::Range;

use icu_normalizer::ComposingNormalizerBorrowed;

/// Of a longer text only the beginning is indexed, and looked at by a search.
const TEXT_BYTES: usize = 64 << 10;
/// Of a longer word only the beginning counts.
const WORD_CHARACTERS: usize = 64;

/// A part of a folded text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Its bytes in the folded text.
    pub range: Range<usize>,
    /// Of a script that is written without blanks.
    pub is_spaceless: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Word,
    Spaceless,
    Gap,
}

/// The beginning of a text that a search can find.
pub(super) fn searchable(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or(text)
}

/// Puts the folded text in the place of `folded`.
pub(super) fn fold(text: &str, folded: &mut String) {
    folded.clear();
    let text = searchable(text);
    if text.is_ascii() {
        folded.push_str(text);
        folded.make_ascii_lowercase();
        return;
    }
    push_folded(text, folded);
}

/// Appends the folded text.
pub(super) fn push_folded(text: &str, folded: &mut String) {
    for character in ComposingNormalizerBorrowed::new_nfkc().normalize(text).chars() {
        match character {
            // The form at a word's end is the same letter.
            'ς' => folded.push('σ'),
            _ if class(character) == Class::Spaceless => folded.push(character),
            // Lower case can bring such a mark: the one of the Turkish İ.
            _ => folded.extend(character.to_lowercase().filter(|character| !is_ignored(*character))),
        }
    }
}

/// What is part of a word and stands for nothing: accents that have no letter of their own, joiners, a hyphen that is not shown.
fn is_ignored(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
}

/// The runs of a folded text, in order.
pub(super) fn runs(folded: &str) -> impl Iterator<Item = Run> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = folded.get(at..)?;
        let start = at + rest.find(|character| class(character) != Class::Gap)?;
        let rest = folded.get(start..)?;
        let first = class(rest.chars().next()?);
        at = start + rest.find(|character| class(character) != first).unwrap_or(rest.len());
        Some(Run { range: start..at, is_spaceless: first == Class::Spaceless })
    })
}

fn class(character: char) -> Class {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' => Class::Word,
        '\0'..='\x7f' => Class::Gap,
        _ if is_spaceless(character) => Class::Spaceless,
        _ if character.is_alphanumeric() => Class::Word,
        _ => Class::Gap,
    }
}

fn is_spaceless(character: char) -> bool {
    matches!(character,
        // Thai, Lao, Tibetan, Myanmar, Khmer.
        '\u{e01}'..='\u{e3a}' | '\u{e40}'..='\u{e4e}' | '\u{e81}'..='\u{ece}' | '\u{f40}'..='\u{f7e}'
        | '\u{1000}'..='\u{1049}' | '\u{1780}'..='\u{17d3}'
        // Korean, Japanese, Bopomofo, Chinese.
        | '\u{1100}'..='\u{11ff}' | '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{3096}' | '\u{309d}'..='\u{309f}'
        | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{3105}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}'
        | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{a960}'..='\u{a97c}'
        | '\u{ac00}'..='\u{d7fb}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// The part of a word that counts.
pub(super) fn counted(word: &str) -> &str {
    if word.len() <= WORD_CHARACTERS {
        return word;
    }
    let end = word.char_indices().nth(WORD_CHARACTERS).map(|(at, _)| at);
    end.and_then(|end| word.get(..end)).unwrap_or(word)
}

/// Appends the tokens under which a folded text is found, a blank before each. Returns how many words it has; a character of a script
/// without blanks counts as one.
pub(super) fn push_tokens(folded: &str, tokens: &mut String) -> u64 {
    let mut words = 0;
    for Run { range, is_spaceless } in runs(folded) {
        let run = folded.get(range).unwrap_or_default();
        if !is_spaceless {
            tokens.push(' ');
            tokens.push_str(counted(run));
            words += 1;
            continue;
        }
        let mut before = None;
        for character in run.chars() {
            tokens.extend([' ', character]);
            if let Some(before) = before {
                tokens.extend([' ', before, character]);
            }
            before = Some(character);
            words += 1;
        }
    }
    words
}

/// The tokens that every text with this run has; more than one only for more than two characters of a script without blanks.
pub(super) fn tokens_to_find(run: &str, is_spaceless: bool) -> Vec<String> {
    if !is_spaceless {
        return vec![counted(run).to_owned()];
    }
    let pairs = run.chars().zip(run.chars().skip(1));
    let pairs: Vec<_> = pairs.map(|(first, second)| String::from_iter([first, second])).collect();
    if pairs.is_empty() { vec![run.to_owned()] } else { pairs }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    fn tokens(text: &str) -> BTreeSet<String> {
        let (mut folded, mut tokens) = (String::new(), String::new());
        fold(text, &mut folded);
        push_tokens(&folded, &mut tokens);
        tokens.split_whitespace().map(str::to_owned).collect()
    }

    fn are(text: &str, expected: &[&str]) {
        assert_eq!(tokens(text), expected.iter().map(|token| (*token).to_owned()).collect(), "{text}");
    }

    #[test]
    fn words_are_folded_and_scripts_without_blanks_are_cut_into_pairs() {
        are("Hello, WORLD-7!", &["hello", "world", "7"]);
        are("勾股定理", &["勾", "股", "定", "理", "勾股", "股定", "定理"]);
        are("第3课", &["第", "3", "课"]);
        are("Ｈｅｌｌｏ　ｶﾞ", &["hello", "ガ"]);
        are("Ａbｃ\u{301}", &["abć"]);
        are("İstanbul ΟΔΟΣ οδος", &["istanbul", "οδοσ"]);
        are("cafe\u{301} café CAFÉ", &["café"]);
        are("co\u{ad}operate", &["cooperate"]);
        are("", &[]);
        are("?! 。，", &[]);
    }

    /// Rule 25: the first 64 KiB count, and a NUL separates words and hides nothing.
    #[test]
    fn a_long_text_counts_by_its_beginning_and_a_nul_hides_nothing() {
        are("before\0behind", &["before", "behind"]);
        let long = format!("{} far", "学 ".repeat(TEXT_BYTES));
        are(&long, &["学"]);
        // The boundary is inside of a character.
        let cut = format!("{}学学", "x".repeat(TEXT_BYTES - 4));
        are(&cut, &["学", &"x".repeat(WORD_CHARACTERS)]);
    }

    proptest! {
        #[test]
        fn tokens_hold_nothing_that_separates_or_marks(text in "\\PC{0,40}") {
            for token in tokens(&text) {
                let plain = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || !character.is_ascii();
                prop_assert!(token.chars().all(plain), "{:?}", token);
                prop_assert!(!token.contains(['§', '¶', '¤', '©']), "{:?}", token);
            }
        }

        #[test]
        fn what_a_run_is_looked_up_by_is_indexed(text in "[a-zA-Z学习课第ｶﾞé한국0-9 .\0]{0,40}") {
            let mut folded = String::new();
            fold(&text, &mut folded);
            let all = tokens(&text);
            for run in runs(&folded) {
                for token in tokens_to_find(&folded[run.range.clone()], run.is_spaceless) {
                    prop_assert!(all.contains(&token), "{:?} of {:?}", token, text);
                }
            }
        }
    }
}
