//! MeshIdentity: how proxies get their workload identity.

use std::{collections::BTreeMap, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hostname_generator::LabelSelector;
use crate::{
    Labels, Violation, ZoneUid,
    data_source::{self, SecureDataSource},
    document::{Checked, check_spec},
    duration::GoDuration,
    hostname::{self, TemplateError},
    schema::Schema,
    spiffe::{SpiffeId, TrustDomain},
    violation::Path,
};

/// Trust domain of a MeshIdentity that names none.
pub const DEFAULT_TRUST_DOMAIN: &str = "{{ .Mesh }}.{{ .Zone }}.mesh.local";
/// Path of a MeshIdentity that names none.
pub const DEFAULT_PATH: &str = "/workload/{{ .Workload }}";

/// The spec of a MeshIdentity, with its computed part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshIdentity {
    /// Which dataplanes. Absent: none. Empty labels: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Templates of the identity.
    #[serde(default, rename = "spiffeID", skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<SpiffeIdTemplate>,
    /// Who issues. Absent: ids are published, no certificates are issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Computed by global: zone UID → the trust domain that was recorded for it, once and for ever. A zone's MeshTrust is
    /// accepted for this domain only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trust_domains: BTreeMap<String, String>,
}

/// Which dataplanes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Selector {
    /// By labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataplane: Option<LabelSelector>,
}

/// Templates of the identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpiffeIdTemplate {
    /// See [`DEFAULT_TRUST_DOMAIN`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// See [`DEFAULT_PATH`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Who issues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provider {
    /// Which of the branches holds.
    #[serde(rename = "type")]
    pub kind: ProviderKind,
    /// The zone's control plane issues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundled: Option<Bundled>,
    /// A SPIRE agent issues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spire: Option<Spire>,
    /// Kuma's extension point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<ProviderExtension>,
}

/// A SPIRE agent as issuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spire {
    /// How it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<SpireAgent>,
}

/// How a SPIRE agent is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpireAgent {
    /// Of a request; 1 s, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
}

/// An extension as issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderExtension {
    /// Its name.
    pub name: String,
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
}

/// The kinds of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProviderKind {
    /// The zone's control plane.
    Bundled,
    /// A SPIRE agent.
    Spire,
    /// An extension.
    Extension,
}

/// The zone's control plane as issuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bundled {
    /// Whether zones publish their CA; yes, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_trust_creation: Option<MeshTrustCreation>,
    /// Accepts a CA that signed itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_allow_self_signed: bool,
    /// Each zone makes its own CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autogenerate: Option<Autogenerate>,
    /// A CA from the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// Of the leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_parameters: Option<CertificateParameters>,
}

/// Whether zones publish their CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MeshTrustCreation {
    /// They do.
    Enabled,
    /// They do not.
    Disabled,
}

/// Each zone makes its own CA.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Autogenerate {
    /// Whether they do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enabled: bool,
}

/// A CA from the operator: references to data sources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSource {
    /// Its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SecureDataSource>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<SecureDataSource>,
}

/// Of the leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateParameters {
    /// Life of a leaf; 24 h, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<GoDuration>,
}

impl MeshIdentity {
    /// Whether it selects a dataplane with these labels; the number of labels is the strength of the match.
    pub fn selects(&self, dataplane: &Labels) -> Option<usize> {
        let labels = &self.selector.as_ref()?.dataplane.as_ref()?.match_labels;
        crate::labels::matches(labels, dataplane).then_some(labels.len())
    }

    /// The trust domain in one zone.
    ///
    /// # Errors
    /// When the template fails or its text is no trust domain.
    pub fn trust_domain(&self, mesh: &str, zone: &str) -> Result<TrustDomain, TemplateError> {
        let given = self.spiffe_id.as_ref().and_then(|id| id.trust_domain.as_deref());
        let template = given.filter(|template| !template.is_empty()).unwrap_or(DEFAULT_TRUST_DOMAIN);
        let text = hostname::render(template, &[("Mesh", mesh), ("Zone", zone)], &Labels::new())?;
        text.parse().map_err(|_| TemplateError::NotAName(text))
    }

    /// The trust domain in one zone: what global recorded for it, which does not move when a zone is renamed, else what the
    /// template gives.
    ///
    /// # Errors
    /// As [`MeshIdentity::trust_domain`].
    pub fn trust_domain_in(&self, mesh: &str, zone: &str, uid: ZoneUid) -> Result<TrustDomain, TemplateError> {
        match self.trust_domains.get(&uid.to_string()) {
            Some(recorded) => recorded.parse().map_err(|_| TemplateError::NotAName(recorded.clone())),
            None => self.trust_domain(mesh, zone),
        }
    }

    fn path_template(&self) -> &str {
        let given = self.spiffe_id.as_ref().and_then(|id| id.path.as_deref());
        given.filter(|template| !template.is_empty()).unwrap_or(DEFAULT_PATH)
    }

