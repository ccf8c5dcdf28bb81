//! The small tables on Postgres.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use async_trait::async_trait;
use atoll_model::{Kind, Name, Owner, ResourceKey, Revision, Timestamp, ZoneUid};
use bytes::Bytes;
use sqlx::postgres::PgPool;
use uuid::Uuid;

use super::{audit, sealed, zones};
use crate::{
    AuditEntry, AuditFilter, AuditRecord, Bind, HistoryAction, HistoryEntry, HistoryFilter, JoinToken, Link, PeerCursor, Redeem,
    SoftRow, StoreError, TokenRevocation, Verified, ZoneCertificate,
    journal::{SealedHistory, SmallTables},
};

pub(crate) struct Tables {
    pool: PgPool,
}

impl Tables {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[derive(sqlx::FromRow)]
struct HistoryRow {
    revision: i64,
    at: Timestamp,
    subject: String,
    address: Option<String>,
    action: String,
    kind: String,
    mesh: String,
    name: String,
    owner: String,
    before: Option<String>,
    after: Option<String>,
}

impl TryFrom<HistoryRow> for HistoryEntry {
    type Error = String;
    fn try_from(row: HistoryRow) -> Result<Self, String> {
        let kind = Kind::from_str(&row.kind).map_err(|error| error.to_string())?;
        let owner = Owner::from_str(&row.owner).map_err(|error| error.to_string())?;
        Ok(Self {
            revision: Revision(row.revision.cast_unsigned()),
            at: row.at,
            subject: row.subject,
            address: row.address.and_then(|text| IpAddr::from_str(&text).ok()),
            action: HistoryAction::from_str(&row.action)?,
            key: ResourceKey::new(kind, row.mesh, row.name, owner),
            key_id: None,
            before: row.before.map(Bytes::from),
            after: row.after.map(Bytes::from),
        })
    }
}

#[derive(sqlx::FromRow)]
struct SoftStateRow {
    key: String,
    value: Vec<u8>,
    at: Timestamp,
}

const HISTORY: &str = "
SELECT revision, at, subject, address, action, kind, mesh, name, owner, before, after FROM history
WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR mesh = $2) AND ($3::text IS NULL OR name = $3)
  AND ($4::text IS NULL OR owner = $4) AND ($5::text IS NULL OR subject = $5)
  AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::bigint IS NULL OR revision < $7)
ORDER BY revision DESC LIMIT $8";

