//! The runner's folder: what Envoy reads, and what a restarted runner finds again.
//!
//! | file | what |
//! | --- | --- |
//! | `lock` | held while a runner lives: one runner per folder |
//! | `instance` | lasting id of this folder |
//! | `token`, `token.yaml`, `zone-ca.pem`, `bootstrap.json` | for Envoy |
//! | `admin.sock` | Envoy's admin interface |
//! | `envoy.json` | the Envoy that runs: process, start, what it was started with |
//! | `envoy.log` | what Envoy says |
//! | `access.log` | the connections of a zone ingress, unless `--access-log` names another place |
//! | `parameters.json`, `names.json` | the zone's last word |
//! | `status.json` | processes and addresses, for people and programs |
//!
//! Everything is private to its user.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use atoll_runtime::files;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest path of a unix socket.
const SOCKET_PATH_MAX: usize = 107;
/// A log is put aside when it is larger.
const LOG_MAX: u64 = 16 << 20;

/// What Envoy says.
pub const ENVOY_LOG: &str = "envoy.log";
/// What Envoy says of connections and requests.
pub const ACCESS_LOG: &str = "access.log";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderFault {
    /// Another runner uses it.
    #[error("another atoll-dp runs in {0}; give this one its own --config-dir")]
    Locked(PathBuf),
    /// The disk refuses.
    #[error("cannot use the folder {0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// Envoy could not write its access log.
    #[error("the access log cannot be written to {0}: {1}")]
    Log(PathBuf, #[source] io::Error),
    /// Nothing says where it is.
    #[error("where may this program keep its files? Give --config-dir")]
    Nowhere,
    /// A unix socket in it would have too long a name.
    #[error("the folder's name is too long for a unix socket ({0}): give a shorter --config-dir, or --envoy-admin-port")]
    TooLong(PathBuf),
}

/// An open, locked folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    instance: String,
    _lock: File,
}

/// Processes and addresses, for people and programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This program.
    pub pid: u32,
    /// Its Envoy.
    pub envoy_pid: Option<u32>,
    /// `address:port` of DNS.
    pub dns: Option<String>,
    /// `address:port` of `/ready`.
    pub readiness: String,
    /// `address:port` or `unix:PATH` of Envoy's admin interface.
    pub admin: String,
}

impl Folder {
    /// Makes the folder if need be, and locks it.
    ///
    /// # Errors
    /// When another runner has it, or the disk refuses.
    pub fn open(root: &Path) -> Result<Self, FolderFault> {
        let io = |error| FolderFault::Io(root.to_owned(), error);
        files::private_dir(root).map_err(io)?;
        let root = root.canonicalize().map_err(io)?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(root.join("lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderFault::Locked(root)),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let instance = instance(&root.join("instance")).map_err(io)?;
        Ok(Self { root, instance, _lock: lock })
    }

    /// The default folder of a proxy.
    ///
    /// # Errors
    /// When there is neither root's nor a home folder.
    pub fn default_path(mesh: &str, name: &str, home: Option<&Path>) -> Result<PathBuf, FolderFault> {
        let leaf = format!("{mesh}.{name}");
        if nix::unistd::geteuid().is_root() {
            return Ok(Path::new("/var/lib/atoll-dp").join(leaf));
        }
        Ok(home.ok_or(FolderFault::Nowhere)?.join(".local/state/atoll-dp").join(leaf))
    }

    /// Lasting id of this folder.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where Envoy's admin socket is.
    ///
    /// # Errors
    /// When its path is longer than the kernel allows.
    pub fn admin_socket(&self) -> Result<PathBuf, FolderFault> {
        let path = self.path("admin.sock");
        if path.as_os_str().len() > SOCKET_PATH_MAX { Err(FolderFault::TooLong(path)) } else { Ok(path) }
    }

    /// Writes a private file, unless it holds these bytes already.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderFault> {
        let path = self.path(name);
        if std::fs::read(&path).is_ok_and(|held| held == bytes) && files::is_private(&path).unwrap_or(false) {
            return Ok(());
        }
        files::write_secret(&path, bytes).map_err(|error| FolderFault::Io(path, error))
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, name: &str, value: &impl Serialize) -> Result<(), FolderFault> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| FolderFault::Io(self.path(name), error.into()))?;
        self.write(name, &bytes)
    }

    /// Reads what [`Folder::save`] wrote; a file that is absent or damaged counts as none.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.path(name)).ok()?).ok()
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) {
        let _ = std::fs::remove_file(self.path(name));
    }

    /// Opens a log for appending.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn log(&self, name: &str) -> Result<File, FolderFault> {
        let path = self.path(name);
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        opened.map_err(|error| FolderFault::Io(path, error))
    }

    /// Puts aside what Envoy wrote, once it is much. The files themselves stay, because Envoy holds them open and appends; a line
    /// that it writes in between is lost.
    pub fn bound_logs(&self) {
        for name in [ENVOY_LOG, ACCESS_LOG] {
            let path = self.path(name);
            let large = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_MAX);
            if large && std::fs::copy(&path, self.path(&format!("{name}.1"))).is_ok() {
                let _ = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0));
            }
        }
    }
}

fn instance(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let fresh = uuid::Uuid::new_v4().to_string();
    files::write_secret(path, fresh.as_bytes())?;
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_runner_and_a_lasting_id() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        let folder = Folder::open(&path).unwrap();
        let id = folder.instance().to_owned();
        assert!(matches!(Folder::open(&path), Err(FolderFault::Locked(_))));
        drop(folder);
        assert_eq!(Folder::open(&path).unwrap().instance(), id);
    }

    #[test]
    fn files_are_private_and_damage_counts_as_absence() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        folder.save("a.json", &Status::default()).unwrap();
        assert!(files::is_private(&folder.path("a.json")).unwrap());
        assert_eq!(folder.load("a.json"), Some(Status::default()));
        folder.write("a.json", b"{").unwrap();
        assert_eq!(folder.load::<Status>("a.json"), None);
        assert_eq!(folder.load::<Status>("b.json"), None);
    }

    #[test]
    fn logs_have_a_bound_and_stay_open() {
        use std::io::Write;
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let mut log = folder.log(ACCESS_LOG).unwrap();
        log.write_all(&vec![b'a'; usize::try_from(LOG_MAX).unwrap()]).unwrap();
        folder.bound_logs();
        assert!(!folder.path("access.log.1").exists());
        log.write_all(b"b").unwrap();
        folder.bound_logs();
        log.write_all(b"c").unwrap();
        assert_eq!(std::fs::read(folder.path(ACCESS_LOG)).unwrap(), b"c");
        assert_eq!(std::fs::metadata(folder.path("access.log.1")).unwrap().len(), LOG_MAX + 1);
        assert!(files::is_private(&folder.path("access.log.1")).unwrap());
    }

    #[test]
    fn a_socket_path_that_the_kernel_refuses_is_refused_here() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(&root.path().join("d".repeat(120))).unwrap();
        assert!(folder.admin_socket().unwrap_err().to_string().contains("--config-dir"));
    }
}
