//! Starting each member and waiting until it serves.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use atoll_runtime::files::{private_dir, write_atomic, write_secret};
use serde_json::{Value, json};

use super::{
    Lab,
    certificates::{self, Pair},
    credentials::Access,
    documents,
    gateway::{Gateway, Route, Upstream, mesh_name},
    layout::{DNS_PORT, GATEWAY_PORT, MESH, READINESS_PORT, at},
    member::{self, AZURE, GCP, Member},
    postgres,
    process::Spec,
    rest,
};

/// A plane or proxy that takes longer has a problem.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of a dataplane token.
const TOKEN_VALIDITY: &str = "720h";

impl Lab {
    /// Starts a member that does not run and waits until it serves.
    pub async fn start(&self, member: &Member) -> Result<()> {
        match member {
            Member::Postgres => {
                let known = self.state().postgres.clone().context("this lab has no Postgres")?;
                postgres::start(&self.layout, &known, &self.processes).await?;
            }
            Member::Global => self.start_global().await?,
            Member::Plane(zone) => self.start_plane(zone).await?,
            Member::Backend(zone) => self.start_backend(zone).await?,
            Member::Gateway(zone) => self.start_gateway(&member.name(), &self.gateway_of(zone)?).await?,
            Member::AddedGateway(added) => self.start_gateway(&member.name(), &self.added_gateway(added)?).await?,
            Member::Ingress(zone) | Member::Sidecar(zone) | Member::Client(zone) => self.start_dataplane(member, zone).await?,
            Member::AddedSidecar(added) => self.start_dataplane(member, &added.zone).await?,
        }
        self.record()
    }

    async fn start_global(&self) -> Result<()> {
        let address = self.layout.global();
        let data = self.layout.folder("global");
        private_dir(&data)?;
        let mut spec = Spec::new("global", self.programs.global_cp.clone(), self.layout.log("global"))
            .flag("--data-dir", &data)
            .flag("--rest-listen", at(address, 5681).to_string())
            .flag("--rest-tls-listen", at(address, 5682).to_string())
            .flag("--diagnostics-listen", at(address, 5680).to_string())
            .flag("--link-listen", at(address, 5685).to_string())
            .flag("--join-listen", at(address, 5686).to_string())
            .flag("--public-url", format!("https://{}", at(address, 5682)));
        if let Some(known) = &self.state().postgres {
            spec = spec.flag("--store", postgres::url(&self.layout, known));
        }
        self.processes.start(spec)?;
        self.processes.wait("global", PATIENCE, async || rest::answers(at(address, 5680), "/ready").await).await?;
        self.global_access().unpack(&data.join("operator.yaml"))
    }

    async fn start_plane(&self, zone: &str) -> Result<()> {
        let address = self.zone(zone)?.plane();
        let folder = self.layout.folder(zone);
        let data = folder.join("plane");
        private_dir(&data)?;
        let token = folder.join("join-token");
        let joined = folder.join("joined");
        if !joined.exists() {
            let given = self.global()?.post("/tokens/zone", &json!({"zone": zone})).await?;
            write_secret(&token, given.as_bytes())?;
        }
        let spec = Spec::new(zone, self.programs.zone_cp.clone(), self.layout.log(zone))
            .flag("--zone", zone)
            .flag("--data-dir", &data)
            .flag("--global", at(self.layout.global(), 5685).to_string())
            .flag("--join", at(self.layout.global(), 5686).to_string())
            .flag("--join-token-file", &token)
            .flag("--rest-listen", at(address, 5681).to_string())
            .flag("--rest-tls-listen", at(address, 5682).to_string())
            .flag("--diagnostics-listen", at(address, 5680).to_string())
            .flag("--dp-listen", at(address, 5678).to_string());
        self.processes.start(spec)?;
        self.processes.wait(zone, PATIENCE, async || rest::answers(at(address, 5680), "/ready").await).await?;
        write_atomic(&joined, b"", 0o644)?;
        self.zone_access(zone)?.unpack(&data.join("operator.yaml"))
    }

