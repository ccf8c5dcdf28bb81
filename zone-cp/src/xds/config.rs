//! What one proxy should have. A set without clusters or listeners needs a reason, so that an error on the way can never empty
//! a proxy (P29).

use atoll_envoy::ResourceSet;
use atoll_model::Revision;

/// What one proxy should have.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    revision: Revision,
    set: ResourceSet,
    empty: Option<WhyEmpty>,
}

/// Why a proxy should have no clusters or no listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyEmpty {
    /// Its Dataplane was deleted.
    Deleted,
    /// Its Dataplane is there, and neither serves nor calls nor exposes anything.
    NothingToServe,
}

/// A set without clusters or without listeners, and no reason given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a configuration without clusters or listeners needs a reason")]
pub struct EmptySet;

impl ProxyConfig {
    /// A configuration that was made from `revision` of the zone's table.
    ///
    /// # Errors
    /// When it has no clusters or no listeners.
    pub fn new(revision: Revision, set: ResourceSet) -> Result<Self, EmptySet> {
        if set.clusters.is_empty() || set.listeners.is_empty() {
            return Err(EmptySet);
        }
        Ok(Self { revision, set, empty: None })
    }

    /// A configuration that may have no clusters or listeners, for this reason.
    pub fn empty(revision: Revision, set: ResourceSet, why: WhyEmpty) -> Self {
        Self { revision, set, empty: Some(why) }
    }

    /// The revision of the zone's table from which it was made.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The resources.
    pub fn set(&self) -> &ResourceSet {
        &self.set
    }

    /// Why it may be empty.
    pub fn why_empty(&self) -> Option<WhyEmpty> {
        self.empty
    }
}

#[cfg(test)]
mod tests {
    use atoll_envoy::{Encoded, ResourceType};

    use super::*;

    #[test]
    fn nothing_is_emptied_without_a_reason() {
        let mut set = ResourceSet::default();
        assert_eq!(ProxyConfig::new(Revision(1), set.clone()), Err(EmptySet));
        set.put(Encoded::new(ResourceType::Cluster, "c", &()));
        assert_eq!(ProxyConfig::new(Revision(1), set.clone()), Err(EmptySet));
        set.put(Encoded::new(ResourceType::Listener, "l", &()));
        assert!(ProxyConfig::new(Revision(1), set).is_ok());
        assert!(ProxyConfig::empty(Revision(1), ResourceSet::default(), WhyEmpty::Deleted).set().is_empty());
    }
}
