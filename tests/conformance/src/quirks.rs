//! What Kuma's cases say by accident: the one table of it. Atoll answers with the path that the document has.

use serde_json::Value;

/// What is meant by an expected field path of a kind.
enum Meant {
    /// This text instead of that.
    Instead(&'static str, &'static str),
    /// After this text, `name[0]` means `[0].name`: a list of objects with one field each.
    ListOf(&'static str),
}

use Meant::{Instead, ListOf};

const FIELD_PATHS: [(&str, Meant); 8] = [
    ("MeshCircuitBreaker", Instead("spec.from[", "spec.rules[")),
    ("MeshRetry", Instead(".default.conf", ".default")),
    ("MeshMetric", Instead(".backends.backend[", ".backends[")),
    ("MeshFaultInjection", ListOf(".default.http")),
    ("MeshTrafficPermission", Instead("].allow[", "].default.allow[")),
    ("MeshTrafficPermission", Instead("].allowWithShadowDeny[", "].default.allowWithShadowDeny[")),
    ("MeshTrafficPermission", Instead("].deny[", "].default.deny[")),
    ("Dataplane", Instead("transparentProxing", "transparentProxying")),
];

/// The path that is meant by an expected field of a document of `kind`.
pub(crate) fn field(kind: &str, expected: &str) -> String {
    let meant = FIELD_PATHS.iter().filter(|(of, _)| *of == kind).map(|(_, meant)| meant);
    meant.fold(expected.to_owned(), |field, meant| match meant {
        Instead(said, meant) => field.replacen(said, meant, 1),
        ListOf(start) => turned(&field, start).unwrap_or(field),
    })
}

fn turned(field: &str, start: &str) -> Option<String> {
    let (before, rest) = field.split_once(start)?;
    let (name, rest) = rest.strip_prefix('.')?.split_once('[')?;
    let (index, rest) = rest.split_once(']')?;
    (!name.contains('.')).then(|| format!("{before}{start}[{index}].{name}{rest}"))
}

/// Whether `actual` is what an expected `kri` or `sni` means: where that leaves the zone empty, Atoll says the plane's.
pub(crate) fn same_name(expected: &str, actual: &str, zone: Option<&str>) -> bool {
    expected == actual || zone.is_some_and(|zone| with_zone(expected, zone).as_deref() == Some(actual))
}

/// A KRI or a server name without a zone, with this one.
fn with_zone(name: &str, zone: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("sni.") {
        let parts: Vec<&str> = rest.split('.').collect();
        let [short, mesh, rest @ ..] = &parts[..] else { return None };
        return Some(format!("sni.{short}.{mesh}.{zone}.{}", rest.join(".")));
    }
    let mut parts: Vec<&str> = name.split('_').collect();
    (parts.len() == 7 && parts[0] == "kri" && parts[3].is_empty()).then(|| {
        parts[3] = zone;
        parts.join("_")
    })
}

/// Whether a field of an answer holds a `kri` or server name.
pub(crate) fn is_name(field: &str, value: &Value) -> bool {
    matches!(field, "kri" | "sni") && value.is_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirks_of_field_paths() {
        for (kind, expected, meant) in [
            ("MeshCircuitBreaker", "spec.from[0].default", "spec.rules[0].default"),
            ("MeshRetry", "spec.to[0].default.conf.tcp", "spec.to[0].default.tcp"),
            ("MeshMetric", "spec.default.backends.backend[0].port", "spec.default.backends[0].port"),
            ("MeshFaultInjection", "spec.rules[0].default.http.abort[1].x", "spec.rules[0].default.http[1].abort.x"),
            ("MeshFaultInjection", "spec.rules[0].matches[0].sni", "spec.rules[0].matches[0].sni"),
            ("MeshTrafficPermission", "spec.rules[0].allow[0].sni", "spec.rules[0].default.allow[0].sni"),
            ("MeshTrafficPermission", "spec.rules[0]", "spec.rules[0]"),
            ("Dataplane", "networking.transparentProxing.x", "networking.transparentProxying.x"),
            ("MeshTimeout", "spec.to[0].default.conf", "spec.to[0].default.conf"),
        ] {
            assert_eq!(field(kind, expected), meant, "{kind}");
        }
    }

    #[test]
    fn an_empty_zone_means_the_planes() {
        assert!(same_name("kri_mt_default___a_", "kri_mt_default_z__a_", Some("z")));
        assert!(same_name("kri_m____default_", "kri_m____default_", Some("z")));
        assert!(same_name("sni.msvc.default.a.80", "sni.msvc.default.z.a.80", Some("z")));
        assert!(!same_name("kri_mt_default_x__a_", "kri_mt_default_z__a_", Some("z")));
        assert!(!same_name("kri_mt_default___a_", "kri_mt_default_z__a_", None));
    }
}
