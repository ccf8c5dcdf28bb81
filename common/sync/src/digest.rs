//! Counts and digests that do not depend on order, so that they can be kept up to date change by change.

use atoll_model::{ContentHash, ResourceKey};
use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::proto;

/// How many resources, and the sum modulo 2^128 of their contributions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Sum of [`contribution`]s.
    pub digest: u128,
}

impl Sum {
    /// Adds a resource.
    pub fn add(&mut self, contribution: u128) {
        self.count = self.count.wrapping_add(1);
        self.digest = self.digest.wrapping_add(contribution);
    }

    /// Takes a resource out.
    pub fn remove(&mut self, contribution: u128) {
        self.count = self.count.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(contribution);
    }

    /// Adds all of another sum.
    pub fn join(&mut self, other: Sum) {
        self.count = self.count.wrapping_add(other.count);
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

impl From<Sum> for proto::Total {
    fn from(sum: Sum) -> Self {
        Self { count: sum.count, digest: Bytes::copy_from_slice(&sum.digest.to_be_bytes()) }
    }
}

impl From<&proto::Total> for Sum {
    /// A digest of another length than 16 bytes equals no real one.
    fn from(total: &proto::Total) -> Self {
        let digest = total.digest.as_ref().try_into().map_or(u128::MAX, u128::from_be_bytes);
        Self { count: total.count, digest }
    }
}

/// xxh3-128 of (key, hash): what one resource adds to a digest.
pub fn contribution(key: &proto::Key, hash: &[u8]) -> u128 {
    of_parts([&key.kind, &key.mesh, &key.owner, &key.name], hash)
}

/// [`contribution`] of a resource in the table.
pub fn contribution_of(key: &ResourceKey, hash: ContentHash) -> u128 {
    of_parts([key.kind.name(), &key.mesh, &key.owner.to_string(), &key.name], &hash.to_bytes())
}

fn of_parts(parts: [&str; 4], hash: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    // Hashed again, so that contributions of one key do not differ by what the content hash differs.
    hasher.update(&xxh3_128(hash).to_be_bytes());
    hasher.digest128()
}
