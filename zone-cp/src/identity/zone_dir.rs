//! The zone's private files.
//!
//! ```text
//!   <data>/uid                    the zone's lasting identity
//!   <data>/link.json              certificate and key for the link, CAs and identity of the cluster
//!   <data>/link.pending.pem       the key of a request that was not answered yet
//!   <data>/ca.json                the zone's own CA, for its ports
//!   <data>/tokens.pem             the key of the zone's own tokens
//!   <data>/identity/<alias>/      one folder per MeshIdentity, see `cas` and `leaves`
//! ```
//!
//! Files are 0600, folders 0700. Every file is replaced whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use atoll_model::{Timestamp, ZoneUid};
use atoll_runtime::files;
use atoll_trust::{
    ca::{CaError, ZoneCa},
    jwt::{Issuer, SigningKey},
    key::KeyError,
};
use rand::CryptoRng;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Why the zone's files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The disk refuses.
    #[error("{path} cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds something else. Nothing is written over it: it may be the only copy.
    #[error("{path} is damaged: {why}; put back a good copy, or move it away to make a new one")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Others can read it.
    #[error("{0} can be read by others: set its mode to 0600")]
    Open(PathBuf),
    /// No key can be made.
    #[error("cannot make a key")]
    Key(#[from] KeyError),
    /// No CA can be made.
    #[error("cannot make the zone's CA")]
    Ca(#[from] CaError),
}

/// The zone's private files.
#[derive(Clone, Debug)]
pub struct ZoneDir {
    root: PathBuf,
    uid: ZoneUid,
}

impl ZoneDir {
    /// Opens the folder; at the first start makes it, and the zone's identity with it.
    ///
    /// # Errors
    /// When the disk refuses, or the file with the identity is damaged.
    pub fn open(root: &Path, rng: &mut impl CryptoRng) -> Result<Self, DirError> {
        files::private_dir(root).map_err(|source| DirError::File { path: root.to_owned(), source })?;
        let path = root.join("uid");
        let uid = match read(&path)? {
            Some(text) => text.trim().parse().map_err(|error: uuid::Error| damaged(&path, error))?,
            None => {
                let mut bytes = [0; 16];
                rng.fill_bytes(&mut bytes);
                let uid = ZoneUid(uuid::Builder::from_random_bytes(bytes).into_uuid());
                write(&path, format!("{uid}\n").as_bytes())?;
                uid
            }
        };
        Ok(Self { root: root.to_owned(), uid })
    }

    /// The zone's lasting identity.
    pub fn uid(&self) -> ZoneUid {
        self.uid
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The zone's own CA; made at the first call.
    ///
    /// # Errors
    /// When the file is damaged, open to others, or cannot be written.
    pub fn ca(&self, zone: &str, now: Timestamp, rng: &mut impl CryptoRng) -> Result<ZoneCa, DirError> {
        let path = self.path("ca.json");
        if let Some(stored) = read_json::<StoredCa>(&path)? {
            return ZoneCa::load(&stored.certificate, &stored.key).map_err(|error| damaged(&path, error));
        }
        let ca = ZoneCa::generate(zone, now, rng)?;
        write_json(&path, &StoredCa { certificate: ca.cert_pem().to_owned(), key: ca.key_pem().expose().to_owned() })?;
        Ok(ca)
    }

    /// The key of the zone's own tokens; made at the first call.
    ///
    /// # Errors
    /// When the file is damaged, open to others, or cannot be written.
    pub fn signing_key(&self) -> Result<SigningKey, DirError> {
        let (path, issuer) = (self.path("tokens.pem"), Issuer::Zone(self.uid));
        if let Some(pem) = read(&path)? {
            return SigningKey::from_pem(&pem, issuer).map_err(|error| damaged(&path, error));
        }
        let key = SigningKey::generate(issuer)?;
        write(&path, key.to_pem().expose().as_bytes())?;
        Ok(key)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredCa {
    certificate: String,
    key: String,
}

/// A private file's text; none if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<String>, DirError> {
    let file = |source| DirError::File { path: path.to_owned(), source };
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(error)),
        Ok(_) if !files::is_private(path).map_err(file)? => Err(DirError::Open(path.to_owned())),
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| damaged(path, error)),
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DirError> {
    let Some(text) = read(path)? else { return Ok(None) };
    // serde_json's message may quote the file, and there are keys in it.
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| damaged(path, format!("line {}, column {}", error.line(), error.column())))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), DirError> {
    files::write_secret(path, bytes).map_err(|source| DirError::File { path: path.to_owned(), source })
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DirError> {
    let json = serde_json::to_vec_pretty(value).map_err(|error| damaged(path, error))?;
    write(path, &json)
}

pub(super) fn damaged(path: &Path, why: impl std::fmt::Display) -> DirError {
    DirError::Damaged { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn open(root: &Path, seed: u64) -> Result<ZoneDir, DirError> {
        ZoneDir::open(root, &mut StdRng::seed_from_u64(seed))
    }

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_zone_stays_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("zone");
        let (first, second) = (open(&root, 1).unwrap(), open(&root, 2).unwrap());
        assert_eq!(first.uid(), second.uid());
        let mut rng = StdRng::seed_from_u64(3);
        let pin = first.ca("azure", now(), &mut rng).unwrap().pin();
        assert_eq!(second.ca("azure", now(), &mut rng).unwrap().pin(), pin);
        let key = first.signing_key().unwrap();
        assert_eq!(second.signing_key().unwrap().public(), key.public());
    }

    #[test]
    fn files_are_private_and_stay_so() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("zone");
        let zone = open(&root, 1).unwrap();
        zone.signing_key().unwrap();
        zone.ca("azure", now(), &mut StdRng::seed_from_u64(3)).unwrap();
        for entry in fs::read_dir(&root).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
        }
        fs::set_permissions(root.join("tokens.pem"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(zone.signing_key(), Err(DirError::Open(_))));
    }

    #[test]
    fn a_damaged_file_is_named_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("zone");
        let zone = open(&root, 1).unwrap();
        for name in ["uid", "tokens.pem", "ca.json"] {
            files::write_secret(&root.join(name), b"{\"certificate\": \"hunter2\"").unwrap();
        }
        let errors = [
            open(&root, 2).unwrap_err(),
            zone.signing_key().unwrap_err(),
            zone.ca("azure", now(), &mut StdRng::seed_from_u64(3)).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, DirError::Damaged { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(fs::read_to_string(root.join("tokens.pem")).unwrap().contains("hunter2"));
    }
}
