//! Point 10: a third zone joins under load; whoever has no good token does not.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::scene::{CATALOG, Scene, get};
use crate::lab::{
    control::Request,
    layout::at,
    member::{AZURE, GCP},
};

/// The third cloud.
const AWS: &str = "aws";
/// A refusal comes well before.
const REFUSAL: Duration = Duration::from_secs(20);

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let load = scene.load()?;
    let start = Instant::now();
    scene.ask(Request::AddZone { name: AWS.to_owned() }).await?;
    let answer = get(&scene.outside(AWS, CATALOG)?).await?;
    let took = start.elapsed();
    let good = load.end().await?;
    let used = std::fs::read_to_string(scene.layout().folder(AWS).join("join-token"))?;
    let wrong = forge(&used)?;
    let second = scene.global()?.post("/tokens/zone", &json!({"zone": GCP})).await;
    let mut refusals = vec![
        format!("wrong token: {}", refused(scene, "wrong", "forged", &wrong).await?),
        format!("used token: {}", refused(scene, "used", AWS, &used).await?),
    ];
    refusals.push(match second {
        Ok(token) => format!("second holder of {GCP}: {}", refused(scene, "second", GCP, &token).await?),
        Err(error) => format!("second holder of {GCP}: no token ({error:#})"),
    });
    get(&scene.outside(AZURE, CATALOG)?).await.context("after the refusals")?;
    Ok(format!(
        "{good} requests meanwhile, 0 failed; {:.1} s from the token to the first answer via {}; {}",
        took.as_secs_f64(),
        answer.via.join(" < "),
        refusals.join("; ")
    ))
}

/// The same token with another secret.
fn forge(token: &str) -> Result<String> {
    let mut parts: Vec<String> = token.trim().split('.').map(str::to_owned).collect();
    let secret = parts.get_mut(2).context("a join token has four parts")?;
    let first = secret.chars().next().context("a secret")?;
    let other = if first == 'A' { 'B' } else { 'A' };
    *secret = secret.chars().enumerate().map(|(at, c)| if at == 0 { other } else { c }).collect();
    Ok(parts.join("."))
}

/// Starts a zone plane with a fresh folder and `token`; it must end by itself. Gives its last words.
async fn refused(scene: &Scene, what: &str, zone: &str, token: &str) -> Result<String> {
    let folder = scene.scratch(&format!("joins-{what}"))?;
    let file = folder.join("token");
    atoll_runtime::files::write_secret(&file, token.trim().as_bytes())?;
    let zone = if zone == "forged" { AWS } else { zone };
    let child = tokio::process::Command::new(&scene.programs().zone_cp)
        .args(arguments(scene, zone, &folder, &file))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let Ok(output) = tokio::time::timeout(REFUSAL, child.wait_with_output()).await else {
        bail!("{what}: the plane does not give up within {} s", REFUSAL.as_secs());
    };
    let output = output?;
    ensure!(!output.status.success(), "{what}: the plane ended as if all were well");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("(silent)").trim().to_owned())
}

fn arguments(scene: &Scene, zone: &str, folder: &Path, token: &Path) -> Vec<String> {
    let global = scene.layout().global();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut arguments = vec!["--zone".into(), zone.into(), "--data-dir".into(), text(&folder.join("data"))];
    arguments.extend(["--global".into(), at(global, 5685).to_string(), "--join".into(), at(global, 5686).to_string()]);
    arguments.extend(["--join-token-file".into(), text(token)]);
    for flag in ["--rest-listen", "--rest-tls-listen", "--diagnostics-listen", "--dp-listen"] {
        arguments.extend([flag.into(), "127.0.0.1:0".into()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_token_differs_in_its_secret_alone() {
        assert_eq!(forge("zj1.id.Asecret.pin\n").unwrap(), "zj1.id.Bsecret.pin");
        assert_eq!(forge("zj1.id.xsecret.pin").unwrap(), "zj1.id.Asecret.pin");
        assert!(forge("nonsense").is_err());
    }
}
