//! Reads rows of the journal back into resources.

use std::{str::FromStr, sync::Arc};

use atoll_model::{Change, ContentHash, Kind, Labels, Owner, Resource, ResourceKey, Revision, Timestamp, Tombstone};
use bytes::Bytes;
use futures::TryStreamExt;
use sqlx::{PgConnection, Row, postgres::PgRow};
use tracing::error;
use uuid::Uuid;

use super::super::{Delta, Position};
use crate::{Epoch, Epochs, Registry, ZoneHolder, journal::Surroundings};

/// One statement, so that all rows are seen at one moment: the counter, then resources, then tombstones.
const CHANGES: &str = "
SELECT 'c' AS what, '' AS kind, '' AS mesh, '' AS name, '' AS owner, revision, fence AS version, horizon AS generation,
       NULL AS labels, NULL AS spec, NULL AS computed, NULL::bytea AS hash, NULL::timestamptz AS created,
       NULL::timestamptz AS modified
FROM counter
UNION ALL
SELECT 'r', kind, mesh, name, owner, revision, version, generation, labels::text, spec, computed, hash, created, modified
FROM resources WHERE revision > $1
UNION ALL
SELECT 't', kind, mesh, name, owner, revision, 0, 0, NULL, NULL, NULL, NULL, deleted, deleted
FROM tombstones WHERE revision > $1 AND revision > (SELECT horizon FROM counter)";

/// What changed after a revision.
pub(super) async fn changes(connection: &mut PgConnection, after: Revision) -> Result<Delta, sqlx::Error> {
    let mut delta = Delta::default();
    // Loading everything wants another plan than catching up.
    let query = sqlx::query(CHANGES).persistent(after != Revision(0));
    let mut rows = query.bind(after.0.cast_signed()).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        match row.try_get::<&str, _>(0)? {
            "c" => {
                delta.position = Position { revision: revision(&row, 5)?, fence: row.try_get::<i64, _>(6)?.cast_unsigned() };
                delta.horizon = revision(&row, 7)?;
            }
            "r" => delta.changes.extend(legible(resource(&row)?).map(|resource| Change::Put(Arc::new(resource)))),
            _ => delta.changes.extend(legible(tombstone(&row)?).map(|tombstone| Change::Delete(Arc::new(tombstone)))),
        }
    }
    Ok(delta)
}

/// Says what one row holds that this version cannot read; the row is skipped, the others are read.
fn legible<T>(row: Result<T, String>) -> Option<T> {
    row.inspect_err(|reason| error!("a row of the journal cannot be read and is left out: {reason}")).ok()
}

fn revision(row: &PgRow, column: usize) -> Result<Revision, sqlx::Error> {
    Ok(Revision(row.try_get::<i64, _>(column)?.cast_unsigned()))
}

fn key(row: &PgRow) -> Result<Result<ResourceKey, String>, sqlx::Error> {
    let (kind, mesh, name, owner): (&str, &str, &str, &str) =
        (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
    let key = || {
        let kind = Kind::from_str(kind).map_err(|error| format!("{name}: {error}"))?;
        let owner = Owner::from_str(owner).map_err(|error| format!("{kind}/{mesh}/{name}: owner {owner:?}: {error}"))?;
        Ok(ResourceKey::new(kind, mesh, name, owner))
    };
    Ok(key())
}

fn resource(row: &PgRow) -> Result<Result<Resource, String>, sqlx::Error> {
    let key = match key(row)? {
        Ok(key) => key,
        Err(reason) => return Ok(Err(reason)),
    };
    let (labels, spec, computed): (&str, String, Option<String>) = (row.try_get(8)?, row.try_get(9)?, row.try_get(10)?);
    let (hash, created, modified): (&[u8], Timestamp, Timestamp) = (row.try_get(11)?, row.try_get(12)?, row.try_get(13)?);
    let Ok(labels) = serde_json::from_str::<Labels>(labels) else { return Ok(Err(format!("{key}: labels {labels:?}"))) };
    let Some(hash) = ContentHash::from_bytes(hash) else { return Ok(Err(format!("{key}: hash of {} bytes", hash.len()))) };
    Ok(Ok(Resource {
        key,
        revision: revision(row, 5)?,
        version: row.try_get::<i64, _>(6)?.cast_unsigned(),
        generation: row.try_get::<i64, _>(7)?.cast_unsigned(),
        labels,
        spec: Bytes::from(spec),
        computed: computed.map(Bytes::from),
        hash,
        created,
        modified,
    }))
}

fn tombstone(row: &PgRow) -> Result<Result<Tombstone, String>, sqlx::Error> {
    let (revision, deleted) = (revision(row, 5)?, row.try_get(12)?);
    Ok(key(row)?.map(|key| Tombstone { key, revision, deleted }))
}

/// The small tables that every process holds in memory.
pub(super) async fn surroundings(connection: &mut PgConnection) -> Result<Surroundings, sqlx::Error> {
    let epochs: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT id, first_revision FROM epochs ORDER BY position").fetch_all(&mut *connection).await?;
    let epochs = epochs.into_iter().map(|(id, first)| Epoch { id, first: Revision(first.cast_unsigned()) }).collect();
    let holders: Vec<super::zones::HolderRow> =
        sqlx::query_as("SELECT name, uid, bound, revoked FROM zones").fetch_all(&mut *connection).await?;
    let holders = holders.into_iter().map(ZoneHolder::from).map(|holder| (holder.name.clone(), holder)).collect();
    let revoked_serials: Vec<String> =
        sqlx::query_scalar("SELECT serial FROM zone_certificates WHERE revoked IS NOT NULL").fetch_all(&mut *connection).await?;
    let revoked: Vec<(String, Timestamp)> =
        sqlx::query_as("SELECT jti, until FROM revoked_tokens").fetch_all(&mut *connection).await?;
    let sessions: Vec<(String, Uuid)> =
        sqlx::query_as("SELECT peer, session FROM link_sessions").fetch_all(&mut *connection).await?;
    let registry = Registry {
        holders,
        sessions: sessions.into_iter().collect(),
        revoked_serials: revoked_serials.into_iter().collect(),
        revoked: Arc::new(revoked.into_iter().collect()),
    };
    Ok(Surroundings { epochs: Epochs::new(epochs), registry })
}