    async fn start_dataplane(&self, member: &Member, zone: &str) -> Result<()> {
        let name = member.name();
        let (document, address, outbounds) = self.dataplane_of(member)?;
        let folder = self.layout.folder(zone);
        let file = folder.join(format!("{name}.json"));
        let token = folder.join(format!("{name}.token"));
        write_atomic(&file, &serde_json::to_vec_pretty(&document)?, 0o644)?;
        self.ensure_dataplane_token(zone, &document, &token).await?;
        let config = self.layout.dataplane(&name);
        private_dir(&config)?;
        let mut spec = Spec::new(&name, self.programs.atoll_dp.clone(), self.layout.log(&name))
            .arg("run")
            .flag("--cp-address", format!("https://{}", at(self.zone(zone)?.plane(), 5678)))
            .flag("--ca-cert-file", folder.join("plane/dp-ca.pem"))
            .flag("--dataplane-token-file", &token)
            .flag("--dataplane-file", &file)
            .flag("--readiness-addr", address.to_string())
            .flag("--readiness-port", READINESS_PORT.to_string())
            .flag("--binary-path", &self.programs.envoy)
            .flag("--config-dir", &config)
            .flag("--access-log", self.layout.log(&format!("{name}-access")))
            .flag("--drain-time", "3s")
            .flag("--concurrency", "1");
        if let Some(outbounds) = outbounds {
            spec = spec
                .flag("--bind-outbounds", outbounds)
                .flag("--dns-addr", address.to_string())
                .flag("--dns-port", DNS_PORT.to_string());
            if let Some(upstream) = &self.dns_upstream {
                spec = spec.flag("--dns-upstream", upstream);
            }
        } else {
            spec = spec.flag("--dns-enabled", "false");
        }
        self.processes.start(spec)?;
        self.processes.wait(&name, PATIENCE, async || rest::answers(at(address, READINESS_PORT), "/ready").await).await
    }

    /// The document of an `atoll-dp`, its address, and where it binds the addresses of services.
    fn dataplane_of(&self, member: &Member) -> Result<(Value, std::net::IpAddr, Option<String>)> {
        Ok(match member {
            Member::Ingress(zone) => (documents::ingress(self.zone(zone)?), self.zone(zone)?.ingress(), None),
            Member::Sidecar(zone) => {
                let zone = self.zone(zone)?;
                (documents::sidecar(zone), zone.sidecar(), Some(zone.outbounds()))
            }
            Member::Client(zone) => {
                let zone = self.zone(zone)?;
                (documents::client(zone), zone.client(), Some(zone.client_outbounds()))
            }
            Member::AddedSidecar(added) => {
                let addresses = member::added(&self.layout, &self.state(), added)?;
                (documents::added_sidecar(&added.name, addresses), addresses.sidecar(), Some(addresses.outbounds()))
            }
            Member::Postgres
            | Member::Global
            | Member::Plane(_)
            | Member::Gateway(_)
            | Member::Backend(_)
            | Member::AddedGateway(_) => {
                anyhow::bail!("{} is no dataplane", member.name())
            }
        })
    }

    /// A token for one workload: from global, or from the zone when global is away. One that is there is kept for a week.
    async fn ensure_dataplane_token(&self, zone: &str, document: &Value, token: &PathBuf) -> Result<()> {
        let age = std::fs::metadata(token).and_then(|about| about.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age < Duration::from_secs(7 * 86_400)) {
            return Ok(());
        }
        let ask = json!({
            "mesh": MESH, "name": document["name"], "type": "dataplane",
            "workload": document["labels"]["kuma.io/workload"], "validFor": TOKEN_VALIDITY,
        });
        let given = match self.global()?.post("/tokens/dataplane", &ask).await {
            Ok(given) => given,
            Err(_) => self.zone_access(zone)?.plane()?.post("/tokens/dataplane", &ask).await?,
        };
        Ok(write_secret(token, given.as_bytes())?)
    }

    async fn start_backend(&self, zone: &str) -> Result<()> {
        let member = Member::Backend(zone.to_owned());
        let name = member.name();
        let address = at(self.zone(zone)?.backend(), super::layout::BACKEND_PORT);
        let spec = Spec::new(&name, self.programs.atoll.clone(), self.layout.log(&name))
            .arg("lab")
            .arg("backend")
            .flag("--listen", address.to_string())
            .flag("--service", member::service(zone).context("no service here")?)
            .flag("--zone", zone);
        self.processes.start(spec)?;
        self.processes.wait(&name, PATIENCE, async || rest::answers(address, "/").await).await
    }

