//! Issued certificates, in memory and in files, so that a restarted plane gives a returning proxy nothing new.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use atoll_model::{Timestamp, spiffe::SpiffeId};
use atoll_runtime::files;
use atoll_trust::{Pin, PrivateKey, SecretText, ca::WorkloadLeaf, x509::Facts};
use serde::{Deserialize, Serialize};

/// An issued certificate.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) issuer: Pin,
    pub(super) certificate: WorkloadLeaf,
}

/// The issued certificates of one MeshIdentity, the newest of each SPIFFE id.
#[derive(Debug)]
pub(super) struct Leaves {
    folder: PathBuf,
    all: BTreeMap<SpiffeId, Leaf>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    issuer: String,
    chain: String,
    key: String,
    issued: Timestamp,
}

impl Leaf {
    /// When it is renewed: at half of its life.
    pub(super) fn renew_at(&self) -> Timestamp {
        self.certificate.issued + (self.certificate.not_after - self.certificate.issued) / 2
    }

    fn read(text: &str) -> Option<(SpiffeId, Self)> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        let facts = Facts::of_pem(&stored.chain).ok()?;
        let id = facts.only_uri()?.parse().ok()?;
        let fits = PrivateKey::from_pem(&stored.key).is_ok_and(|key| key.pin() == facts.pin);
        let key_pem = SecretText::new(stored.key);
        let certificate = WorkloadLeaf { chain_pem: stored.chain, key_pem, issued: stored.issued, not_after: facts.not_after };
        fits.then_some((id, Self { issuer: stored.issuer.parse().ok()?, certificate }))
    }
}

impl Leaves {
    /// Reads a folder. What cannot be read or has expired is dropped: it is issued again when somebody asks.
    pub(super) fn load(identity: &Path, now: Timestamp) -> Self {
        let folder = identity.join("leaves");
        let mut all: BTreeMap<SpiffeId, Leaf> = BTreeMap::new();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let read = fs::read_to_string(entry.path()).ok().and_then(|text| Leaf::read(&text));
            match read.filter(|(_, leaf)| leaf.certificate.not_after > now) {
                Some((id, leaf)) => _ = all.insert(id, leaf),
                None => _ = fs::remove_file(entry.path()),
            }
        }
        Self { folder, all }
    }

    pub(super) fn get(&self, id: &SpiffeId) -> Option<&Leaf> {
        self.all.get(id)
    }

    /// Keeps a certificate. A file that cannot be written costs a certificate more after the next restart, nothing else.
    pub(super) fn put(&mut self, id: SpiffeId, leaf: Leaf) {
        if let Err(error) = self.write(&id, &leaf) {
            tracing::warn!(%error, spiffe.id = %id, "cannot keep the certificate of {id} over a restart");
        }
        self.all.insert(id, leaf);
    }

    /// Forgets what has expired.
    pub(super) fn purge(&mut self, now: Timestamp) {
        let (folder, all) = (&self.folder, &mut self.all);
        all.retain(|id, leaf| {
            let lives = leaf.certificate.not_after > now;
            if !lives {
                let _ = fs::remove_file(folder.join(file_name(id)));
            }
            lives
        });
    }

    /// Without a sync to disk: thousands of proxies may ask at once, and a torn file is only a lost one.
    fn write(&self, id: &SpiffeId, leaf: &Leaf) -> io::Result<()> {
        files::private_dir(&self.folder)?;
        let stored = Stored {
            issuer: leaf.issuer.to_string(),
            chain: leaf.certificate.chain_pem.clone(),
            key: leaf.certificate.key_pem.expose().to_owned(),
            issued: leaf.certificate.issued,
        };
        let path = self.folder.join(file_name(id));
        let temporary = path.with_extension("tmp");
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        fs::rename(temporary, path)
    }
}

fn file_name(id: &SpiffeId) -> String {
    format!("{}.json", Pin::of_spki(id.to_string().as_bytes()))
}