    /// The id of one dataplane in a trust domain.
    ///
    /// # Errors
    /// When the template fails (no workload label, for instance) or its text is no path.
    pub fn spiffe_id(&self, domain: &TrustDomain, fields: &IdentityFields<'_>) -> Result<SpiffeId, TemplateError> {
        let template = self.path_template();
        let mut values = vec![("TrustDomain", domain.as_str()), ("Mesh", fields.mesh), ("Zone", fields.zone)];
        if let Some(workload) = fields.labels.get(crate::labels::WORKLOAD) {
            values.push(("Workload", workload));
        }
        let path = hostname::render(template, &values, fields.labels)?;
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let text = format!("spiffe://{domain}{path}");
        text.parse().map_err(|_| TemplateError::NotAName(text))
    }
}

/// What the templates see of a dataplane.
#[derive(Clone, Copy, Debug)]
pub struct IdentityFields<'a> {
    /// `.Mesh`.
    pub mesh: &'a str,
    /// `.Zone`.
    pub zone: &'a str,
    /// For `.Workload` and `label "key"`.
    pub labels: &'a Labels,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshIdentity>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    let mut checked = check_spec::<MeshIdentity>(&SCHEMA, spec, |identity, path| {
        let mut faults = check_templates(identity, &path.field("spiffeID"));
        if let Some(provider) = &identity.provider {
            faults.extend(check_provider(provider, &path.field("provider")));
        }
        faults
    });
    if checked.violations.is_empty()
        && let Ok(identity) = serde_json::from_value::<MeshIdentity>(spec.clone())
    {
        checked.not_enforced.extend(identity.provider.and_then(|provider| not_enforced(&provider)).map(str::to_owned));
    }
    checked
}

/// What of a provider is stored without effect: others than the zones, and an operator's CA, by which no zone issues yet.
fn not_enforced(provider: &Provider) -> Option<&'static str> {
    match (provider.kind, &provider.bundled) {
        (ProviderKind::Spire | ProviderKind::Extension, _) => Some("spec.provider"),
        (ProviderKind::Bundled, Some(bundled)) if bundled.ca.is_some() => Some("spec.provider.bundled.ca"),
        (ProviderKind::Bundled, _) => None,
    }
}

/// Both templates must give an id for made-up values. Those of Kubernetes are known too: the document may come from there.
fn check_templates(identity: &MeshIdentity, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    if let Err(error) = identity.trust_domain("mesh", "zone") {
        faults.push(path.field("trustDomain").violation(error.to_string()));
    }
    let template = identity.path_template();
    let labels: Labels = template.split('"').skip(1).step_by(2).map(|key| (key.to_owned(), "label".to_owned())).collect();
    let stubs = [
        ("TrustDomain", "domain"),
        ("Mesh", "mesh"),
        ("Zone", "zone"),
        ("Workload", "workload"),
        ("Namespace", "namespace"),
        ("ServiceAccount", "account"),
    ];
    let checked = hostname::render(template, &stubs, &labels).map_err(|error| error.to_string()).and_then(|text| {
        let slash = if text.starts_with('/') { "" } else { "/" };
        format!("spiffe://domain{slash}{text}").parse::<SpiffeId>().map_err(|error| error.to_string())
    });
    faults.extend(checked.err().map(|fault| path.field("path").violation(fault)));
    faults
}

fn check_provider(provider: &Provider, path: &Path) -> Vec<Violation> {
    let needed = |branch: &str| vec![path.field(branch).violation("configuration needs to be defined")];
    match provider.kind {
        ProviderKind::Bundled => match &provider.bundled {
            None => needed("bundled"),
            Some(bundled) => check_bundled(bundled, &path.field("bundled")),
        },
        ProviderKind::Spire => match &provider.spire {
            None => needed("spire"),
            Some(spire) => {
                let timeout = spire.agent.as_ref().and_then(|agent| agent.timeout);
                let path = path.field("spire").field("agent").field("timeout");
                let wrong = timeout.is_some_and(|timeout| timeout.0 < 0);
                wrong.then(|| path.violation("must not be negative when defined")).into_iter().collect()
            }
        },
        ProviderKind::Extension => match &provider.extension {
            None => needed("extension"),
            Some(extension) if extension.name.is_empty() => {
                vec![path.field("extension").field("name").violation("extension name needs to be defined")]
            }
            Some(_) => Vec::new(),
        },
    }
}

fn check_bundled(bundled: &Bundled, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    let autogenerate = bundled.autogenerate.as_ref().is_some_and(|autogenerate| autogenerate.enabled);
    match (&bundled.ca, autogenerate) {
        (Some(_), true) => faults.push(path.field("ca").violation("shouldn't be defined once using autogenerated")),
        (None, false) => faults.push(path.field("ca").violation("must be defined")),
        (Some(ca), false) => {
            for (name, source) in [("certificate", &ca.certificate), ("privateKey", &ca.private_key)] {
                let path = path.field("ca").field(name);
                match source {
                    None => faults.push(path.violation("must be defined")),
                    Some(source) => faults.extend(data_source::check(source, &path)),
                }
            }
        }
        (None, true) => {}
    }
    let expiry = bundled.certificate_parameters.as_ref().and_then(|parameters| parameters.expiry);
    if expiry.is_some_and(|expiry| expiry.0 < 0) {
        faults.push(path.field("certificateParameters").field("expiry").violation("must not be negative when defined"));
    }
    faults
}
