//! Sharing of merged configuration: the same items give the same `Arc`, also in later generations of a set.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Values by the hash of what they were made of.
#[derive(Debug)]
pub(crate) struct Interner<T>(Mutex<BTreeMap<u128, Arc<T>>>);

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<T> Interner<T> {
    /// The value of `key`, made now unless it is there.
    pub(crate) fn get(&self, key: u128, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.lock();
        Arc::clone(values.entry(key).or_insert_with(|| Arc::new(make())))
    }

    /// Forgets what nobody holds any more.
    pub(crate) fn prune(&self) {
        self.lock().retain(|_, value| Arc::strong_count(value) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u128, Arc<T>>> {
        // A value is inserted whole or not at all, so a panic of another thread left nothing broken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
