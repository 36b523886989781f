//! A cache with a bound in bytes. When it is full, what was not asked for longest is left out; it can be read again.

use std::collections::HashMap;
use std::hash::Hash;

/// Values that never change, each with its size.
pub(super) struct Bounded<K, V> {
    max_bytes: usize,
    bytes: usize,
    /// Rises with each use.
    uses: u64,
    kept: HashMap<K, Kept<V>>,
}

struct Kept<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Bounded<K, V> {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, uses: 0, kept: HashMap::new() }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let kept = self.kept.get_mut(key)?;
        kept.used = self.uses;
        Some(kept.value.clone())
    }

    /// Keeps it in place of what had that key. One that is larger than the whole cache is kept alone.
    pub(super) fn put(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        while !self.kept.is_empty() && self.bytes + bytes > self.max_bytes {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.kept.insert(key, Kept { value, bytes, used: self.uses });
    }

    fn remove(&mut self, key: &K) {
        if let Some(kept) = self.kept.remove(key) {
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_makes_room() {
        let mut cache = Bounded::new(10);
        cache.put("a", 1, 4);
        cache.put("b", 2, 4);
        assert_eq!(cache.get(&"a"), Some(1));
        cache.put("c", 3, 4);
        assert_eq!([cache.get(&"a"), cache.get(&"b"), cache.get(&"c")], [Some(1), None, Some(3)]);
        // A new value takes the room of the old one.
        cache.put("c", 4, 6);
        assert_eq!([cache.get(&"a"), cache.get(&"c")], [Some(1), Some(4)]);
        cache.put("large", 5, 99);
        assert_eq!([cache.get(&"a"), cache.get(&"c"), cache.get(&"large")], [None, None, Some(5)]);
    }
}
