//! The small tables on SQLite.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr, sync::Arc};

use async_trait::async_trait;
use atoll_model::{Kind, Name, Owner, ResourceKey, Revision, Timestamp, ZoneUid};
use bytes::Bytes;
use sqlx::SqliteConnection;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use super::{
    audit, sealed,
    session::{Database, Session},
    small, zones,
};
use crate::{
    AuditEntry, AuditFilter, AuditRecord, Bind, HistoryAction, HistoryEntry, HistoryFilter, JoinToken, Link, PeerCursor, Redeem,
    SoftRow, StoreError, TokenRevocation, Verified, ZoneCertificate,
    journal::{SealedHistory, SmallTables},
};

pub(crate) struct Tables {
    database: Arc<Database>,
}

impl Tables {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    async fn session(&self) -> Result<MutexGuard<'_, Session>, StoreError> {
        self.database.session().await.map_err(small)
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

const HISTORY: &str = "
SELECT revision, at, subject, address, action, kind, mesh, name, owner, before, after FROM history
WHERE ($1 IS NULL OR kind = $1) AND ($2 IS NULL OR mesh = $2) AND ($3 IS NULL OR name = $3) AND ($4 IS NULL OR owner = $4)
  AND ($5 IS NULL OR subject = $5) AND ($6 IS NULL OR at >= $6) AND ($7 IS NULL OR revision < $7)
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
            .fetch_all(&mut self.session().await?.connection)
            .await
            .map_err(small)?;
        rows.into_iter().map(|row| row.try_into().map_err(StoreError::Corrupt)).collect()
    }

    async fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT bytes FROM blobs WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut self.session().await?.connection)
            .await
            .map_err(small)
    }

    async fn put_blob(&self, name: &str, bytes: &[u8], now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO blobs (name, bytes, modified) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes, modified = excluded.modified",
        )
        .bind(name)
        .bind(bytes)
        .bind(now)
        .execute(&mut self.session().await?.connection)
        .await
        .map_err(small)?;
        Ok(())
    }

    async fn put_blob_if_absent(&self, name: &str, bytes: &[u8], now: Timestamp) -> Result<Vec<u8>, StoreError> {
        let mut session = self.session().await?;
        sqlx::query("INSERT INTO blobs (name, bytes, modified) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(bytes)
            .bind(now)
            .execute(&mut session.connection)
            .await
            .map_err(small)?;
        sqlx::query_scalar("SELECT bytes FROM blobs WHERE name = $1")
            .bind(name)
            .fetch_one(&mut session.connection)
            .await
            .map_err(small)
    }

    async fn delete_blob(&self, name: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM blobs WHERE name = $1")
            .bind(name)
            .execute(&mut self.session().await?.connection)
            .await
            .map_err(small)?;
        Ok(())
    }

    async fn blob_names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT name FROM blobs WHERE substr(name, 1, length($1)) = $1 ORDER BY name")
            .bind(prefix)
            .fetch_all(&mut self.session().await?.connection)
            .await
            .map_err(small)
    }

    async fn sealing_keys(&self) -> Result<Vec<String>, StoreError> {
        sealed::keys(&mut self.session().await?.connection).await.map_err(small)
    }

    async fn sealed_by_others(&self, key_id: &str) -> Result<u64, StoreError> {
        sealed::count(&mut self.session().await?.connection, key_id).await.map(i64::cast_unsigned).map_err(small)
    }

    async fn sealed_resources(&self, not: &str, limit: i64) -> Result<Vec<(ResourceKey, String)>, StoreError> {
        sealed::resources(&mut self.session().await?.connection, not, limit).await
    }

    async fn rewrap_resource(&self, key: &ResourceKey, was: &str, spec: &str, key_id: &str) -> Result<bool, StoreError> {
        sealed::rewrap_resource(&mut self.session().await?.connection, key, was, spec, key_id).await.map_err(small)
    }

    async fn sealed_history(&self, not: &str, limit: i64) -> Result<Vec<SealedHistory>, StoreError> {
        sealed::history(&mut self.session().await?.connection, not, limit).await
    }

    async fn rewrap_history(
        &self,
        revision: i64,
        before: Option<&str>,
        after: Option<&str>,
        key_id: &str,
    ) -> Result<(), StoreError> {
        sealed::rewrap_history(&mut self.session().await?.connection, revision, before, after, key_id).await.map_err(small)
    }

    async fn peer_cursors(&self) -> Result<BTreeMap<String, PeerCursor>, StoreError> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as("SELECT peer, epoch, revision FROM peer_cursors")
            .fetch_all(&mut self.session().await?.connection)
            .await
            .map_err(small)?;
        let cursor = |(peer, epoch, revision): (String, String, i64)| {
            let epoch = Uuid::from_str(&epoch).map_err(|error| StoreError::Corrupt(format!("cursor of {peer}: {error}")))?;
            Ok((peer, PeerCursor { epoch, revision: Revision(revision.cast_unsigned()) }))
        };
        rows.into_iter().map(cursor).collect()
    }

    async fn put_join_token(&self, token: &JoinToken, now: Timestamp) -> Result<(), StoreError> {
        zones::put_join_token(&mut self.session().await?.connection, token, now).await.map_err(small)
    }

    async fn redeem_join_token(
        &self,
        id: &str,
        hash: &[u8; 32],
        zone: &Name,
        spki: &[u8; 32],
        now: Timestamp,
    ) -> Result<Redeem, StoreError> {
        zones::redeem(&mut self.session().await?.connection, id, hash, zone, spki, now).await.map_err(small)
    }

    async fn bind_zone(&self, name: &Name, uid: ZoneUid, now: Timestamp) -> Result<Bind, StoreError> {
        zones::bind(&mut self.session().await?.connection, name, uid, now).await.map_err(small)
    }

    async fn release_zone(&self, name: &Name) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        session.begin().await.map_err(small)?;
        let released = zones::release(&mut session.connection, name).await;
        session.end(released).await.map_err(small)
    }

    async fn revoke_zone(&self, uid: ZoneUid, now: Timestamp) -> Result<bool, StoreError> {
        zones::revoke_zone(&mut self.session().await?.connection, uid, now).await.map_err(small)
    }

    async fn put_certificate(&self, certificate: &ZoneCertificate) -> Result<(), StoreError> {
        zones::put_certificate(&mut self.session().await?.connection, certificate).await.map_err(small)
    }

    async fn certificates(&self, zone: ZoneUid) -> Result<Vec<ZoneCertificate>, StoreError> {
        zones::certificates(&mut self.session().await?.connection, zone).await.map_err(small)
    }

    async fn revoke_certificate(&self, serial: &str, now: Timestamp) -> Result<bool, StoreError> {
        zones::revoke_certificate(&mut self.session().await?.connection, serial, now).await.map_err(small)
    }

    async fn revoke_token(&self, revocation: &TokenRevocation) -> Result<(), StoreError> {
        zones::revoke_token(&mut self.session().await?.connection, revocation).await.map_err(small)
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        audit::read(&mut self.session().await?.connection, filter).await
    }

    async fn verify_audit(&self) -> Result<Verified, StoreError> {
        audit::verify(&mut self.session().await?.connection).await.map_err(small)
    }

    async fn append_audit(&self, rows: &[AuditRecord], links: &[Link]) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        session.begin().await.map_err(small)?;
        let written = audit::append(&mut session.connection, rows, links).await;
        session.end(written).await.map_err(small)
    }

    async fn put_soft(&self, rows: &[(String, Bytes)], now: Timestamp) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        // May be lost, so it does not wait for the disk; commits wait again.
        session.set_relaxed(true).await.map_err(small)?;
        session.begin().await.map_err(small)?;
        let written = put_soft(&mut session.connection, rows, now).await;
        let written = session.end(written).await;
        session.set_relaxed(false).await.map_err(small)?;
        written.map_err(small)
    }

    async fn delete_soft(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        for key in keys {
            sqlx::query("DELETE FROM soft_state WHERE key = $1")
                .bind(key)
                .execute(&mut session.connection)
                .await
                .map_err(small)?;
        }
        Ok(())
    }

    async fn soft(&self, prefix: &str) -> Result<Vec<SoftRow>, StoreError> {
        let rows: Vec<(String, Vec<u8>, Timestamp)> =
            sqlx::query_as("SELECT key, value, at FROM soft_state WHERE substr(key, 1, length($1)) = $1 ORDER BY key")
                .bind(prefix)
                .fetch_all(&mut self.session().await?.connection)
                .await
                .map_err(small)?;
        Ok(rows.into_iter().map(|(key, value, at)| SoftRow { key, value: value.into(), at }).collect())
    }

    /// The file has everything.
    #[cfg(feature = "testing")]
    async fn dump(&self) -> Result<String, StoreError> {
        Ok(String::new())
    }

    #[cfg(feature = "testing")]
    async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut session.connection).await.map_err(small)?;
        Ok(())
    }
}

async fn put_soft(connection: &mut SqliteConnection, rows: &[(String, Bytes)], now: Timestamp) -> Result<(), sqlx::Error> {
    for (key, value) in rows {
        sqlx::query(
            "INSERT INTO soft_state (key, value, at) VALUES ($1, $2, $3)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, at = excluded.at",
        )
        .bind(key)
        .bind(value.as_ref())
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
