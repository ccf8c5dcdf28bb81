//! The planes under measurement: global on a Postgres of its own, two zones, all real programs with TLS.

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use atoll_store::testing::Postgres;
use serde_json::json;
use tempfile::TempDir;

use crate::{process::Program, rest::Rest};

/// Everything; ends with this value.
pub(crate) struct Rig {
    pub(crate) global: Plane,
    pub(crate) zones: Vec<Zone>,
    store: String,
    postgres: Postgres,
    folder: TempDir,
}

/// One plane.
pub(crate) struct Plane {
    pub(crate) program: Program,
    pub(crate) rest: Rest,
    /// `address:port` of REST without TLS.
    pub(crate) plain: String,
    /// URL that says whether the plane can do its job.
    pub(crate) ready: String,
}

/// One zone.
pub(crate) struct Zone {
    pub(crate) plane: Plane,
    /// Where proxies connect.
    pub(crate) dataplanes: String,
    /// PEM file of the CA of that port.
    pub(crate) ca: PathBuf,
}

impl Rig {
    /// Starts global and the zones, and waits until they are joined.
    pub(crate) async fn start(programs: &Path, zones: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("atoll-bench").tempdir()?;
        let postgres = Postgres::start().await.map_err(|error| anyhow!(error))?;
        let url = postgres.database().await.map_err(|error| anyhow!(error))?;
        let ports = free_ports(5)?;
        let global = global(programs, folder.path(), "global", &url, &ports, None).await?;
        let at = |index: usize| format!("127.0.0.1:{}", ports[index]);
        let mut started = Vec::new();
        for name in zones {
            started.push(zone(programs, folder.path(), name, &global.rest, &at(3), &at(4)).await?);
        }
        Ok(Self { global, zones: started, store: url, postgres, folder })
    }

    /// Starts one more instance of global on the same database.
    pub(crate) async fn second_global(&self, programs: &Path) -> Result<Plane> {
        let key = self.folder.path().join("global/seal.key");
        global(programs, self.folder.path(), "global-2", &self.store, &free_ports(5)?, Some((&key, &self.global))).await
    }

    /// The database server.
    pub(crate) fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// URL of global's database.
    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// Where the planes keep their data: the disk to probe.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Starts an instance of global. A further one gets the sealing key and the credential of the first.
async fn global(
    programs: &Path,
    folder: &Path,
    name: &str,
    store: &str,
    ports: &[u16],
    first: Option<(&Path, &Plane)>,
) -> Result<Plane> {
    let data = folder.join(name);
    if let Some((key, _)) = first {
        std::fs::DirBuilder::new().mode(0o700).create(&data)?;
        std::fs::copy(key, data.join("seal.key"))?;
    }
    let at = |index: usize| format!("127.0.0.1:{}", ports[index]);
    let args = [
        ("--data-dir", data.display().to_string()),
        ("--store", store.to_owned()),
        ("--rest-listen", at(0)),
        ("--rest-tls-listen", at(1)),
        ("--diagnostics-listen", at(2)),
        ("--link-listen", at(3)),
        ("--join-listen", at(4)),
        // The cells of W6 create more than a plane takes by default.
        ("--limit-resources", "10000000".to_owned()),
        ("--limit-resources-per-mesh", "10000000".to_owned()),
    ];
    let mut program = Program::start(name, &programs.join("global-cp"), &flags(&args), folder)?;
    program.ready(&format!("http://{}/ready", at(2))).await.with_context(|| log(folder, name))?;
    let rest = match first {
        None => Rest::from_data(&data)?,
        Some((_, first)) => first.rest.at(&format!("https://{}", at(1))),
    };
    Ok(Plane { program, rest, plain: at(0), ready: format!("http://{}/ready", at(2)) })
}

async fn zone(programs: &Path, folder: &Path, name: &str, global: &Rest, link: &str, join: &str) -> Result<Zone> {
    let token = global.token("/tokens/zone", &json!({ "zone": name, "validFor": "10m" })).await?;
    let token_file = folder.join(format!("{name}.token"));
    std::fs::write(&token_file, token)?;
    let ports = free_ports(4)?;
    let at = |index: usize| format!("127.0.0.1:{}", ports[index]);
    let data = folder.join(name);
    let args = [
        ("--zone", name.to_owned()),
        ("--data-dir", data.display().to_string()),
        ("--global", link.to_owned()),
        ("--join", join.to_owned()),
        ("--join-token-file", token_file.display().to_string()),
        ("--rest-listen", at(0)),
        ("--rest-tls-listen", at(1)),
        ("--diagnostics-listen", at(2)),
        ("--dp-listen", at(3)),
    ];
    let mut program = Program::start(name, &programs.join("zone-cp"), &flags(&args), folder)?;
    program.ready(&format!("http://{}/ready", at(2))).await.with_context(|| log(folder, name))?;
    let plane = Plane { program, rest: Rest::from_data(&data)?, plain: at(0), ready: format!("http://{}/ready", at(2)) };
    // The zone serves before its first copy is complete; the mesh is the sign that it is.
    for _ in 0..200 {
        if plane.rest.get("/meshes/default").await.is_ok() {
            return Ok(Zone { plane, dataplanes: at(3), ca: data.join("dp-ca.pem") });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("zone {name} did not get the mesh: {}", log(folder, name))
}

fn flags(args: &[(&str, String)]) -> Vec<String> {
    args.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]).collect()
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    (0..count).map(|_| Ok(atoll_runtime::testing::free_address()?.port())).collect()
}

/// The end of a program's log, for the error that names it.
fn log(folder: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("log of {name}: {}", lines[lines.len().saturating_sub(5)..].join(" | "))
}
