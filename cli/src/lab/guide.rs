//! What a person sees when the lab is up: a table, and lines to paste.

use anyhow::Result;
use comfy_table::{Table, presets};

use super::{
    Lab, documents,
    layout::{GATEWAY_PORT, at},
    member::{AZURE, GCP, Member},
    say::Say,
    state::AddedGateway,
};

/// Prints the table and what to try.
pub fn show(lab: &Lab) -> Result<()> {
    println!("\n{}\n", table(lab)?);
    let store = match lab.state().postgres {
        Some(_) => "a Postgres of its own",
        None => "the embedded store (no Postgres binaries on this machine, or `--store embedded`)",
    };
    println!("Global runs on {store}. Logs: bin/atoll lab logs NAME. Addresses for scripts: bin/atoll lab env.\n");
    for (what, lines) in tries(lab)? {
        println!("# {what}");
        for line in lines {
            println!("{line}");
        }
        println!();
    }
    println!("Ctrl-C ends the lab and keeps its data.");
    Ok(())
}

/// What runs where.
pub fn table(lab: &Lab) -> Result<String> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["name", "what", "address", "process"]);
    let state = lab.state();
    for member in lab.members() {
        let address = member.listens(&lab.layout, &state)?.first().map(ToString::to_string).unwrap_or_default();
        let process = state.processes.get(&member.name()).filter(|identity| identity.is_alive());
        let process = process.map_or_else(|| "does not run".to_owned(), |identity| identity.pid.to_string());
        table.add_row([member.name(), member.what(), address, process]);
    }
    Ok(table.to_string())
}

/// The lines, each set with what it shows.
fn tries(lab: &Lab) -> Result<Vec<(String, Vec<String>)>> {
    let atoll = "bin/atoll";
    let mut tries = vec![(
        "the catalog, which runs in gcp only, through the gateway of azure".to_owned(),
        vec![curl(lab, AZURE, "catalog.acme.corp")?],
    )];
    tries.push((
        "the permission is taken away on global, and the same request is refused".to_owned(),
        vec![put(lab, &documents::refusal(AZURE)), curl(lab, AZURE, "catalog.acme.corp")?],
    ));
    tries.push(("the undo".to_owned(), vec![put(lab, &documents::permission(AZURE)), curl(lab, AZURE, "catalog.acme.corp")?]));
    tries.push((
        "the other way: orders, which runs in azure only, through the gateway of gcp".to_owned(),
        vec![curl(lab, GCP, "orders.acme.corp")?],
    ));
    tries.push(("the zones, as global sees them".to_owned(), vec![format!("{atoll} get zones")]));
    tries.push((
        "whether all is well: links, ingresses as the other zone sees them, names".to_owned(),
        vec![format!("{atoll} check")],
    ));
    tries.push(("one request, hop by hop".to_owned(), vec![format!("{atoll} lab trace")]));
    tries.push(("a third cloud joins, and its gateway has the catalog".to_owned(), vec![format!("{atoll} lab zone add aws")]));
    tries.push((
        "your own service behind a gateway".to_owned(),
        vec![format!("{atoll} lab gateway add --zone azure --upstream http://127.0.0.1:3000")],
    ));
    Ok(tries)
}

/// A request to a host through a zone's gateway.
fn curl(lab: &Lab, zone: &str, host: &str) -> Result<String> {
    let address = lab.zone(zone)?.sidecar();
    Ok(curl_at(lab, host, &address.to_string()))
}

fn curl_at(lab: &Lab, host: &str, address: &str) -> String {
    let ca = relative(&lab.layout.ca());
    let curl = curl_command();
    format!("{curl} --cacert {ca} --resolve {host}:{GATEWAY_PORT}:{address} https://{host}:{GATEWAY_PORT}/")
}

/// A proxy of the environment cannot reach this machine's loopback addresses.
fn curl_command() -> &'static str {
    let proxies = ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    if proxies.iter().any(|name| std::env::var_os(name).is_some()) { "curl -sS --noproxy '*'" } else { "curl -sS" }
}

/// Writes a document on global; the second after it is more than a change needs to be in force everywhere.
fn put(lab: &Lab, document: &serde_json::Value) -> String {
    let access = lab.global_access();
    let name = document["name"].as_str().unwrap_or_default();
    let zone = name.trim_start_matches("allow-");
    format!(
        "{} --cacert {} -H \"Authorization: Bearer $(cat {})\" -X PUT -H 'Content-Type: application/json' {}{} -d '{}' && sleep 1",
        curl_command(),
        relative(&access.ca),
        relative(&access.token),
        access.url,
        documents::permission_path(zone),
        document
    )
}

/// What to try after a zone was added.
pub fn show_zone(lab: &Lab, zone: &str, say: &Say) -> Result<()> {
    say.plain("");
    say.plain(format!("# the catalog through the gateway of {zone}"));
    say.plain(curl(lab, zone, "catalog.acme.corp")?);
    Ok(())
}

/// What to try after a gateway was added.
pub fn show_gateway(lab: &Lab, added: &AddedGateway, say: &Say) -> Result<()> {
    let addresses = super::member::added(&lab.layout, &lab.state(), added)?;
    let (name, zone) = (&added.name, &added.zone);
    let other = lab.state().zones.iter().find(|other| *other != zone).cloned().unwrap_or_else(|| GCP.to_owned());
    say.plain("");
    say.plain(format!("# your service through its gateway in {zone}"));
    say.plain(curl_at(lab, &format!("{name}.acme.corp"), &addresses.sidecar().to_string()));
    if added.upstream.starts_with("https://") {
        return Ok(());
    }
    say.plain(format!("# a gateway for it in {other}, whose upstream is its mesh hostname, verified"));
    let upstream = format!("https://{}:{GATEWAY_PORT}", super::gateway::mesh_name(name, zone));
    say.plain(format!("bin/atoll lab gateway add --zone {other} --name {name} --upstream {upstream}"));
    Ok(())
}

/// A path as short as it can be pasted from the project's folder.
fn relative(path: &std::path::Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let shown = path.strip_prefix(&here).unwrap_or(path).to_string_lossy().into_owned();
    if shown.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
        shown
    } else {
        format!("'{}'", shown.replace('\'', "'\\''"))
    }
}

/// Where outside clients reach a zone's gateway.
pub fn gateway_address(lab: &Lab, zone: &str) -> Result<std::net::SocketAddr> {
    Ok(at(lab.zone(zone)?.sidecar(), GATEWAY_PORT))
}

/// The name of a zone's gateway process, as it stands in `Via`.
pub fn via(zone: &str) -> String {
    Member::Gateway(zone.to_owned()).name()
}