    /// The gateway of a zone: what is here goes to the backend, the rest to the zone that has it.
    pub fn gateway_of(&self, zone: &str) -> Result<Gateway> {
        let addresses = self.zone(zone)?;
        let upstream_of = |owner: &str| -> Result<Upstream> {
            if owner == zone {
                Ok(Upstream::plain(at(addresses.backend(), super::layout::BACKEND_PORT)))
            } else {
                Ok(Upstream::gateway_of(owner))
            }
        };
        let mut routes = vec![
            Route { name: "catalog".into(), hosts: vec!["catalog.acme.corp".into()], upstream: upstream_of(GCP)? },
            Route { name: "orders".into(), hosts: vec!["orders.acme.corp".into()], upstream: upstream_of(AZURE)? },
        ];
        // Inside the mesh the gateway is asked by its own name: it answers with what its zone serves.
        let own = if zone == AZURE { 1 } else { 0 };
        routes[own].hosts.push(mesh_name(documents::GATEWAY, zone));
        let name = Member::Gateway(zone.to_owned()).name();
        Ok(Gateway {
            listen: at(addresses.gateway(), GATEWAY_PORT),
            admin: at(addresses.gateway(), super::layout::ADMIN_PORT),
            dns: at(addresses.sidecar(), DNS_PORT),
            certificate: self.gateway_certificate(&name, zone)?,
            ca: self.layout.ca(),
            access_log: self.layout.log(&format!("{name}-access")),
            routes,
            name,
        })
    }

    fn added_gateway(&self, added: &super::state::AddedGateway) -> Result<Gateway> {
        let addresses = member::added(&self.layout, &self.state(), added)?;
        let name = Member::AddedGateway(added.clone()).name();
        let hosts = vec![format!("{}.acme.corp", added.name), mesh_name(&added.name, &added.zone)];
        Ok(Gateway {
            listen: at(addresses.gateway(), GATEWAY_PORT),
            admin: at(addresses.gateway(), super::layout::ADMIN_PORT),
            dns: at(addresses.sidecar(), DNS_PORT),
            certificate: self.gateway_certificate(&name, &added.zone)?,
            ca: self.layout.ca(),
            access_log: self.layout.log(&format!("{name}-access")),
            routes: vec![Route { name: added.name.clone(), hosts, upstream: Upstream::parse(&added.upstream)? }],
            name,
        })
    }

    fn gateway_certificate(&self, name: &str, zone: &str) -> Result<Pair> {
        let ca = certificates::ensure_ca(&self.layout.folder("ca"))?;
        certificates::issue(&ca, &certificates::gateway_names(zone), &self.layout.folder(zone).join(name))
    }

    /// Starts a zone's gateway with other names in its certificate.
    pub async fn start_gateway_with(&self, zone: &str, names: &[String]) -> Result<()> {
        let gateway = self.gateway_of(zone)?;
        let ca = certificates::ensure_ca(&self.layout.folder("ca"))?;
        certificates::issue(&ca, names, &self.layout.folder(zone).join(&gateway.name))?;
        self.start_gateway(&gateway.name, &gateway).await?;
        self.record()
    }

    async fn start_gateway(&self, name: &str, gateway: &Gateway) -> Result<()> {
        let config = gateway.certificate.certificate.with_file_name("envoy.json");
        write_atomic(&config, &serde_json::to_vec_pretty(&gateway.bootstrap())?, 0o644)?;
        let spec = Spec::new(name, self.programs.envoy.clone(), self.layout.log(name))
            .flag("--config-path", &config)
            .arg("--disable-hot-restart")
            .flag("--concurrency", "1")
            .flag("--file-flush-interval-msec", "50")
            .flag("--log-level", "warning");
        self.processes.start(spec)?;
        let admin = super::admin::Admin::Tcp(gateway.admin);
        self.processes.wait(name, PATIENCE, async || admin.is_ready().await).await
    }

    /// Global's REST.
    pub fn global(&self) -> Result<rest::Plane> {
        self.global_access().plane()
    }

    /// Where to ask global.
    pub fn global_access(&self) -> Access {
        Access::of(&self.layout, "global", self.layout.global())
    }

    /// Where to ask a zone's plane.
    pub fn zone_access(&self, zone: &str) -> Result<Access> {
        Ok(Access::of(&self.layout, zone, self.zone(zone)?.plane()))
    }
}
