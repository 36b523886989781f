//! `docs/MESSAGES.md` explains what can be said, and nothing else. What a room lists itself (`rocketmq::messages`) is compared as it is
//! said; of the other files the sentences in their code are, so that a new one is noticed without a list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::{HistoryError, Missing};
use crate::model::QueueName;
use crate::rocketmq;

/// A text with fewer words is a part of a sentence, or a name.
const WORDS_OF_A_SENTENCE: usize = 5;

/// The first cells of the table under that heading, without their marks.
fn explained(heading: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/MESSAGES.md");
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("the page has the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(cell, _)| cell.to_owned()).collect()
}

/// The source files of a folder, its tests left out.
fn sources(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("tests run where src is").map(|entry| entry.unwrap().path());
    let is_source =
        |file: &PathBuf| file.extension().is_some_and(|kind| kind == "rs") && !file.ends_with("tests.rs");
    files.filter(is_source).collect()
}

/// What these files can say, with `...` for what differs.
fn sentences(files: &[PathBuf]) -> BTreeSet<String> {
    let is_word = |word: &&str| word.chars().any(char::is_alphabetic);
    let is_sentence = |text: &String| text.split_whitespace().filter(is_word).count() >= WORDS_OF_A_SENTENCE;
    let text_of =
        |file: &PathBuf| fs::read_to_string(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    files.iter().flat_map(|file| texts(&text_of(file))).filter(is_sentence).collect()
}

/// The texts in a source file, but for those of its tests and of what it logs. It must not have a quote or a round bracket as a character.
fn texts(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code = code.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    let (mut texts, mut rest) = (Vec::new(), code.as_str());
    let (mut depth, mut logged_from) = (0, None);
    while let Some(first) = rest.chars().next() {
        if logged_from.is_none() && rest.starts_with("tracing::") {
            logged_from = Some(depth);
        }
        rest = &rest[first.len_utf8()..];
        match first {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                logged_from = logged_from.filter(|from| *from != depth);
            }
            '"' => {
                let (text, behind) = text_at(rest);
                rest = behind;
                if logged_from.is_none() {
                    texts.push(text);
                }
            }
            _ => {}
        }
    }
    texts
}

/// The text up to its quote, with dots for its placeholders, and what is behind it.
fn text_at(rest: &str) -> (String, &str) {
    let (mut text, mut is_placeholder) = (String::new(), false);
    let mut letters = rest.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (text, &rest[at + 1..]),
            // The text goes on in the next line.
            '\\' if letters.next_if(|(_, next)| *next == '\n').is_some() => {
                while letters.next_if(|(_, next)| next.is_whitespace()).is_some() {}
            }
            '\\' => text.extend(letters.next().map(|(_, escaped)| escaped)),
            '{' => {
                is_placeholder = true;
                text.push_str("...");
            }
            '}' => is_placeholder = false,
            other if !is_placeholder => text.push(other),
            _ => {}
        }
    }
    panic!("a text without an end: {text}")
}

fn withheld(may_be_read: bool) -> HistoryError {
    let queue = QueueName { broker: "BROKER".into(), id: 7 };
    let (topic, queues) = ("TOPIC".to_owned(), vec![queue]);
    HistoryError::Withheld(Missing::Withheld { topic, queues, messages: 5, may_be_read })
}

#[test]
fn each_message_about_rocketmq_is_explained_and_nothing_is_explained_that_is_not_said() {
    let mut said: BTreeSet<String> = rocketmq::messages().into_iter().collect();
    said.extend([true, false].map(|may_be_read| withheld(may_be_read).to_string()));
    let mut others = sources("src/rocketmq");
    others.retain(|file| !file.ends_with("failure.rs"));
    said.extend(sentences(&others));
    assert_eq!(said, explained("RocketMQ"));
}

#[test]
fn each_message_of_check_is_explained_and_nothing_is_explained_that_is_not_said() {
    let is_of_check = |file: &PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name == "limits.rs" || name.starts_with("try_")
    };
    let mut files = sources("src/cli/check");
    files.extend(sources("src/mqtt").into_iter().filter(is_of_check));
    files.push(Path::new("src/piece_store/trial.rs").to_owned());
    assert!(files.len() > 5, "{files:?}");
    assert_eq!(sentences(&files), explained("roombridge check"));
}

#[test]
fn sentences_are_found_as_they_are_said() {
    let source = r#"
        // "a comment that has more than five words"
        tracing::warn!(topic, words = f("of some"), "what is logged is left out (here)");
        let told = format!("broker {name:?} is not \
                            there at the \"moment\"");
        let part = "too few words";
        #[cfg(test)]
        let other = "a text of the tests in this file";
    "#;
    assert_eq!(
        texts(source),
        ["broker ... is not there at the \"moment\"".to_owned(), "too few words".to_owned()]
    );
}
