//! One lab, as its supervisor holds it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;

use super::{
    admin,
    layout::{self, Layout, ZoneAddresses},
    member::{self, Member},
    process::Processes,
    state::State,
};

/// The programs that the lab runs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This program.
    pub atoll: PathBuf,
    /// The runner of proxies.
    pub atoll_dp: PathBuf,
    /// The global control plane.
    pub global_cp: PathBuf,
    /// The zone control plane.
    pub zone_cp: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
}

impl Programs {
    /// Finds all, or says what to do.
    pub fn find() -> Result<Self> {
        Ok(Self {
            atoll: std::env::current_exe()?,
            atoll_dp: layout::program("atoll-dp")?,
            global_cp: layout::program("global-cp")?,
            zone_cp: layout::program("zone-cp")?,
            envoy: admin::program(&layout::project()?)?,
        })
    }
}

/// One lab; clones share it.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Where everything is.
    pub layout: Layout,
    /// What it runs.
    pub programs: Programs,
    /// What runs.
    pub processes: Processes,
    /// The resolver that sidecars ask for foreign names; the machine's, unless set.
    pub dns_upstream: Option<String>,
    /// Where the command line keeps its contexts, when not at its usual place.
    pub config_dir: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

impl Lab {
    /// A lab of which nothing runs yet.
    pub fn new(layout: Layout, programs: Programs, state: State) -> Self {
        let state = Arc::new(Mutex::new(state));
        Self { layout, programs, processes: Processes::default(), dns_upstream: None, config_dir: None, state }
    }

    /// What it remembers, as it is now.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Changes what it remembers, and writes it down.
    pub fn change(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.lock();
        change(&mut state);
        state.save(&self.layout)
    }

    /// Writes down what runs.
    pub fn record(&self) -> Result<()> {
        let running = self.processes.running();
        self.change(|state| state.processes = running)
    }

    /// The addresses of a zone.
    pub fn zone(&self, zone: &str) -> Result<ZoneAddresses> {
        member::zone_addresses(&self.layout, &self.state(), zone)
    }

    /// All its members.
    pub fn members(&self) -> Vec<Member> {
        Member::all(&self.state())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