#[async_trait]
impl SmallTables for Tables {
    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError> {
        let rows: Vec<HistoryRow> = sqlx::query_as(HISTORY)
            .bind(filter.kind.map(Kind::name))
            .bind(filter.mesh.as_deref())
            .bind(filter.name.as_deref())
            .bind(filter.owner.map(|owner| owner.to_string()))
            .bind(filter.subject.as_deref())
            .bind(filter.since)
            .bind(filter.before.map(|revision| revision.0.cast_signed()))
            .bind(filter.rows())
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::unavailable)?;
        rows.into_iter().map(|row| row.try_into().map_err(StoreError::Corrupt)).collect()
    }

    async fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT bytes FROM blobs WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::unavailable)
    }

    async fn put_blob(&self, name: &str, bytes: &[u8], now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO blobs (name, bytes, modified) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes, modified = excluded.modified",
        )
        .bind(name)
        .bind(bytes)
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(StoreError::unavailable)?;
        Ok(())
    }

    async fn put_blob_if_absent(&self, name: &str, bytes: &[u8], now: Timestamp) -> Result<Vec<u8>, StoreError> {
        sqlx::query("INSERT INTO blobs (name, bytes, modified) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(bytes)
            .bind(now)
            .execute(&self.pool)
            .await
            .map_err(StoreError::unavailable)?;
        // Not in the same statement: that would not see a row that another process inserted meanwhile.
        sqlx::query_scalar("SELECT bytes FROM blobs WHERE name = $1")
            .bind(name)
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::unavailable)
    }

    async fn delete_blob(&self, name: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM blobs WHERE name = $1").bind(name).execute(&self.pool).await.map_err(StoreError::unavailable)?;
        Ok(())
    }

    async fn blob_names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT name FROM blobs WHERE starts_with(name, $1) ORDER BY name")
            .bind(prefix)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::unavailable)
    }

    async fn sealing_keys(&self) -> Result<Vec<String>, StoreError> {
        sealed::keys(&self.pool).await.map_err(StoreError::unavailable)
    }

    async fn sealed_by_others(&self, key_id: &str) -> Result<u64, StoreError> {
        sealed::count(&self.pool, key_id).await.map(i64::cast_unsigned).map_err(StoreError::unavailable)
    }

    async fn sealed_resources(&self, not: &str, limit: i64) -> Result<Vec<(ResourceKey, String)>, StoreError> {
        sealed::resources(&self.pool, not, limit).await
    }

    async fn rewrap_resource(&self, key: &ResourceKey, was: &str, spec: &str, key_id: &str) -> Result<bool, StoreError> {
        sealed::rewrap_resource(&self.pool, key, was, spec, key_id).await.map_err(StoreError::unavailable)
    }

    async fn sealed_history(&self, not: &str, limit: i64) -> Result<Vec<SealedHistory>, StoreError> {
        sealed::history(&self.pool, not, limit).await
    }

    async fn rewrap_history(
        &self,
        revision: i64,
        before: Option<&str>,
        after: Option<&str>,
        key_id: &str,
    ) -> Result<(), StoreError> {
        sealed::rewrap_history(&self.pool, revision, before, after, key_id).await.map_err(StoreError::unavailable)
    }

    async fn peer_cursors(&self) -> Result<BTreeMap<String, PeerCursor>, StoreError> {
        let rows: Vec<(String, Uuid, i64)> = sqlx::query_as("SELECT peer, epoch, revision FROM peer_cursors")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::unavailable)?;
        let cursor = |epoch, revision: i64| PeerCursor { epoch, revision: Revision(revision.cast_unsigned()) };
        Ok(rows.into_iter().map(|(peer, epoch, revision)| (peer, cursor(epoch, revision))).collect())
    }

    async fn put_join_token(&self, token: &JoinToken, now: Timestamp) -> Result<(), StoreError> {
        zones::put_join_token(&self.pool, token, now).await.map_err(StoreError::unavailable)
    }

    async fn redeem_join_token(
        &self,
        id: &str,
        hash: &[u8; 32],
        zone: &Name,
        spki: &[u8; 32],
        now: Timestamp,
    ) -> Result<Redeem, StoreError> {
        zones::redeem(&self.pool, id, hash, zone, spki, now).await.map_err(StoreError::unavailable)
    }

    async fn bind_zone(&self, name: &Name, uid: ZoneUid, now: Timestamp) -> Result<Bind, StoreError> {
        zones::bind(&self.pool, name, uid, now).await.map_err(StoreError::unavailable)
    }

    async fn release_zone(&self, name: &Name) -> Result<(), StoreError> {
        zones::release(&self.pool, name).await.map_err(StoreError::unavailable)
    }

    async fn revoke_zone(&self, uid: ZoneUid, now: Timestamp) -> Result<bool, StoreError> {
        zones::revoke_zone(&self.pool, uid, now).await.map_err(StoreError::unavailable)
    }

    async fn put_certificate(&self, certificate: &ZoneCertificate) -> Result<(), StoreError> {
        zones::put_certificate(&self.pool, certificate).await.map_err(StoreError::unavailable)
    }

    async fn certificates(&self, zone: ZoneUid) -> Result<Vec<ZoneCertificate>, StoreError> {
        zones::certificates(&self.pool, zone).await.map_err(StoreError::unavailable)
    }

    async fn revoke_certificate(&self, serial: &str, now: Timestamp) -> Result<bool, StoreError> {
        zones::revoke_certificate(&self.pool, serial, now).await.map_err(StoreError::unavailable)
    }

    async fn begin_session(&self, peer: &str, session: Uuid) -> Result<(), StoreError> {
        zones::begin_session(&self.pool, peer, session).await.map_err(StoreError::unavailable)
    }

    async fn revoke_token(&self, revocation: &TokenRevocation) -> Result<(), StoreError> {
        zones::revoke_token(&self.pool, revocation).await.map_err(StoreError::unavailable)
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        audit::read(&self.pool, filter).await
    }

    async fn verify_audit(&self) -> Result<Verified, StoreError> {
        audit::verify(&self.pool).await.map_err(StoreError::unavailable)
    }

    async fn append_audit(&self, rows: &[AuditRecord], links: &[Link]) -> Result<(), StoreError> {
        audit::append(&self.pool, rows, links).await.map_err(StoreError::unavailable)
    }

    async fn put_soft(&self, rows: &[(String, Bytes)], now: Timestamp) -> Result<(), StoreError> {
        // One row for each key, in one order: two processes must not wait for each other.
        let newest: BTreeMap<&str, &[u8]> = rows.iter().map(|(key, value)| (key.as_str(), value.as_ref())).collect();
        let (keys, values): (Vec<&str>, Vec<&[u8]>) = newest.into_iter().unzip();
        let write = async {
            let mut transaction = self.pool.begin().await?;
            sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await?;
            sqlx::query(
                "INSERT INTO soft_state (key, value, at) SELECT key, value, $3 FROM unnest($1::text[], $2::bytea[]) AS r (key, value)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, at = excluded.at",
            )
            .bind(keys)
            .bind(values)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await
        };
        write.await.map_err(StoreError::unavailable)
    }

    async fn delete_soft(&self, keys: &[String]) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM soft_state WHERE key = ANY($1)")
            .bind(keys)
            .execute(&self.pool)
            .await
            .map_err(StoreError::unavailable)?;
        Ok(())
    }

    async fn soft(&self, prefix: &str) -> Result<Vec<SoftRow>, StoreError> {
        let rows: Vec<SoftStateRow> =
            sqlx::query_as("SELECT key, value, at FROM soft_state WHERE starts_with(key, $1) ORDER BY key")
                .bind(prefix)
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::unavailable)?;
        Ok(rows.into_iter().map(|row| SoftRow { key: row.key, value: row.value.into(), at: row.at }).collect())
    }

    #[cfg(feature = "testing")]
    async fn dump(&self) -> Result<String, StoreError> {
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::unavailable)?;
        let mut dump = String::new();
        for table in tables {
            let sql = format!("SELECT t::text FROM {table} t");
            let rows: Vec<String> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await.map_err(StoreError::unavailable)?;
            dump.extend(rows);
        }
        // Bytes are shown as hexadecimal above.
        let blobs: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT bytes FROM blobs").fetch_all(&self.pool).await.map_err(StoreError::unavailable)?;
        dump.extend(blobs.iter().map(|blob| String::from_utf8_lossy(blob)));
        Ok(dump)
    }

    #[cfg(feature = "testing")]
    async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.map_err(StoreError::unavailable)?;
        Ok(())
    }
}
