//! MeshExternalService: a service outside the mesh.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{hostname_generator::Extension, is_dns_name};
use crate::{
    Violation,
    data_source::{self, SecureDataSource, SourceKind},
    document::{Checked, check_spec},
    schema::Schema,
    tls::{self, VersionRange},
    violation::Path,
};

/// The spec of a MeshExternalService.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshExternalService {
    /// What clients of the mesh connect to.
    #[serde(rename = "match")]
    pub matched: Match,
    /// Kuma's extension point; endpoints and TLS are its own then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// Where the service is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// How the egress speaks TLS to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// What clients of the mesh connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// How names are made.
    #[serde(default, rename = "type")]
    pub kind: MatchKind,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What is spoken there.
    #[serde(default)]
    pub protocol: Protocol,
}

/// How names are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MatchKind {
    /// By HostnameGenerators.
    #[default]
    HostnameGenerator,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protocol {
    #[default]
    Tcp,
    Grpc,
    Http,
    Http2,
}

/// One place of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// IP address or host name.
    #[schemars(length(min = 1))]
    pub address: String,
    /// Port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Envoy's priority, 0 to 128; lower ones come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub priority: Option<u8>,
}

/// How the egress speaks TLS to the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Whether it does.
    #[serde(default)]
    pub enabled: bool,
    /// Versions, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionRange>,
    /// Whether sessions may be negotiated again.
    #[serde(default)]
    pub allow_renegotiation: bool,
    /// Whom it believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

/// Whom the egress believes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// What is verified.
    #[serde(default)]
    pub mode: VerificationMode,
    /// The server name to ask for; the first host name of the endpoints, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Names that the certificate may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SanMatch>,
    /// The CA; those of the system, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<SecureDataSource>,
    /// The egress' own certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<SecureDataSource>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<SecureDataSource>,
}

/// What is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VerificationMode {
    /// CA, not names.
    SkipSAN,
    /// Names, not CA.
    SkipCA,
    /// Both.
    #[default]
    Secured,
    /// Nothing.
    SkipAll,
}

/// A name that a certificate may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SanMatch {
    /// How `value` is compared.
    #[serde(default, rename = "type")]
    pub kind: SanMatchKind,
    /// The name, or its start.
    pub value: String,
}

/// How a name is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SanMatchKind {
    /// The whole name.
    #[default]
    Exact,
    /// Its start.
    Prefix,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshExternalService>);

/// Checks a spec. With an extension, endpoints and TLS are the extension's, but never where secrets are read from.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshExternalService>(&SCHEMA, spec, |service, path| {
        let mut faults = Vec::new();
        let tls_path = path.field("tls");
        let verification = service.tls.as_ref().and_then(|tls| tls.verification.as_ref());
        match &service.extension {
            None => {
                for (i, endpoint) in service.endpoints.iter().enumerate() {
                    faults.extend(check_endpoint(endpoint, &path.field("endpoints").index(i)));
                }
                if let Some(tls) = &service.tls {
                    faults.extend(check_tls(tls, &tls_path));
                }
            }
            Some(extension) if extension.kind.is_empty() => {
                faults.push(path.field("extension").field("type").violation("must not be empty"));
            }
            Some(_) => {}
        }
        if let Some(verification) = verification {
            faults.extend(check_sources(verification, &tls_path.field("verification")));
        }
        faults
    })
}

fn check_endpoint(endpoint: &Endpoint, path: &Path) -> Option<Violation> {
    let known = endpoint.address.parse::<std::net::IpAddr>().is_ok() || is_dns_name(&endpoint.address);
    (!known).then(|| path.field("address").violation("address has to be a valid IP or hostname"))
}

fn check_tls(tls: &Tls, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    if let Some(range) = &tls.version {
        faults.extend(tls::check_range(range, &path.field("version")));
    }
    let Some(verification) = &tls.verification else { return faults };
    let path = path.field("verification");
    if verification.server_name.as_ref().is_some_and(|name| !is_dns_name(name)) {
        faults.push(path.field("serverName").violation("must be a valid DNS name"));
    }
    match (&verification.client_cert, &verification.client_key) {
        (Some(_), None) => faults.push(path.field("clientKey").violation("must be defined when clientCert is defined")),
        (None, Some(_)) => faults.push(path.field("clientCert").violation("must be defined when clientKey is defined")),
        (Some(_), Some(_)) | (None, None) => {}
    }
    faults
}

/// Files and variables of the control plane are not for authors of services to read.
fn check_sources(verification: &Verification, path: &Path) -> Vec<Violation> {
    let sources =
        [("caCert", &verification.ca_cert), ("clientCert", &verification.client_cert), ("clientKey", &verification.client_key)];
    let mut faults = Vec::new();
    for (name, source) in sources.into_iter().filter_map(|(name, source)| Some((name, source.as_ref()?))) {
        let path = path.field(name);
        match source.kind {
            SourceKind::File | SourceKind::EnvVar => {
                let message = format!("{} must be one of: Secret, InsecureInline", source.kind.name());
                faults.push(path.field("type").violation(message));
            }
            SourceKind::Secret | SourceKind::InsecureInline => faults.extend(data_source::check(source, &path)),
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(spec: &Value) -> Vec<String> {
        check(spec).violations.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_minimal_service_is_valid() {
        let spec = json!({"match": {"port": 80}, "endpoints": [{"address": "example.com", "port": 443, "priority": 1}]});
        assert_eq!(fields(&spec), Vec::<String>::new());
    }

    #[test]
    fn secrets_come_from_secrets_even_with_an_extension() {
        let verification = json!({"caCert": {"type": "File", "file": {"path": "/etc/shadow"}}});
        let spec = json!({"match": {"port": 80}, "extension": {"type": "x"}, "tls": {"verification": verification}});
        assert_eq!(fields(&spec), ["spec.tls.verification.caCert.type"]);
    }

    #[test]
    fn faults_are_named_by_their_path() {
        let tls = json!({
            "version": {"min": "TLS13", "max": "TLS12"},
            "verification": {
                "serverName": "not[]valid",
                "clientKey": {"type": "Secret", "secretRef": {"kind": "Secret", "name": ""}},
            },
        });
        let spec = json!({"match": {"port": 80}, "endpoints": [{"address": "a b", "port": 1}], "tls": tls});
        let expected = [
            "spec.endpoints[0].address",
            "spec.tls.version.min",
            "spec.tls.verification.serverName",
            "spec.tls.verification.clientCert",
            "spec.tls.verification.clientKey.secretRef.name",
        ];
        assert_eq!(fields(&spec), expected);
    }
}
