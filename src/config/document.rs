//! Reads TOML and environment variables into one raw configuration, and remembers where each value came from.
//!
//! Promises: an unknown key, an unknown variable and a wrong type are refused here, with place and remedy.
//!
//! Our own table of keys checks the document before serde reads it, because serde's errors about a wrong type quote the
//! value, which may be a secret, and name no key.

use std::collections::HashMap;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::error::ConfigError;
use super::keys::{self, Key, Kind};
use super::kubernetes;
use super::raw::RawConfig;

/// Which line or variable set each key, for the errors.
#[derive(Debug)]
pub(super) struct Places {
    file: String,
    /// By path with indexes, for example `binding[0].filter`.
    by_path: HashMap<String, String>,
}

impl Places {
    /// Where the key was set; if it is missing, where its table begins.
    pub(crate) fn of(&self, path: &str) -> &str {
        let mut path = path;
        loop {
            if let Some(place) = self.by_path.get(path) {
                return place;
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return &self.file,
            }
        }
    }

    pub(crate) fn invalid(
        &self,
        path: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Invalid {
            place: self.of(path).to_owned(),
            key: without_indexes(path),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Document {
    table: toml::Table,
    places: Places,
}

impl Document {
    pub(crate) fn read(name: &str, text: &str, environment: &dyn Environment) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            place: error.span().map_or_else(|| name.to_owned(), |span| place_in(name, text, span.start)),
            problem: error.message().to_owned(),
        };
        let spanned = DeTable::parse(text).map_err(syntax)?;
        let mut walk = Walk { name, text, by_path: HashMap::new() };
        walk.table(spanned.get_ref(), "")?;
        let table = toml::from_str(text).map_err(syntax)?;
        let mut document = Self { table, places: Places { file: name.to_owned(), by_path: walk.by_path } };
        document.override_by(environment)?;
        Ok(document)
    }

    pub(crate) fn into_raw(self) -> Result<(RawConfig, Places), ConfigError> {
        let raw = RawConfig::deserialize(self.table).map_err(|error| ConfigError::Unforeseen {
            file: self.places.file.clone(),
            problem: error.message().to_owned(),
        })?;
        Ok((raw, self.places))
    }

    fn override_by(&mut self, environment: &dyn Environment) -> Result<(), ConfigError> {
        for (name, value) in our_variables(environment) {
            if is_ignored(&name, &value) {
                continue;
            }
            let key = keys::find_variable(&name).ok_or_else(|| ConfigError::UnknownVariable {
                remedy: keys::remedy_for_variable(&name),
                name: name.clone(),
            })?;
            let place = format!("environment variable {name}");
            let value = from_variable(key.kind, &value).ok_or_else(|| ConfigError::WrongType {
                place: place.clone(),
                key: key.path.to_owned(),
                expected: expected_in_variable(key.kind),
            })?;
            self.set(key, value);
            self.places.by_path.insert(key.path.to_owned(), place);
        }
        Ok(())
    }

    fn set(&mut self, key: &Key, value: toml::Value) {
        let Some((section, name)) = key.path.split_once('.') else {
            self.table.insert(key.path.to_owned(), value);
            return;
        };
        let section = self
            .table
            .entry(section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut();
        // The walk made sure that a section is a table.
        if let Some(section) = section {
            section.insert(name.to_owned(), value);
        }
    }
}

/// Compares the document with the table of keys, and collects the line of each key.
struct Walk<'a> {
    name: &'a str,
    text: &'a str,
    by_path: HashMap<String, String>,
}

impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>, parent: &str) -> Result<(), ConfigError> {
        for (key, value) in table {
            let path = match parent {
                "" => key.get_ref().to_string(),
                parent => format!("{parent}.{}", key.get_ref()),
            };
            let place = place_in(self.name, self.text, key.span().start);
            let known = without_indexes(&path);
            // A quoted key may hold dots and brackets, and would look like the path of another key.
            let is_plain = !key.get_ref().contains(['.', '[', ']']);
            let Some(key) = keys::find(&known).filter(|_| is_plain) else {
                return Err(ConfigError::UnknownKey {
                    place,
                    remedy: keys::remedy_for_key(&known),
                    key: known,
                });
            };
            self.by_path.insert(path.clone(), place.clone());
            self.value(key, value.get_ref(), &path, place)?;
        }
        Ok(())
    }

    fn value(
        &mut self,
        key: &Key,
        value: &DeValue<'_>,
        path: &str,
        place: String,
    ) -> Result<(), ConfigError> {
        let fits = match key.kind {
            Kind::Text => value.is_str(),
            Kind::Boolean => value.is_bool(),
            Kind::Integer => value.as_integer().is_some_and(|number| !number.as_str().starts_with('-')),
            Kind::TextList => {
                value.as_array().is_some_and(|items| items.iter().all(|item| item.get_ref().is_str()))
            }
            Kind::Table => match value.as_table() {
                Some(table) => return self.table(table, path),
                None => false,
            },
            Kind::Tables => match value.as_array() {
                Some(tables) => return self.tables(key, tables, path),
                None => false,
            },
        };
        if fits { Ok(()) } else { Err(wrong_type(key, place)) }
    }

    fn tables(&mut self, key: &Key, tables: &toml::de::DeArray<'_>, path: &str) -> Result<(), ConfigError> {
        for (index, item) in tables.iter().enumerate() {
            let place = place_in(self.name, self.text, item.span().start);
            let Some(table) = item.get_ref().as_table() else {
                return Err(wrong_type(key, place));
            };
            let path = format!("{path}[{index}]");
            self.by_path.insert(path.clone(), place);
            self.table(table, &path)?;
        }
        Ok(())
    }
}

