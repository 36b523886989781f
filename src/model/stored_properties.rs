//! The properties of a stored message: one text with all names and values, because a message has some twenty of them and a reader
//! asks for a few.
//!
//! Promises: a clone costs nothing; of two values with one name the last one counts, as for RocketMQ's own clients.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

/// Names and values, as they are stored.
#[derive(Clone, Default)]
pub struct StoredProperties(Arc<Pairs>);

#[derive(Clone, Default)]
struct Pairs {
    /// Name, value, name, value, without anything between.
    text: String,
    places: Vec<Place>,
}

/// Byte positions in the text.
#[derive(Clone, Copy)]
struct Place {
    name: usize,
    value: usize,
    end: usize,
}

impl StoredProperties {
    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let Pairs { text, places } = &*self.0;
        let bytes = text.as_bytes();
        // Most names differ in length already.
        let is_it = |place: &&Place| {
            place.value - place.name == name.len()
                && bytes.get(place.name..place.value) == Some(name.as_bytes())
        };
        places.iter().rev().find(is_it).and_then(|place| text.get(place.value..place.end))
    }

    /// Adds or replaces a value.
    pub fn insert(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) {
        Arc::make_mut(&mut self.0).push(name.as_ref(), value.as_ref());
    }

    /// As they are stored; of two with one name, the last one counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let Pairs { text, places } = &*self.0;
        let pair =
            |place: &Place| Some((text.get(place.name..place.value)?, text.get(place.value..place.end)?));
        places.iter().filter_map(pair)
    }

    /// Sorted by name.
    pub fn sorted(&self) -> BTreeMap<&str, &str> {
        self.iter().collect()
    }
}

impl Pairs {
    fn push(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        self.text.push_str(value);
        self.places.push(Place { name: start, value: start + name.len(), end: self.text.len() });
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for StoredProperties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        // What a message of ours has.
        let mut all = Pairs { text: String::with_capacity(512), places: Vec::with_capacity(24) };
        for (name, value) in pairs {
            all.push(name.as_ref(), value.as_ref());
        }
        Self(Arc::new(all))
    }
}

impl Index<&str> for StoredProperties {
    type Output = str;

    /// Empty if there is no such property.
    fn index(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }
}

impl PartialEq for StoredProperties {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for StoredProperties {}

impl fmt::Debug for StoredProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.sorted()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_what_a_map_would_hold(pairs in prop::collection::vec(("[abä]{0,3}", "[xyü]{0,3}"), 0..12)) {
            let map: BTreeMap<&str, &str> =
                pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut properties: StoredProperties = pairs.iter().take(6).map(|(name, value)| (name, value)).collect();
            for (name, value) in pairs.iter().skip(6) {
                properties.insert(name, value);
            }
            prop_assert_eq!(properties.sorted(), map.clone());
            for name in ["", "a", "ab", "ä"] {
                prop_assert_eq!(properties.get(name), map.get(name).copied());
            }
        }
    }
}
