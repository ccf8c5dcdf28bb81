//! The server name that routes a connection through a zone ingress: `sni.<short>.<mesh>[.<zone>].<name>.<section>`.

use crate::{Kind, kri::Kri, names};

/// The ALPN protocol of connections inside the mesh.
pub const ALPN: &str = "kuma";

/// The server name of one port of a destination.
///
/// # Errors
/// When a part is no DNS label or the whole is too long; such a destination has no server name and gets no mesh TLS.
pub fn encode(destination: &Kri) -> Result<String, SniError> {
    let parts = [&destination.mesh, &destination.zone, &destination.name, &destination.section];
    let mut sni = format!("sni.{}", destination.kind.descriptor().short);
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if !names::is_rfc1123_label(part) {
            return Err(SniError(destination.to_string()));
        }
        sni.push('.');
        sni.push_str(part);
    }
    if sni.len() > names::NAME_MAX { Err(SniError(destination.to_string())) } else { Ok(sni) }
}

/// What keeps a destination from having a server name, in Kuma's words.
pub fn faults(destination: &Kri) -> Vec<String> {
    if destination.mesh.is_empty() || destination.name.is_empty() || destination.section.is_empty() {
        return vec!["mesh, name and sectionName must be non-empty".to_owned()];
    }
    let named = [("mesh", &destination.mesh), ("name", &destination.name), ("zone", &destination.zone)];
    let mut faults = Vec::new();
    for (part, text) in named.into_iter().filter(|(_, text)| !text.is_empty()) {
        let messages = names::dns_label_faults(text);
        if !messages.is_empty() {
            faults.push(format!("{part} {text:?} does not conform to RFC 1123: {}", messages.join("; ")));
        }
    }
    let messages = names::dns_label_faults(&destination.section);
    faults.extend((!messages.is_empty()).then(|| messages.join("; ")));
    let parts =
        [destination.kind.descriptor().short, &destination.mesh, &destination.zone, &destination.name, &destination.section];
    let length = "sni".len() + parts.iter().filter(|part| !part.is_empty()).map(|part| 1 + part.len()).sum::<usize>();
    if length > names::NAME_MAX {
        faults.push(format!("computed SNI is {length} characters which exceeds the DNS hostname limit ({})", names::NAME_MAX));
    }
    faults
}

/// Reads what [`encode`] wrote for a zone's service; `None` for anything else.
pub fn decode(sni: &str) -> Option<Kri> {
    let parts: Vec<&str> = sni.split('.').collect();
    let (short, mesh, zone, name, section) = match parts[..] {
        ["sni", short, mesh, zone, name, section] => (short, mesh, zone, name, section),
        ["sni", short, mesh, name, section] => (short, mesh, "", name, section),
        _ => return None,
    };
    if !parts.iter().all(|part| names::is_rfc1123_label(part)) {
        return None;
    }
    let kind = Kind::from_short(short)?;
    Some(Kri { kind, mesh: mesh.into(), zone: zone.into(), name: name.into(), section: section.into() })
}

/// A destination whose parts do not fit into a server name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} has no server name: every part must be a DNS label of at most 63 characters, 253 in all")]
pub struct SniError(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(mesh: &str, zone: &str, name: &str, section: &str) -> Kri {
        Kri { kind: Kind::MeshService, mesh: mesh.into(), zone: zone.into(), name: name.into(), section: section.into() }
    }

    #[test]
    fn kumas_example() {
        let sni = encode(&service("default", "zone-1", "redis-zone-1", "6739"));
        assert_eq!(sni.as_deref(), Ok("sni.msvc.default.zone-1.redis-zone-1.6739"));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(encode(&service("default", "zone-1", "a.b", "80")).is_err());
        assert!(encode(&service(&"m".repeat(63), &"z".repeat(63), &"n".repeat(63), &"s".repeat(63))).is_err());
        for bad in ["sni.msvc.default.z.a.80.", "sni.msvc.Default.z.a.80", "sni.nope.default.z.a.80", "a.b", ""] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(
            mesh in "[a-z][a-z0-9]{0,9}", zone in "[a-z][a-z0-9-]{0,5}[a-z]", name in "[a-z][a-z0-9]{0,20}", section in "[0-9]{1,5}|[a-z]{1,9}",
        ) {
            let kri = service(&mesh, &zone, &name, &section);
            prop_assert_eq!(decode(&encode(&kri).unwrap()), Some(kri));
        }
    }
}
