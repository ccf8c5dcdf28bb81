//! Point 9: names come and go with their generators.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::scene::{CATALOG, PATIENCE, Scene, ms, until, works};
use crate::lab::{
    dns::Resolver,
    documents::GATEWAY,
    gateway::mesh_name,
    layout::MESH,
    member::{AZURE, GCP},
    rest::Plane,
};

/// The generator of `deploy/lab/10-hostnames.yaml`.
const GENERATOR: &str = "/hostnamegenerators/acme-corp";

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let (came, went) = comes_and_goes(scene).await?;
    let local = only_here(scene).await?;
    let collision = collide(scene).await?;
    let foreign = foreign(scene).await?;
    Ok(format!("{came}; {went}; {local}; {collision}; {foreign}"))
}

fn generator(name: &str, template: &str) -> Value {
    json!({
        "type": "HostnameGenerator", "name": name,
        "spec": {"selector": {"meshService": {"matchLabels": {}}}, "template": template},
    })
}

/// NXDOMAIN without the generator; with it the address that this proxy bound.
async fn comes_and_goes(scene: &Scene) -> Result<(String, String)> {
    let (global, name) = (scene.global()?, mesh_name(GATEWAY, GCP));
    let document = global.get(GENERATOR).await?.context("the lab's generator is gone")?;
    let document = json!({"type": "HostnameGenerator", "name": "acme-corp", "spec": document["spec"]});
    let outcome = async {
        global.delete(GENERATOR).await?;
        let went =
            until("the name is NXDOMAIN without its generator", PATIENCE, async || is_unknown(scene, AZURE, &name).await).await?;
        global.put(GENERATOR, &document).await?;
        let came = until("the name resolves", PATIENCE, async || address(scene, AZURE, &name).await.is_some()).await?;
        Ok((came, went))
    };
    let outcome: Result<_> = outcome.await;
    global.put(GENERATOR, &document).await?;
    let (came, went) = outcome?;
    let bound = address(scene, AZURE, &name).await.context("the name is gone again")?;
    let range = scene.lab()?.zone(AZURE)?.outbounds();
    ensure!(bound.octets()[1].to_string() == range.split('.').nth(1).unwrap_or_default(), "{bound} is not in {range}");
    let client = scene.outside(AZURE, CATALOG)?;
    until("the catalog answers again", PATIENCE, async || works(&client).await).await?;
    Ok((format!("{name} is {bound} (in {range}) {} after the PUT", ms(came)), format!("NXDOMAIN {} after the delete", ms(went))))
}

/// A generator of zone azure gives a name in azure alone.
async fn only_here(scene: &Scene) -> Result<String> {
    let (azure, path) = (scene.zone(AZURE)?, "/hostnamegenerators/lab-check-local");
    let name = format!("{GATEWAY}.{GCP}.only-here.acme.corp");
    let outcome = async {
        let mut document = generator("lab-check-local", "{{ .DisplayName }}.{{ .Zone }}.only-here.acme.corp");
        document["labels"] = json!({"kuma.io/origin": "zone"});
        azure.put(path, &document).await?;
        let came =
            until("azure's own name resolves there", PATIENCE, async || address(scene, AZURE, &name).await.is_some()).await?;
        // Global shows it, so gcp would have it by now if it were sent on.
        until("global shows azure's generator", PATIENCE, async || shows(scene, "lab-check-local").await).await?;
        ensure!(is_unknown(scene, GCP, &name).await, "{name} resolves in gcp too");
        Ok(came)
    };
    let outcome: Result<_> = outcome.await;
    azure.delete(path).await?;
    let came = outcome?;
    until("azure's own name is NXDOMAIN again", PATIENCE, async || is_unknown(scene, AZURE, &name).await).await?;
    Ok(format!("azure's own generator: {name} in azure after {}, NXDOMAIN in gcp, and in azure once deleted", ms(came)))
}

async fn shows(scene: &Scene, name: &str) -> bool {
    let Ok(global) = scene.global() else { return false };
    let all = global.list("/hostnamegenerators").await.unwrap_or_default();
    all.iter().any(|item| item["name"].as_str().is_some_and(|known| known.starts_with(name)))
}

/// One name for every service: the first has it, the others' status says why they do not.
async fn collide(scene: &Scene) -> Result<String> {
    let (azure, path, name) = (scene.zone(AZURE)?, "/hostnamegenerators/lab-check-same", "same.acme.corp");
    let outcome = async {
        let mut document = generator("lab-check-same", name);
        document["labels"] = json!({"kuma.io/origin": "zone"});
        azure.put(path, &document).await?;
        until("the colliding name resolves", PATIENCE, async || address(scene, AZURE, name).await.is_some()).await?;
        until("a status names the collision", PATIENCE, async || loser(&azure).await.is_some()).await?;
        loser(&azure).await.context("the collision is gone from the status")
    };
    let outcome: Result<_> = outcome.await;
    azure.delete(path).await?;
    let (service, condition) = outcome?;
    until("the colliding name is NXDOMAIN again", PATIENCE, async || is_unknown(scene, AZURE, name).await).await?;
    Ok(format!("collision on {name}: {service} lost, {condition}"))
}

/// A service that lost a name, and its condition.
async fn loser(zone: &Plane) -> Option<(String, String)> {
    let services = zone.list(&format!("/meshes/{MESH}/meshservices")).await.ok()?;
    services.iter().find_map(|service| {
        let generators = service["status"]["hostnameGenerators"].as_array()?;
        let conditions = generators.iter().filter_map(|generator| generator["conditions"].as_array()).flatten();
        let lost = conditions.into_iter().find(|condition| condition["reason"] == "Collision")?;
        let zone = service["labels"]["kuma.io/zone"].as_str().unwrap_or("?");
        let name = service["labels"]["kuma.io/display-name"].as_str().unwrap_or("?");
        Some((format!("{name} of {zone}"), format!("Collision: {}", lost["message"].as_str().unwrap_or_default())))
    })
}

/// A name of somebody else is asked of the machine's resolver.
async fn foreign(scene: &Scene) -> Result<String> {
    let before = scene.resolver.asked();
    let said = scene.resolve(AZURE, Resolver::NAME).await?;
    let asked = scene.resolver.asked() - before;
    ensure!(
        said.addresses == [Resolver::ADDRESS] && asked > 0,
        "{}: {said:?}, the resolver was asked {asked} times",
        Resolver::NAME
    );
    Ok(format!("foreign {} answered by the configured resolver", Resolver::NAME))
}

async fn address(scene: &Scene, zone: &str, name: &str) -> Option<Ipv4Addr> {
    scene.resolve(zone, name).await.ok()?.addresses.first().copied()
}

async fn is_unknown(scene: &Scene, zone: &str, name: &str) -> bool {
    scene.resolve(zone, name).await.is_ok_and(|said| said.is_nxdomain())
}
