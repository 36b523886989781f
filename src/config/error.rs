//! Errors of the configuration. None holds a value that may be secret.

use std::path::PathBuf;

/// Why a configuration cannot be used. Each text says where, which key, why, and what to do.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}; create it, or name another file with --config", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },

    #[error("{place}: this is not TOML: {problem}; correct the line (text values stand in quotes)")]
    Syntax { place: String, problem: String },

    #[error("{place}: unknown key {key}; {remedy}")]
    UnknownKey { place: String, key: String, remedy: String },

    #[error("unknown environment variable {name}; {remedy}")]
    UnknownVariable { name: String, remedy: String },

    #[error("{place}: {key} has the wrong type; write it as {expected}")]
    WrongType { place: String, key: String, expected: &'static str },

    #[error("{place}: {key} {problem}; {remedy}")]
    Invalid { place: String, key: String, problem: String, remedy: String },

    #[error("{place}: cannot read {} that {key} names: {source}; correct the path or its permissions", path.display())]
    UnreadableFile { place: String, key: String, path: PathBuf, source: std::io::Error },

    #[error("{file}: {problem}; this key is missing in the table of known keys, please report it")]
    Unforeseen { file: String, problem: String },
}
