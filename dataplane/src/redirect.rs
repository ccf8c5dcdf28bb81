//! Redirection of a host's traffic to its proxy: `atoll-dp install|uninstall transparent-proxy`, `atoll-dp check`.
//!
//! ```text
//!   args ─▶ options ─▶ rules (text for nft) ─▶ nft ─▶ kernel
//!             │                                 ▲
//!   host ─▶ findings ── conflicts ──────────── install ◀─▶ state file ◀─▶ uninstall
//! ```
//!
//! Everything that is changed on the host is one nftables table of our own, made and removed in one transaction each. No other
//! table, no sysctl and no file of the host is touched; resolv.conf is only read.

pub mod args;
pub mod findings;
pub mod host;
pub mod install;
pub mod nft;
pub mod options;
pub mod report;
pub mod rules;
pub mod ruleset;
pub mod state;
pub mod uninstall;

use std::path::PathBuf;

/// Why the host is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum RedirectFault {
    /// The kernel or nft.
    #[error(transparent)]
    Nft(#[from] nft::NftFault),
    /// The user of the proxy.
    #[error("--dp-user {0:?} is no user of this host. Make it first (useradd --system {0}), or give its uid")]
    User(String),
    /// A file.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The state file is not ours.
    #[error("{0} is no state file of this program: {1}. Nothing is changed")]
    State(PathBuf, serde_json::Error),
    /// Another install or uninstall runs.
    #[error("{0} is locked: another install or uninstall runs")]
    Locked(PathBuf),
    /// The host cannot be looked at.
    #[error("cannot look at this host's connections: {0}")]
    Host(#[from] procfs::ProcError),
    /// Everything that is in the way.
    #[error("nothing is changed, because:{}\nSolve that, or give --force to install all the same", list(.0))]
    Conflicts(Vec<String>),
    /// A table that this program does not know.
    #[error(
        "there is a table {table}, but {state} does not know it. Look at it (nft list table {table}); \
         `uninstall transparent-proxy --force` removes it"
    )]
    Unknown {
        /// Family and name.
        table: &'static str,
        /// The state file.
        state: PathBuf,
    },
    /// Somebody changed our table.
    #[error(
        "the table {0} was changed after it was installed (nft list table {0}). `uninstall transparent-proxy --force` removes it \
         with the changes"
    )]
    Changed(&'static str),
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  - {line}")).collect()
}
