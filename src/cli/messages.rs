//! `docs/MESSAGES.md` explains what can be said, and nothing else. What a room lists itself (`rocketmq::messages`) is compared as it is
//! said; of the other files the sentences in their code are, so that a new one is noticed without a list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

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

/// The texts in a source file, but for those of its tests and of what it logs.
fn texts(source: &str) -> Vec<String> {
    let mut texts = Vec::new();
    collect(source.parse().expect("it compiles"), &mut texts);
    texts
}

fn collect(tokens: TokenStream, texts: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                tokens.next_if(|next| next.to_string() == "!");
                let is_left_out = |next: &TokenTree| next.to_string().starts_with("[doc");
                let is_of_tests = |next: &TokenTree| next.to_string().replace(' ', "") == "[cfg(test)]";
                if tokens.next_if(is_left_out).is_none() && tokens.next_if(is_of_tests).is_some() {
                    tokens.find(|next| next.to_string() == ";" || is_group(next, Delimiter::Brace));
                }
            }
            TokenTree::Ident(name) if name == "tracing" => {
                tokens.find(|next| next.to_string() == ";" || is_group(next, Delimiter::Parenthesis));
            }
            TokenTree::Group(group) => collect(group.stream(), texts),
            TokenTree::Literal(literal) => {
                let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                texts.extend(text.map(|text| with_dots(&text.value())));
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn is_group(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}

/// With dots for the placeholders.
fn with_dots(format: &str) -> String {
    let (mut text, mut is_placeholder) = (String::new(), false);
    for letter in format.chars() {
        match letter {
            '{' => {
                is_placeholder = true;
                text.push_str("...");
            }
            '}' => is_placeholder = false,
            other if !is_placeholder => text.push(other),
            _ => {}
        }
    }
    text
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
