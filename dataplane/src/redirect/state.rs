//! What was installed, in a file: so that exactly that is removed.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use atoll_runtime::files;
use serde::{Deserialize, Serialize};

use super::{RedirectFault, options::Options};

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What was asked for.
    pub options: Options,
    /// Our table as the kernel showed it then; empty while it is being made.
    pub table: String,
    /// The whole ruleset before.
    pub before: String,
    /// Redirection is being ended: new connections are left alone.
    #[serde(default)]
    pub releasing: bool,
}

/// The state file, locked. The lock is a file beside it, which goes when there is no state any more.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    lock: PathBuf,
    _locked: File,
}

impl StateFile {
    /// Locks the file, which need not exist; its folder is made.
    ///
    /// # Errors
    /// When another program holds it, or the folder cannot be made.
    pub fn lock(path: &Path) -> Result<Self, RedirectFault> {
        let fault = |error| RedirectFault::File(path.to_owned(), error);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(fault)?;
        }
        let lock = path.with_extension("lock");
        let locked = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock).map_err(fault)?;
        match locked.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock, _locked: locked }),
            Err(TryLockError::WouldBlock) => Err(RedirectFault::Locked(lock)),
            Err(TryLockError::Error(error)) => Err(fault(error)),
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(&self) -> Result<Option<State>, RedirectFault> {
        load(&self.path)
    }

    /// Replaces what it says.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, state: &State) -> Result<(), RedirectFault> {
        let text = serde_json::to_vec_pretty(state).map_err(|error| RedirectFault::State(self.path.clone(), error))?;
        files::write_secret(&self.path, &text).map_err(|error| RedirectFault::File(self.path.clone(), error))
    }

    /// Leaves no file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&self) -> Result<(), RedirectFault> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RedirectFault::File(self.path.clone(), error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if !self.path.exists() {
            let _ = fs::remove_file(&self.lock);
        }
    }
}

/// What a state file says, if it is there.
///
/// # Errors
/// When it cannot be read.
pub fn load(path: &Path) -> Result<Option<State>, RedirectFault> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| RedirectFault::State(path.to_owned(), error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RedirectFault::File(path.to_owned(), error)),
    }
}
