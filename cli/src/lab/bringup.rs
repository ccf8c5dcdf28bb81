//! Bringing the lab up, member by member, each as soon as what it needs serves.

use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;

use super::{
    Lab, certificates, documents,
    layout::{GATEWAY_PORT, at, project},
    member::{AZURE, Member},
    probe, process,
    say::Say,
};

/// The lab's global among the contexts of the command line.
pub(super) const CONTEXT: &str = "lab";
/// A change of a document is everywhere long before.
const SETTLE: Duration = Duration::from_secs(30);

impl Lab {
    /// Starts all that the lab has, and waits until the catalog answers through every zone's gateway.
    pub async fn bring_up(&self, say: &Say) -> Result<()> {
        let state = self.state();
        certificates::ensure_ca(&self.layout.folder("ca"))?;
        if state.postgres.is_some() {
            self.start(&Member::Postgres).await?;
            say.step("postgres: takes connections");
        }
        self.start(&Member::Global).await?;
        say.step(format!("global: ready, REST at {}", self.global_access().url));
        self.write_context(say).await?;
        self.apply_documents(say).await?;
        try_join_all(state.zones.iter().map(|zone| self.start_zone(zone, say))).await?;
        for added in &state.gateways {
            self.start(&Member::AddedSidecar(added.clone())).await?;
            self.start(&Member::AddedGateway(added.clone())).await?;
            say.step(format!("{} in {}: serves {}", added.name, added.zone, added.upstream));
        }
        try_join_all(state.zones.iter().map(|zone| self.wait_for_catalog(zone, say))).await?;
        Ok(())
    }

    /// Starts what one zone has.
    pub async fn start_zone(&self, zone: &str, say: &Say) -> Result<()> {
        self.start(&Member::Plane(zone.to_owned())).await?;
        say.step(format!("{zone}: zone control plane has joined and is ready"));
        let mut proxies = vec![Member::Ingress(zone.to_owned()), Member::Sidecar(zone.to_owned())];
        if zone == AZURE {
            proxies.push(Member::Client(zone.to_owned()));
        }
        if super::member::service(zone).is_some() {
            proxies.push(Member::Backend(zone.to_owned()));
        }
        try_join_all(proxies.iter().map(|member| self.start(member))).await?;
        say.step(format!("{zone}: ingress and sidecars have their configuration"));
        self.start(&Member::Gateway(zone.to_owned())).await?;
        say.step(format!("{zone}: gateway serves"));
        Ok(())
    }

    /// Waits until the catalog answers through a zone's gateway.
    pub async fn wait_for_catalog(&self, zone: &str, say: &Say) -> Result<()> {
        let client = probe::Outside::new(&self.layout.ca(), "catalog.acme.corp", at(self.zone(zone)?.sidecar(), GATEWAY_PORT))?;
        let last = std::sync::Mutex::new(String::new());
        let answered = process::until(SETTLE, async || {
            let got = client.get("/").await;
            let said =
                got.as_ref().map_or_else(|error| format!("{error:#}"), |answer| format!("{} {}", answer.status, answer.body));
            *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = said;
            got.is_ok_and(|answer| answer.status == 200)
        });
        if !answered.await {
            let said = last.into_inner().unwrap_or_default();
            bail!("the catalog does not answer from {zone} after {} s; last: {said}", SETTLE.as_secs());
        }
        say.step(format!("{zone}: the catalog answers"));
        Ok(())
    }

    /// Applies `deploy/lab/*.yaml` and the permissions of zones that were added, with `atoll apply`.
    async fn apply_documents(&self, say: &Say) -> Result<()> {
        let folder = project()?.join("deploy/lab");
        self.atoll(&["--context", CONTEXT, "apply", "-f", &folder.to_string_lossy()]).await?;
        for zone in self.state().zones.iter().skip(2) {
            self.allow(zone).await?;
        }
        say.step("global: hostnames, identity, TLS and permissions applied (deploy/lab/*.yaml)");
        Ok(())
    }

    /// Lets a zone's proxies call.
    pub async fn allow(&self, zone: &str) -> Result<()> {
        self.global()?.put(&documents::permission_path(zone), &documents::permission(zone)).await?;
        Ok(())
    }

    async fn write_context(&self, say: &Say) -> Result<()> {
        let operator = self.layout.folder("global").join("operator.yaml");
        self.atoll(&["context", "add", "--name", CONTEXT, "--from", &operator.to_string_lossy()]).await?;
        say.step(format!("atoll: context `{CONTEXT}` written and in use"));
        Ok(())
    }

    /// Runs this program's own command line, as a person would.
    pub async fn atoll(&self, args: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(&self.programs.atoll);
        command.args(args).stdin(Stdio::null());
        if let Some(folder) = &self.config_dir {
            command.env("ATOLL_CONFIG", folder);
        }
        let output = command.output().await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("atoll {}: {}{}", args.join(" "), output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Fails when somebody else listens where a member must.
    pub fn check_addresses(&self) -> Result<()> {
        self.check_addresses_of(|_| true)
    }

    /// The same for one zone that is new.
    pub fn check_new_addresses(&self, zone: &str) -> Result<()> {
        self.check_addresses_of(|member| match member {
            Member::Plane(of) | Member::Ingress(of) | Member::Sidecar(of) | Member::Gateway(of) => of == zone,
            Member::Client(of) | Member::Backend(of) => of == zone,
            Member::Postgres | Member::Global | Member::AddedSidecar(_) | Member::AddedGateway(_) => false,
        })
    }

    fn check_addresses_of(&self, which: impl Fn(&Member) -> bool) -> Result<()> {
        let state = self.state();
        for member in Member::all(&state).into_iter().filter(which) {
            for address in member.listens(&self.layout, &state)? {
                TcpListener::bind(address).map(drop).with_context(|| {
                    format!(
                        "{} needs {address}, which is taken (another lab?). End what listens there, or choose other addresses with \
                         `--offset`, e.g. `ATOLL_LAB_OFFSET=120 make lab`",
                        member.name()
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Ends everything, traffic first and the store last.
    pub async fn end_all(&self) {
        let members = self.members();
        for wave in 0..=3 {
            let names = members.iter().filter(|member| member.wave() == wave).map(Member::name);
            let ends = names.map(|name| async move {
                self.processes.stop(&name).await;
            });
            futures::future::join_all(ends).await;
            for member in members.iter().filter(|member| member.wave() == wave && member.is_dataplane()) {
                end_orphan(&self.layout.dataplane(&member.name())).await;
            }
        }
    }
}

/// Ends the Envoy of an `atoll-dp` that died: it outlives its runner on purpose. The runner's folder says which process it is.
pub async fn end_orphan(config_dir: &Path) {
    if let Some(envoy) = envoy_of(config_dir) {
        envoy.end(Duration::from_secs(5)).await;
    }
}

/// The Envoy that runs for an `atoll-dp`, by what the runner's folder says: it is no child of the runner.
pub fn envoy_of(config_dir: &Path) -> Option<process::Identity> {
    let record = std::fs::read(config_dir.join("envoy.json")).ok()?;
    serde_json::from_slice::<process::Identity>(&record).ok().filter(process::Identity::is_alive)
}
