//! What may be shown of a context: where it leads, whom it trusts, and what its token says of itself.

use std::io::Write;

use atoll_model::Timestamp;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Context, certificate};

/// Prints a context without its token.
pub(super) fn print(name: &str, context: &Context, now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "name:  {name}")?;
    writeln!(out, "url:   {}", context.url)?;
    writeln!(out, "ca:    {}", context.ca.as_deref().map_or_else(|| "none".to_owned(), authority))?;
    if let Some(file) = &context.client_cert_file {
        writeln!(out, "cert:  {}", certificate::holder(file))?;
    }
    writeln!(out, "token: {}", context.token.as_deref().map_or_else(|| "none".to_owned(), |token| holder(token, now)))
}

/// The fingerprint of a CA certificate.
fn authority(pem: &str) -> String {
    let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return "cannot be read".to_owned() };
    let hex: String = Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Whom a token names and until when it holds: what it claims, which only the plane can verify.
fn holder(token: &str, now: Timestamp) -> String {
    let Some(claims) = claims(token) else { return "of no known form".to_owned() };
    let user = claims["Name"].as_str().unwrap_or("?");
    let groups: Vec<_> = claims["Groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let groups = if groups.is_empty() { String::new() } else { format!(" ({})", groups.join(", ")) };
    let until = claims["exp"].as_i64().and_then(|seconds| Timestamp::from_timestamp(seconds, 0));
    let until = match until {
        Some(until) if until <= now => format!(", expired at {}", time(until)),
        Some(until) => format!(", holds until {}", time(until)),
        None => String::new(),
    };
    format!("of {user}{groups}{until}")
}

pub(super) fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn claims(token: &str) -> Option<Value> {
    let part = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_of_and_never_shown() {
        let token = format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(r#"{"Name":"eve","Groups":["a","b"],"exp":1767225600}"#));
        let context: Context = serde_json::from_value(serde_json::json!({"url": "https://cp:5682", "token": token})).unwrap();
        for (now, part) in [
            ("2025-12-31T00:00:00Z", "of eve (a, b), holds until 2026-01-01T00:00:00Z"),
            ("2026-01-02T00:00:00Z", "expired at 2026-01-01T00:00:00Z"),
        ] {
            let mut out = Vec::new();
            print("prod", &context, now.parse().unwrap(), &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(part) && !text.contains(&token) && !text.contains("signature"), "{text}");
        }
    }
}
