//! Resources as text, rendered once for each change: reading one often costs a look-up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use atoll_model::{Name, Resource, ResourceKey, condition::Condition};
use bytes::Bytes;

/// Bytes of text that are kept, at most.
const BYTES_MAX: usize = 64 << 20;

/// A resource without its status, as text.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) text: Bytes,
    /// The condition that it has no effect, or not all.
    pub(super) silent: Option<Arc<Condition>>,
}

/// The texts that were asked for last. What it holds of a resource that changed is replaced when that is read again.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    texts: HashMap<ResourceKey, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    resource: Arc<Resource>,
    zone: Option<Name>,
    text: Text,
}

impl Cache {
    /// The text of this resource in a zone of this name, made by `render` if it is not here. Secrets are not kept.
    pub(super) fn text(&self, resource: &Arc<Resource>, zone: Option<&Name>, render: impl FnOnce() -> Text) -> Text {
        if resource.key.kind.descriptor().sealed {
            return render();
        }
        if let Some(text) = self.held(resource, zone) {
            return text;
        }
        // Rendered outside of the lock: two that do it at once do the same.
        let text = render();
        self.keep(Entry { resource: resource.clone(), zone: zone.cloned(), text: text.clone() });
        text
    }

    fn held(&self, resource: &Arc<Resource>, zone: Option<&Name>) -> Option<Text> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = held.texts.get(&resource.key)?;
        // The same value, not an equal one: what is held is never changed, so this is exact and costs nothing.
        (Arc::ptr_eq(&entry.resource, resource) && entry.zone.as_ref() == zone).then(|| entry.text.clone())
    }

    fn keep(&self, entry: Entry) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bytes > BYTES_MAX {
            held.texts.clear();
            held.bytes = 0;
        }
        held.bytes += entry.size();
        if let Some(old) = held.texts.insert(entry.resource.key.clone(), entry) {
            held.bytes -= old.size();
        }
    }
}

impl Entry {
    /// About what it takes of memory beside the table.
    fn size(&self) -> usize {
        self.text.text.len() + self.resource.spec.len() + 512
    }
}
