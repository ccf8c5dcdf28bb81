//! `atoll lab env`: what runs where, for scripts. The names are a contract.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    credentials::Access,
    layout::{DNS_PORT, GATEWAY_PORT, INGRESS_PORT, Layout, at},
    member::{Member, zone_addresses},
    postgres,
    state::State,
};

/// All variables, in order.
pub fn all(layout: &Layout, state: &State) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    let mut set = |name: &str, value: String| all.push((name.to_owned(), value));
    let global = Access::of(layout, "global", layout.global());
    set("LAB_GLOBAL_URL", global.url);
    set("LAB_GLOBAL_CA", global.ca.to_string_lossy().into_owned());
    set("LAB_OPERATOR_TOKEN_FILE", global.token.to_string_lossy().into_owned());
    set("LAB_PG_URL", state.postgres.as_ref().map(|known| postgres::url(layout, known)).unwrap_or_default());
    set("LAB_CLIENT_CA", layout.ca().to_string_lossy().into_owned());
    set("LAB_GLOBAL_PID", pid(state, "global"));
    set("LAB_ZONES", state.zones.join(" "));
    for zone in &state.zones {
        all.extend(of_zone(layout, state, zone)?);
    }
    Ok(all)
}

fn of_zone(layout: &Layout, state: &State, zone: &str) -> Result<Vec<(String, String)>> {
    let addresses = zone_addresses(layout, state, zone)?;
    let access = Access::of(layout, zone, addresses.plane());
    let (gateway, sidecar, ingress) = (Member::Gateway(zone.into()), Member::Sidecar(zone.into()), Member::Ingress(zone.into()));
    let prefix = format!("LAB_{}", zone.to_ascii_uppercase().replace('-', "_"));
    let values = [
        ("URL", access.url),
        ("CA", access.ca.to_string_lossy().into_owned()),
        ("TOKEN_FILE", access.token.to_string_lossy().into_owned()),
        ("GATEWAY", at(addresses.sidecar(), GATEWAY_PORT).to_string()),
        ("INGRESS", at(addresses.ingress(), INGRESS_PORT).to_string()),
        ("DNS", at(addresses.sidecar(), DNS_PORT).to_string()),
        ("GATEWAY_ADMIN", gateway.admin(layout, state)?.to_string()),
        ("SIDECAR_ADMIN", sidecar.admin(layout, state)?.to_string()),
        ("INGRESS_ADMIN", ingress.admin(layout, state)?.to_string()),
        ("PID", pid(state, zone)),
        ("INGRESS_PID", pid(state, &ingress.name())),
        ("SIDECAR_PID", pid(state, &sidecar.name())),
        ("GATEWAY_PID", pid(state, &gateway.name())),
    ];
    Ok(values.into_iter().map(|(name, value)| (format!("{prefix}_{name}"), value)).collect())
}

/// Empty for a process that does not run.
fn pid(state: &State, name: &str) -> String {
    state.processes.get(name).filter(|identity| identity.is_alive()).map(|identity| identity.pid.to_string()).unwrap_or_default()
}

/// As lines for `eval`.
pub fn shell(variables: &[(String, String)]) -> String {
    variables.iter().map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', "'\\''"))).collect()
}

/// As one JSON object.
pub fn json(variables: &[(String, String)]) -> Result<String> {
    let map: BTreeMap<&String, &String> = variables.iter().map(|(name, value)| (name, value)).collect();
    Ok(serde_json::to_string_pretty(&map)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_names_are_all_there() {
        let layout = Layout { home: "/x/.lab".into(), offset: 0 };
        let state = State { zones: vec!["azure".into(), "gcp".into(), "aws-eu".into()], ..State::default() };
        let all = all(&layout, &state).unwrap();
        let value = |name: &str| all.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}")).1.as_str();
        assert_eq!(value("LAB_GLOBAL_URL"), "https://127.10.0.1:5682");
        assert_eq!(value("LAB_PG_URL"), "");
        assert_eq!(value("LAB_ZONES"), "azure gcp aws-eu");
        assert_eq!(value("LAB_GCP_INGRESS"), "127.33.0.1:10001");
        assert_eq!(value("LAB_AWS_EU_GATEWAY"), "127.42.0.1:8443");
        assert_eq!(value("LAB_AZURE_SIDECAR_ADMIN"), "unix:/x/.lab/run/azure-sidecar/admin.sock");
        for name in ["LAB_GLOBAL_CA", "LAB_OPERATOR_TOKEN_FILE", "LAB_CLIENT_CA", "LAB_GLOBAL_PID"] {
            value(name);
        }
        for name in [
            "URL",
            "CA",
            "TOKEN_FILE",
            "DNS",
            "GATEWAY_ADMIN",
            "INGRESS_ADMIN",
            "PID",
            "INGRESS_PID",
            "SIDECAR_PID",
            "GATEWAY_PID",
        ] {
            value(&format!("LAB_AZURE_{name}"));
        }
    }

    #[test]
    fn a_shell_reads_any_value() {
        assert_eq!(shell(&[("A".into(), "it's".into())]), "export A='it'\\''s'\n");
    }
}
