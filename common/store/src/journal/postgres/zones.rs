//! Zones, their certificates, the tokens by which they join and the tokens that were revoked, on Postgres.

use atoll_model::{Name, Timestamp, ZoneUid};
use sqlx::{PgConnection, postgres::PgPool};
use uuid::Uuid;

use super::CHANNEL;
use crate::{
    Bind, JoinToken, Redeem, TokenRevocation, ZoneCertificate, ZoneHolder,
    journal::refusal::{StoredToken, explain},
};

#[derive(sqlx::FromRow)]
pub(super) struct HolderRow {
    name: String,
    uid: Uuid,
    bound: Timestamp,
    revoked: Option<Timestamp>,
}

impl From<HolderRow> for ZoneHolder {
    fn from(row: HolderRow) -> Self {
        Self { name: row.name.into(), uid: ZoneUid(row.uid), bound: row.bound, revoked: row.revoked }
    }
}

#[derive(sqlx::FromRow)]
struct CertificateRow {
    serial: String,
    zone: Uuid,
    instance: String,
    spki: Vec<u8>,
    issued: Timestamp,
    expires: Timestamp,
    revoked: Option<Timestamp>,
}

impl From<CertificateRow> for ZoneCertificate {
    fn from(row: CertificateRow) -> Self {
        Self {
            serial: row.serial,
            zone: ZoneUid(row.zone),
            instance: row.instance,
            spki: row.spki.try_into().unwrap_or_default(),
            issued: row.issued,
            expires: row.expires,
            revoked: row.revoked,
        }
    }
}

pub(super) async fn put_join_token(pool: &PgPool, token: &JoinToken, now: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO join_tokens (id, hash, zone, created, expires) VALUES ($1, $2, $3, $4, $5)")
        .bind(&token.id)
        .bind(token.hash.as_slice())
        .bind(token.zone.as_str())
        .bind(now)
        .bind(token.expires)
        .execute(pool)
        .await?;
    Ok(())
}

/// One statement: of tries at the same moment the second waits for the first and then sees what it left.
const REDEEM: &str = "
UPDATE join_tokens SET used = coalesce(used, $5), uses = uses + 1, spki = $4
WHERE id = $1 AND hash = $2 AND zone = $3 AND expires > $5
  AND (used IS NULL OR (spki = $4 AND used > $5 - interval '15 minutes'))
RETURNING uses = 1";

pub(super) async fn redeem(
    pool: &PgPool,
    id: &str,
    hash: &[u8; 32],
    zone: &Name,
    spki: &[u8; 32],
    now: Timestamp,
) -> Result<Redeem, sqlx::Error> {
    let now = chrono::SubsecRound::trunc_subsecs(now, 6);
    let first: Option<bool> = sqlx::query_scalar(REDEEM)
        .bind(id)
        .bind(hash.as_slice())
        .bind(zone.as_str())
        .bind(spki.as_slice())
        .bind(now)
        .fetch_optional(pool)
        .await?;
    match first {
        Some(true) => return Ok(Redeem::Accepted),
        Some(false) => return Ok(Redeem::Repeated),
        None => {}
    }
    let stored: Option<(Vec<u8>, String, Timestamp)> =
        sqlx::query_as("SELECT hash, zone, expires FROM join_tokens WHERE id = $1").bind(id).fetch_optional(pool).await?;
    let stored = stored.map(|(hash, zone, expires)| StoredToken { hash, zone: zone.into(), expires });
    Ok(explain(stored, hash, zone, now))
}

pub(super) async fn bind(pool: &PgPool, name: &Name, uid: ZoneUid, now: Timestamp) -> Result<Bind, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // One after the other: looking and binding must not be split.
    sqlx::query("SELECT revision FROM counter FOR UPDATE").execute(&mut *transaction).await?;
    let held: Vec<HolderRow> = sqlx::query_as("SELECT name, uid, bound, revoked FROM zones WHERE name = $1 OR uid = $2")
        .bind(name.as_str())
        .bind(uid.0)
        .fetch_all(&mut *transaction)
        .await?;
    let mut held: Vec<ZoneHolder> = held.into_iter().map(ZoneHolder::from).collect();
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
        .bind(uid.0)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    tell(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Bind::Bound(ZoneHolder { name: name.clone(), uid, bound: now, revoked: None }))
}

pub(super) async fn release(pool: &PgPool, name: &Name) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("DELETE FROM zone_certificates WHERE zone = (SELECT uid FROM zones WHERE name = $1)")
        .bind(name.as_str())
        .execute(&mut *transaction)
        .await?;
    sqlx::query("DELETE FROM zones WHERE name = $1").bind(name.as_str()).execute(&mut *transaction).await?;
    tell(&mut transaction).await?;
    transaction.commit().await
}

pub(super) async fn revoke_zone(pool: &PgPool, uid: ZoneUid, now: Timestamp) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query("UPDATE zones SET revoked = coalesce(revoked, $2) WHERE uid = $1")
        .bind(uid.0)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    tell(&mut transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn put_certificate(pool: &PgPool, certificate: &ZoneCertificate) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO zone_certificates (serial, zone, instance, spki, issued, expires, revoked) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT DO NOTHING",
    )
    .bind(&certificate.serial)
    .bind(certificate.zone.0)
    .bind(&certificate.instance)
    .bind(certificate.spki.as_slice())
    .bind(certificate.issued)
    .bind(certificate.expires)
    .bind(certificate.revoked)
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn certificates(pool: &PgPool, zone: ZoneUid) -> Result<Vec<ZoneCertificate>, sqlx::Error> {
    let rows: Vec<CertificateRow> = sqlx::query_as(
        "SELECT serial, zone, instance, spki, issued, expires, revoked FROM zone_certificates WHERE zone = $1
         ORDER BY issued DESC, serial",
    )
    .bind(zone.0)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(ZoneCertificate::from).collect())
}

pub(super) async fn revoke_certificate(pool: &PgPool, serial: &str, now: Timestamp) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query("UPDATE zone_certificates SET revoked = coalesce(revoked, $2) WHERE serial = $1")
        .bind(serial)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    tell(&mut transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn revoke_token(pool: &PgPool, revocation: &TokenRevocation) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "INSERT INTO revoked_tokens (jti, until, at, revoked_by) VALUES ($1, $2, $3, $4)
         ON CONFLICT (jti) DO UPDATE SET until = greatest(revoked_tokens.until, excluded.until)",
    )
    .bind(&revocation.id)
    .bind(revocation.until)
    .bind(revocation.at)
    .bind(&revocation.by)
    .execute(&mut *transaction)
    .await?;
    tell(&mut transaction).await?;
    transaction.commit().await
}

pub(super) async fn begin_session(pool: &PgPool, peer: &str, session: Uuid) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "INSERT INTO link_sessions (peer, session) VALUES ($1, $2) ON CONFLICT (peer) DO UPDATE SET session = excluded.session",
    )
    .bind(peer)
    .bind(session)
    .execute(&mut *transaction)
    .await?;
    // From here on no process commits before it has read which session is the newest.
    tell(&mut transaction).await?;
    transaction.commit().await
}

/// Tells every process, this one too, to read the registry again.
async fn tell(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE counter SET fence = fence + 1").execute(&mut *connection).await?;
    sqlx::query("SELECT pg_notify($1, 'zones')").bind(CHANNEL).execute(connection).await?;
    Ok(())
}
