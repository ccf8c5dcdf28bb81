//! Finding the Envoy program, and knowing that it will do.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// Oldest version that knows what the configuration uses.
pub const OLDEST: (u32, u32) = (1, 36);
/// How long `envoy --version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// A program that will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Where it is.
    pub path: PathBuf,
    /// Such as `1.40.0`.
    pub version: String,
}

/// Why there is no Envoy.
#[derive(Debug, thiserror::Error)]
pub enum BinaryFault {
    /// Nowhere.
    #[error(
        "no Envoy found: give --binary-path, set ENVOY, or put `envoy` into PATH (version {}.{} or later)",
        OLDEST.0, OLDEST.1
    )]
    Missing,
    /// Not where the user says.
    #[error("{source_} names {path}, which is no program: {reason}")]
    NotAProgram {
        /// Who names it.
        source_: &'static str,
        /// What it names.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It does not answer as Envoy does.
    #[error("{path} is not Envoy, or does not run here: {reason}")]
    NotEnvoy {
        /// The program.
        path: PathBuf,
        /// What it did.
        reason: String,
    },
    /// Too old.
    #[error("{path} is Envoy {version}; {}.{} or later is needed", OLDEST.0, OLDEST.1)]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

/// Finds Envoy: what `--binary-path` says, else `$ENVOY`, else `envoy` in PATH; then asks for its version.
///
/// # Errors
/// What to do about it.
pub async fn find(flag: Option<&Path>, env: Option<&OsStr>, search: Option<&OsStr>) -> Result<Binary, BinaryFault> {
    let path = locate(flag, env, search)?;
    let version = version(&path).await?;
    check(path, version)
}

fn locate(flag: Option<&Path>, env: Option<&OsStr>, search: Option<&OsStr>) -> Result<PathBuf, BinaryFault> {
    if let Some(path) = flag {
        // As in a shell, a bare name is searched for.
        let bare = path.components().count() == 1 && !path.exists();
        let found = if bare { in_path(path.as_os_str(), search) } else { None };
        return named("--binary-path", found.as_deref().unwrap_or(path));
    }
    if let Some(path) = env.filter(|path| !path.is_empty()) {
        return named("ENVOY", Path::new(path));
    }
    in_path(OsStr::new("envoy"), search).ok_or(BinaryFault::Missing)
}

fn named(source_: &'static str, path: &Path) -> Result<PathBuf, BinaryFault> {
    let fault = |reason: String| BinaryFault::NotAProgram { source_, path: path.to_owned(), reason };
    let metadata = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?;
    if !metadata.is_file() {
        return Err(fault("not a file".to_owned()));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(fault("not executable".to_owned()));
    }
    Ok(path.to_owned())
}

fn in_path(name: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(search?).map(|folder| folder.join(name)).find(|path| named("PATH", path).is_ok())
}

async fn version(path: &Path) -> Result<String, BinaryFault> {
    let fault = |reason: String| BinaryFault::NotEnvoy { path: path.to_owned(), reason };
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(VERSION_TIMEOUT, command.output()).await {
        Ok(output) => output.map_err(|error| fault(error.to_string()))?,
        Err(_) => return Err(fault(format!("`--version` did not end in {VERSION_TIMEOUT:?}"))),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    // `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
    let version = text.split_once("version:").and_then(|(_, rest)| rest.trim().split('/').nth(1)).map(str::to_owned);
    version.ok_or_else(|| fault(format!("`--version` printed {:?}", text.lines().next().unwrap_or_default())))
}

fn check(path: PathBuf, version: String) -> Result<Binary, BinaryFault> {
    let mut numbers = version.split('.').map(|part| part.split('-').next().unwrap_or_default().parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => Ok(Binary { path, version }),
        (Some(Ok(_)), Some(Ok(_))) => Err(BinaryFault::TooOld { path, version }),
        _ => Err(BinaryFault::NotEnvoy { path, reason: format!("its version is {version:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that prints `text`.
    fn program(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("envoy");
        std::fs::write(&path, format!("#!/bin/sh\necho '{text}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Another test's child may still hold the file open for writing, between its fork and its exec.
        let busy =
            || std::process::Command::new(&path).output().is_err_and(|e| e.kind() == std::io::ErrorKind::ExecutableFileBusy);
        while busy() {
            std::thread::yield_now();
        }
        path
    }

    #[tokio::test]
    async fn a_program_in_path_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), "envoy  version: abc/1.40.0/Clean/RELEASE/BoringSSL");
        let search = Some(folder.path().as_os_str());
        let expected = Binary { path: path.clone(), version: "1.40.0".into() };
        assert_eq!(find(None, None, search).await.unwrap(), expected);
        assert_eq!(find(None, Some(path.as_os_str()), None).await.unwrap(), expected);
        assert_eq!(find(Some(Path::new("envoy")), None, search).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_will_not_do_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = async |flag: Option<&Path>, env: Option<&OsStr>| find(flag, env, None).await.unwrap_err().to_string();
        assert!(check(None, None).await.contains("--binary-path, set ENVOY"));
        assert!(check(Some(Path::new("/absent/envoy")), None).await.starts_with("--binary-path names /absent/envoy"));
        assert!(check(None, Some(OsStr::new("/absent"))).await.starts_with("ENVOY names /absent"));
        assert!(check(Some(folder.path()), None).await.contains("not a file"));
        let old = program(folder.path(), "envoy  version: abc/1.35.9/Clean/RELEASE/BoringSSL");
        assert!(check(Some(&old), None).await.ends_with("is Envoy 1.35.9; 1.36 or later is needed"));
        let other = program(folder.path(), "hello");
        assert!(check(Some(&other), None).await.contains("is not Envoy"));
    }
}
