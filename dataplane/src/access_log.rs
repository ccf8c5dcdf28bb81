//! Where the lines go that Envoy writes of each connection and request, which are its standard output.
//!
//! The zone only hears whether they are wanted, never where they go: so nobody who got hold of a token can make an Envoy write to
//! a file of its host.

use std::{fmt, fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::PathBuf, process::Stdio, str::FromStr};

use crate::folder::{self, Folder, FolderFault};

/// How Linux names the standard output of whoever asks.
const STDOUT: &str = "/dev/stdout";

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// This program's standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl FromStr for AccessLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdout);
        }
        std::path::absolute(text).map(Self::File).map_err(|error| format!("{text:?} is no path: {error}"))
    }
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Opens the standard output of an Envoy; a file of the folder unless another place is given.
///
/// # Errors
/// When Envoy could not write there.
pub fn open(wanted: Option<&AccessLog>, folder: &Folder) -> Result<Stdio, FolderFault> {
    match wanted {
        None => folder.log(folder::ACCESS_LOG).map(Stdio::from),
        Some(AccessLog::File(path)) => {
            let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
            opened.map(Stdio::from).map_err(|error| FolderFault::Log(path.clone(), error))
        }
        Some(AccessLog::Stdout) => {
            // Envoy opens it by this name; a socket, as services of systemd have it, cannot be opened so.
            let again = OpenOptions::new().append(true).open(STDOUT);
            let fault = |error: io::Error| FolderFault::Log(STDOUT.into(), error);
            again.map(|_| Stdio::inherit()).map_err(fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!("-".parse(), Ok(AccessLog::Stdout));
        assert_eq!("/var/log/a".parse(), Ok(AccessLog::File("/var/log/a".into())));
        let relative = std::env::current_dir().unwrap().join("a.log");
        assert_eq!("a.log".parse(), Ok(AccessLog::File(relative)));
        assert!("".parse::<AccessLog>().is_err());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let fault = open(Some(&AccessLog::File("/absent/a.log".into())), &folder).unwrap_err();
        assert!(fault.to_string().contains("/absent/a.log"), "{fault}");
    }
}
