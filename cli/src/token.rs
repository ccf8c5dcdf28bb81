//! `atoll token`: tokens for zones, dataplanes and people.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use crate::{Connection, client::Client};

/// What a token is for. It is printed alone, so that it can go into a file.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// The one-time token by which a zone joins.
    Zone(ZoneToken),
    /// A token of dataplanes.
    Dataplane(DataplaneToken),
    /// A token of a person or program.
    User(UserToken),
    /// End a token before its time; open streams that it let in end, too.
    Revoke(RevokeToken),
    /// Show the tokens that were revoked and have not ended by themselves.
    Revoked,
}

/// Which token, and why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  atoll token revoke --file api.token --reason 'laptop lost'\n  \
    atoll token revoke --jti 3f2c…    # where only its name is known")]
pub struct RevokeToken {
    /// File that holds the token; - is standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "jti", conflicts_with = "jti")]
    pub file: Option<PathBuf>,
    /// The token's name, as its claim `jti` says it.
    #[arg(long, value_name = "ID")]
    pub jti: Option<String>,
    /// Why; for the audit.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// For which zone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  atoll token zone gcp >gcp.token    # zone-cp --zone gcp --join-token-file gcp.token …")]
pub struct ZoneToken {
    /// The zone's name.
    pub zone: String,
    /// How long it can be used, at most 1h.
    #[arg(long, value_name = "DURATION")]
    pub valid_for: Option<String>,
}

/// For which dataplanes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  atoll token dataplane --workload api >api.token\n  \
    atoll token dataplane -m shop --name web-1 --tag team=shop --valid-for 24h")]
pub struct DataplaneToken {
    /// The mesh.
    #[arg(short, long, default_value = "default")]
    pub mesh: String,
    /// The only dataplane that it lets in.
    #[arg(long)]
    pub name: Option<String>,
    /// The only workload that it lets in.
    #[arg(long)]
    pub workload: Option<String>,
    /// A label that the dataplane must have; repeatable.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
    /// How long it holds [default: 720h].
    #[arg(long, value_name = "DURATION")]
    pub valid_for: Option<String>,
}

/// For whom.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  atoll token user eve --group team-a --valid-for 8h >eve.token")]
pub struct UserToken {
    /// Name of the user.
    pub name: String,
    /// A group; repeatable. Members of mesh-system:admin may do everything.
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// How long it holds.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub valid_for: String,
}

impl Token {
    /// Runs the command.
    ///
    /// # Errors
    /// When the plane refuses.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let client = Client::of(connection)?;
        let (what, body) = match self {
            Token::Revoke(token) => return token.run(&client, out).await,
            Token::Revoked => return revoked(&client, out).await,
            Token::Zone(token) => ("zone", json!({"zone": token.zone, "validFor": token.valid_for.unwrap_or_default()})),
            Token::Dataplane(token) => ("dataplane", token.body()?),
            Token::User(token) => ("user", json!({"name": token.name, "groups": token.groups, "validFor": token.valid_for})),
        };
        let body = Some(("application/json", body.to_string()));
        let answer = client.call(Method::POST, &["tokens", what], &[], body).await?.refuse()?;
        writeln!(out, "{}", answer.text.trim())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl RevokeToken {
    async fn run(self, client: &Client, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let token = self.file.as_deref().map(read).transpose()?.unwrap_or_default();
        let body = json!({"token": token.trim(), "jti": self.jti.unwrap_or_default(), "reason": self.reason});
        let body = Some(("application/json", body.to_string()));
        let answer = client.call(Method::POST, &["tokens", "revocations"], &[], body).await?.refuse()?;
        let done: Value = serde_json::from_str(&answer.text).context("the control plane's answer cannot be read")?;
        let text = |field: &str| done[field].as_str().unwrap_or("-").to_owned();
        writeln!(out, "token {} is revoked (it would have ended {})", text("jti"), text("until"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A token from a file: on the command line every user of the machine could read it.
fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("cannot read the token from standard input");
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read the token from {}", path.display()))
}

async fn revoked(client: &Client, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let listed = client.get_json(&["tokens", "revocations"], &[]).await?;
    for token in listed["items"].as_array().into_iter().flatten() {
        writeln!(out, "{}  {}", token["jti"].as_str().unwrap_or("-"), token["until"].as_str().unwrap_or("-"))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl DataplaneToken {
    fn body(self) -> anyhow::Result<Value> {
        let mut tags = Map::new();
        for tag in &self.tags {
            let (key, value) = tag.split_once('=').with_context(|| format!("{tag:?} is no tag; write it as KEY=VALUE"))?;
            let values = tags.entry(key).or_insert_with(|| json!([]));
            if let Some(values) = values.as_array_mut() {
                values.push(json!(value));
            }
        }
        Ok(json!({
            "mesh": self.mesh,
            "name": self.name.unwrap_or_default(),
            "workload": self.workload.unwrap_or_default(),
            "type": "dataplane",
            "tags": tags,
            "validFor": self.valid_for.unwrap_or_default(),
        }))
    }
}
