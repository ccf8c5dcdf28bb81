//! The program `nft`, which talks to the kernel.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use super::rules::TABLE;

/// Where `nft` is when PATH, which for a daemon may be short, has not got it.
const PLACES: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NftFault {
    /// It is not installed.
    #[error("redirection needs the program nft, of the package nftables: {0}")]
    Missing(std::io::Error),
    /// Somebody else runs it.
    #[error("only root (CAP_NET_ADMIN) may read and change redirection")]
    Forbidden,
    /// It, or the kernel, says no.
    #[error("nft refused, and nothing is changed: {0}")]
    Refused(String),
}

/// The whole ruleset of this network namespace, without counters.
///
/// # Errors
/// As `nft` says.
pub fn ruleset() -> Result<String, NftFault> {
    run(&["-s", "list", "ruleset"], "").map(|output| text(&output.stdout))
}

/// Our table as the kernel has it, if it is there.
///
/// # Errors
/// As `nft` says.
pub fn table() -> Result<Option<String>, NftFault> {
    let tables = text(&run(&["list", "tables"], "")?.stdout);
    if !tables.lines().any(|line| line == format!("table {TABLE}")) {
        return Ok(None);
    }
    let arguments: Vec<_> = ["-s", "list", "table"].into_iter().chain(TABLE.split(' ')).collect();
    run(&arguments, "").map(|output| Some(text(&output.stdout)))
}

/// Does all of a script, or nothing.
///
/// # Errors
/// As `nft` says; then nothing is changed.
pub fn apply(script: &str) -> Result<(), NftFault> {
    run(&["-f", "-"], script).map(drop)
}

/// What version runs.
///
/// # Errors
/// When it is not there.
pub fn version() -> Result<String, NftFault> {
    run(&["--version"], "").map(|output| text(&output.stdout).trim().to_owned())
}

fn run(arguments: &[&str], input: &str) -> Result<Output, NftFault> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("nft");
    command.args(arguments).env("PATH", format!("{path}:{PLACES}")).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(NftFault::Missing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it ended already, its own words say more.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(NftFault::Missing)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = text(&output.stderr);
    if said.contains("Operation not permitted") {
        return Err(NftFault::Forbidden);
    }
    Err(NftFault::Refused(said.trim().to_owned()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
