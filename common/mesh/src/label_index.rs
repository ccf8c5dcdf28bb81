//! Finds what carries, or asks for, a label.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::Labels;

/// Keys by label.
#[derive(Debug)]
pub(crate) struct LabelIndex<K>(BTreeMap<String, BTreeMap<String, BTreeSet<K>>>);

impl<K> Default for LabelIndex<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> LabelIndex<K> {
    pub(crate) fn insert(&mut self, label: (&str, &str), key: K) {
        self.0.entry(label.0.to_owned()).or_default().entry(label.1.to_owned()).or_default().insert(key);
    }

    pub(crate) fn remove(&mut self, label: (&str, &str), key: &K) {
        let Some(values) = self.0.get_mut(label.0) else { return };
        let Some(keys) = values.get_mut(label.1) else { return };
        keys.remove(key);
        if keys.is_empty() {
            values.remove(label.1);
        }
        if values.is_empty() {
            self.0.remove(label.0);
        }
    }

    pub(crate) fn get(&self, label: (&str, &str)) -> impl Iterator<Item = &K> {
        self.0.get(label.0).and_then(|values| values.get(label.1)).into_iter().flatten()
    }

    /// Whatever stands under any of these labels.
    pub(crate) fn any_of<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a K> {
        labels.iter().flat_map(|(key, value)| self.get((key, value)))
    }

    /// What stands under the rarest of these labels: every key that carries all of them is among it. `None` without labels.
    pub(crate) fn rarest<'a>(&'a self, labels: &'a Labels) -> Option<impl Iterator<Item = &'a K>> {
        let count = |label: (&str, &str)| self.0.get(label.0).and_then(|values| values.get(label.1)).map_or(0, BTreeSet::len);
        let (key, value) = labels.iter().min_by_key(|(key, value)| count((key, value)))?;
        Some(self.get((key, value)))
    }
}