/// Variables that look like ours, and are not: Kubernetes sets them for a Service named roombridge.
pub(crate) fn ignored_variables(environment: &dyn Environment) -> Vec<String> {
    let ours = our_variables(environment).into_iter();
    ours.filter(|(name, value)| is_ignored(name, value)).map(|(name, _)| name).collect()
}

fn is_ignored(name: &str, value: &str) -> bool {
    keys::find_variable(name).is_none() && kubernetes::is_of_kubernetes(name, value)
}

/// Sorted, so that the same mistakes give the same error each time.
fn our_variables(environment: &dyn Environment) -> Vec<(String, String)> {
    let mut variables = environment.vars();
    let is_ours = |name: &str| name.starts_with(keys::VARIABLE_PREFIX) && !keys::is_read_elsewhere(name);
    // Compose files pass a variable that nobody set as an empty text.
    variables.retain(|(name, value)| is_ours(name) && !value.is_empty());
    variables.sort();
    variables
}

fn wrong_type(key: &Key, place: String) -> ConfigError {
    ConfigError::WrongType { place, key: key.path.to_owned(), expected: key.kind.expected() }
}

fn from_variable(kind: Kind, text: &str) -> Option<toml::Value> {
    match kind {
        Kind::Text => Some(toml::Value::String(text.to_owned())),
        Kind::Integer => text.trim().parse().ok().filter(|number| *number >= 0).map(toml::Value::Integer),
        Kind::Boolean => text.trim().parse().ok().map(toml::Value::Boolean),
        Kind::TextList => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect()))
        }
        Kind::Table | Kind::Tables => None,
    }
}

fn expected_in_variable(kind: Kind) -> &'static str {
    match kind {
        Kind::TextList => "a list with commas, for example one,two",
        Kind::Text | Kind::Integer | Kind::Boolean | Kind::Table | Kind::Tables => kind.expected(),
    }
}

fn place_in(name: &str, text: &str, offset: usize) -> String {
    let line = 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    format!("{name} line {line}")
}

/// `binding[0].filter` -> `binding.filter`.
fn without_indexes(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for letter in path.chars() {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            other if !inside => plain.push(other),
            _ => {}
        }
    }
    plain
}
