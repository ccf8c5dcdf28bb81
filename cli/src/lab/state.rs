//! What the lab remembers: `<lab>/state.json`. One writer, the supervisor; the other subcommands read it.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{layout::Layout, process::Identity};

/// The lab's state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// See [`Layout::offset`].
    pub offset: u8,
    /// Global's Postgres; none on the embedded store.
    pub postgres: Option<Postgres>,
    /// In the order in which they got their addresses.
    pub zones: Vec<String>,
    /// Gateways that were added.
    pub gateways: Vec<AddedGateway>,
    /// The running supervisor.
    pub supervisor: Option<Identity>,
    /// Whether the lab serves.
    pub ready: bool,
    /// What runs.
    pub processes: BTreeMap<String, Identity>,
}

/// Global's Postgres.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Postgres {
    /// Its folder.
    pub folder: PathBuf,
    /// Of its user `atoll`.
    pub password: String,
}

/// A gateway that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedGateway {
    /// Its zone.
    pub zone: String,
    /// Its name, and its workload's.
    pub name: String,
    /// Which of the zone's added gateways.
    pub number: u8,
    /// Where it sends requests.
    pub upstream: String,
}

impl State {
    fn path(layout: &Layout) -> PathBuf {
        layout.home.join("state.json")
    }

    /// Reads it; `None` when no lab was ever started here.
    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        let path = Self::path(layout);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let state = serde_json::from_slice(&bytes);
        state.with_context(|| format!("{} is damaged; `bin/atoll lab reset` starts over", path.display())).map(Some)
    }

    /// Writes it, whole or not at all.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        let path = Self::path(layout);
        atoll_runtime::files::write_secret(&path, &serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The running supervisor, if it really runs.
    pub fn running(&self) -> Option<Identity> {
        self.supervisor.filter(Identity::is_alive)
    }

    /// The place of a zone in the list of addresses.
    pub fn place(&self, zone: &str) -> Option<usize> {
        self.zones.iter().position(|name| name == zone)
    }
}

/// The state of a lab that runs and serves; else what to do.
pub fn ready(layout: &Layout) -> Result<State> {
    let state = State::load(layout)?.filter(|state| state.running().is_some());
    let state = state.context("no lab runs here: start one with `make lab`")?;
    anyhow::ensure!(state.ready, "the lab is not ready yet");
    Ok(state)
}
