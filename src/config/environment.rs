//! Environment variables as a source of settings, behind a trait so that tests can use a map.

use std::collections::BTreeMap;

/// Where environment variables come from.
pub trait Environment {
    /// All variables, name and value.
    fn vars(&self) -> Vec<(String, String)>;
}

/// The variables of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn vars(&self) -> Vec<(String, String)> {
        // Not `vars()`: it panics when any variable of the machine is not Unicode.
        std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect()
    }
}

impl Environment for BTreeMap<String, String> {
    fn vars(&self) -> Vec<(String, String)> {
        self.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}
