//! Zones, their certificates, the tokens by which they join and the tokens that were revoked, on SQLite. Whoever has the connection is alone with it.

use std::str::FromStr;

use atoll_model::{Name, Timestamp, ZoneUid};
use sqlx::SqliteConnection;

use super::read::{HolderRow, holder};
use crate::{
    Bind, JoinToken, Redeem, TokenRevocation, ZoneCertificate, ZoneHolder,
    journal::refusal::{StoredToken, explain},
};

pub(super) async fn put_join_token(
    connection: &mut SqliteConnection,
    token: &JoinToken,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO join_tokens (id, hash, zone, created, expires) VALUES ($1, $2, $3, $4, $5)")
        .bind(&token.id)
        .bind(token.hash.as_slice())
        .bind(token.zone.as_str())
        .bind(now)
        .bind(token.expires)
        .execute(connection)
        .await?;
    Ok(())
}

const REDEEM: &str = "
UPDATE join_tokens SET used = coalesce(used, $5), uses = uses + 1, spki = $4
WHERE id = $1 AND hash = $2 AND zone = $3 AND expires > $5 AND (used IS NULL OR (spki = $4 AND used > $6))
RETURNING uses = 1";

pub(super) async fn redeem(
    connection: &mut SqliteConnection,
    id: &str,
    hash: &[u8; 32],
    zone: &Name,
    spki: &[u8; 32],
    now: Timestamp,
) -> Result<Redeem, sqlx::Error> {
    let first: Option<bool> = sqlx::query_scalar(REDEEM)
        .bind(id)
        .bind(hash.as_slice())
        .bind(zone.as_str())
        .bind(spki.as_slice())
        .bind(now)
        .bind(now - chrono::TimeDelta::minutes(15))
        .fetch_optional(&mut *connection)
        .await?;
    match first {
        Some(true) => return Ok(Redeem::Accepted),
        Some(false) => return Ok(Redeem::Repeated),
        None => {}
    }
    let stored: Option<(Vec<u8>, String, Timestamp)> =
        sqlx::query_as("SELECT hash, zone, expires FROM join_tokens WHERE id = $1").bind(id).fetch_optional(connection).await?;
    let stored = stored.map(|(hash, zone, expires)| StoredToken { hash, zone: zone.into(), expires });
    Ok(explain(stored, hash, zone, now))
}

pub(super) async fn bind(
    connection: &mut SqliteConnection,
    name: &Name,
    uid: ZoneUid,
    now: Timestamp,
) -> Result<Bind, sqlx::Error> {
    let held: Vec<HolderRow> = sqlx::query_as("SELECT name, uid, bound, revoked FROM zones WHERE name = $1 OR uid = $2")
        .bind(name.as_str())
        .bind(uid.to_string())
        .fetch_all(&mut *connection)
        .await?;
    let mut held: Vec<ZoneHolder> = held.into_iter().filter_map(holder).collect();
    if let Some(at) = held.iter().position(|holder| holder.name == *name) {
        let holder = held.swap_remove(at);
        return Ok(if holder.uid == uid { Bind::Bound(holder) } else { Bind::Taken(holder) });
    }
    if let Some(holder) = held.pop() {
        return Ok(Bind::Renamed(holder));
    }
    let now = chrono::SubsecRound::trunc_subsecs(now, 6);
    sqlx::query("INSERT INTO zones (name, uid, bound) VALUES ($1, $2, $3)")
        .bind(name.as_str())
        .bind(uid.to_string())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(Bind::Bound(ZoneHolder { name: name.clone(), uid, bound: now, revoked: None }))
}

/// In an open transaction.
pub(super) async fn release(connection: &mut SqliteConnection, name: &Name) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM zone_certificates WHERE zone = (SELECT uid FROM zones WHERE name = $1)")
        .bind(name.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM zones WHERE name = $1").bind(name.as_str()).execute(connection).await?;
    Ok(())
}

pub(super) async fn revoke_zone(connection: &mut SqliteConnection, uid: ZoneUid, now: Timestamp) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE zones SET revoked = coalesce(revoked, $2) WHERE uid = $1")
        .bind(uid.to_string())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn put_certificate(connection: &mut SqliteConnection, certificate: &ZoneCertificate) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO zone_certificates (serial, zone, instance, spki, issued, expires, revoked) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT DO NOTHING",
    )
    .bind(&certificate.serial)
    .bind(certificate.zone.to_string())
    .bind(&certificate.instance)
    .bind(certificate.spki.as_slice())
    .bind(certificate.issued)
    .bind(certificate.expires)
    .bind(certificate.revoked)
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct CertificateRow {
    serial: String,
    zone: String,
    instance: String,
    spki: Vec<u8>,
    issued: Timestamp,
    expires: Timestamp,
    revoked: Option<Timestamp>,
}

pub(super) async fn certificates(connection: &mut SqliteConnection, zone: ZoneUid) -> Result<Vec<ZoneCertificate>, sqlx::Error> {
    let rows: Vec<CertificateRow> = sqlx::query_as(
        "SELECT serial, zone, instance, spki, issued, expires, revoked FROM zone_certificates WHERE zone = $1
         ORDER BY issued DESC, serial",
    )
    .bind(zone.to_string())
    .fetch_all(connection)
    .await?;
    let certificate = |row: CertificateRow| {
        Some(ZoneCertificate {
            serial: row.serial,
            zone: ZoneUid::from_str(&row.zone).ok()?,
            instance: row.instance,
            spki: row.spki.try_into().unwrap_or_default(),
            issued: row.issued,
            expires: row.expires,
            revoked: row.revoked,
        })
    };
    Ok(rows.into_iter().filter_map(certificate).collect())
}

pub(super) async fn revoke_certificate(
    connection: &mut SqliteConnection,
    serial: &str,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE zone_certificates SET revoked = coalesce(revoked, $2) WHERE serial = $1")
        .bind(serial)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn revoke_token(connection: &mut SqliteConnection, revocation: &TokenRevocation) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO revoked_tokens (jti, until, at, revoked_by) VALUES ($1, $2, $3, $4)
         ON CONFLICT (jti) DO UPDATE SET until = max(revoked_tokens.until, excluded.until)",
    )
    .bind(&revocation.id)
    .bind(revocation.until)
    .bind(revocation.at)
    .bind(&revocation.by)
    .execute(connection)
    .await?;
    Ok(())
}
