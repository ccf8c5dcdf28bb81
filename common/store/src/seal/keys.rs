//! Key-encryption keys of this machine: in files of mode 0600, or in the environment.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use atoll_runtime::files;
use atoll_trust::{
    SecretText,
    seal::{Label, SealKey},
};

use super::{KeyFault, KeyProvider};
use crate::StoreError;

/// Where the key-encryption key comes from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Nowhere: no sealed kind can be written, and a store that holds secrets is not opened.
    None,
    /// A file, made at the first start of a deployment; others that still open old rows.
    File {
        /// Seals from now on.
        path: PathBuf,
        /// Opens rows that were sealed before a change of keys.
        older: Vec<PathBuf>,
    },
    /// A text from the environment, 32 bytes in base64; others that still open old rows.
    Text {
        /// Seals from now on.
        key: SecretText,
        /// Files of keys that open rows that were sealed before a change of keys.
        older: Vec<PathBuf>,
    },
    /// Something else, such as a key management service.
    Provider(Arc<dyn KeyProvider>),
}

impl Keys {
    /// The provider. `fresh`: nothing was ever sealed in this store, so a missing file is made.
    pub(super) fn provider(self, fresh: bool) -> Result<Option<Arc<dyn KeyProvider>>, StoreError> {
        let local = match self {
            Keys::None => return Ok(None),
            Keys::Provider(provider) => return Ok(Some(provider)),
            Keys::File { path, older } => LocalKeys::new(from_file_or_new(&path, fresh)?, read_all(&older)?),
            Keys::Text { key, older } => {
                let key =
                    SealKey::from_text(key.expose()).map_err(|error| StoreError::Sealed(format!("the seal key: {error}")))?;
                LocalKeys::new(key, read_all(&older)?)
            }
        };
        Ok(Some(Arc::new(local)))
    }
}

/// Key-encryption keys in memory.
#[derive(Clone, Debug)]
pub struct LocalKeys {
    current: SealKey,
    older: Vec<SealKey>,
}

impl LocalKeys {
    /// `current` wraps; all unwrap.
    pub fn new(current: SealKey, older: Vec<SealKey>) -> Self {
        Self { current, older }
    }

    fn find(&self, key_id: &str) -> Option<&SealKey> {
        std::iter::once(&self.current).chain(&self.older).find(|key| key.id().to_string() == key_id)
    }
}

#[async_trait]
impl KeyProvider for LocalKeys {
    fn current(&self) -> String {
        self.current.id().to_string()
    }

    fn has(&self, key_id: &str) -> bool {
        self.find(key_id).is_some()
    }

    async fn wrap(&self, label: Label<'_>, secret: &[u8]) -> Result<Vec<u8>, KeyFault> {
        Ok(self.current.seal(label, secret, &mut rand::rng()))
    }

    async fn unwrap(&self, key_id: &str, label: Label<'_>, wrapped: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let key = self.find(key_id).ok_or_else(|| KeyFault::Unknown(key_id.to_owned()))?;
        key.open(label, wrapped).map_err(|_| KeyFault::Damaged(key_id.to_owned()))
    }
}

/// Reads a key file, or makes it when nothing was ever sealed.
fn from_file_or_new(path: &Path, fresh: bool) -> Result<SealKey, StoreError> {
    if fresh && matches!(path.try_exists(), Ok(false)) { make(path) } else { read(path) }
}

/// Makes a file with a new key, that only its owner may read.
///
/// # Errors
/// [`StoreError::Sealed`] when the file cannot be written.
pub fn make_key_file(path: &Path) -> Result<(), StoreError> {
    make(path).map(drop)
}

fn make(path: &Path) -> Result<SealKey, StoreError> {
    let key = SealKey::generate(&mut rand::rng());
    // A folder that is there stays as it is: it may be one that others enter.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let written = folder.map_or(Ok(()), files::private_dir).and_then(|()| {
        let text = key.to_file();
        files::write_secret(path, text.expose().as_bytes())
    });
    written.map_err(|error| StoreError::Sealed(format!("{} cannot be written: {error}", path.display())))?;
    tracing::info!(path = %path.display(), "made the key that seals the store's secrets; back it up, every instance needs it");
    Ok(key)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<SealKey>, StoreError> {
    paths.iter().map(|path| read(path)).collect()
}

/// Reads a key file that nobody else may read.
fn read(path: &Path) -> Result<SealKey, StoreError> {
    let shown = path.display();
    let refused = |why: String| Err(StoreError::Sealed(why));
    match fs::read_to_string(path) {
        Ok(text) => match owner(path) {
            Ok(Owner::Open) => refused(format!("{shown} can be read by others: set its mode to 0600")),
            Ok(Owner::Other) => refused(format!("{shown} belongs to another user: give it to the one that runs this program")),
            Ok(Owner::Own) => SealKey::from_text(&text).or_else(|error| refused(format!("{shown} cannot be used: {error}"))),
            Err(error) => refused(format!("{shown} cannot be read: {error}")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => refused(format!(
            "the secrets in the store are sealed, and {shown} is not there: copy it from the first instance of this control plane"
        )),
        Err(error) => refused(format!("{shown} cannot be read: {error}")),
    }
}

enum Owner {
    Own,
    Other,
    Open,
}

/// Who may read a file. Root may own it: an orchestrator puts it there.
fn owner(path: &Path) -> io::Result<Owner> {
    if !files::is_private(path)? {
        return Ok(Owner::Open);
    }
    let (file, this) = (fs::metadata(path)?.uid(), fs::metadata("/proc/self")?.uid());
    Ok(if file == this || file == 0 { Owner::Own } else { Owner::Other })
}
