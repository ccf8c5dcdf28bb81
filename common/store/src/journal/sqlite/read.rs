//! Reads rows of the journal back into resources.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use atoll_model::{Change, ContentHash, Kind, Labels, Owner, Resource, ResourceKey, Revision, Timestamp, Tombstone, ZoneUid};
use bytes::Bytes;
use futures::TryStreamExt;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use tracing::error;
use uuid::Uuid;

use crate::{
    Epoch, Epochs, Registry, ZoneHolder,
    journal::{Delta, Position, Surroundings},
};

/// What changed after a revision.
pub(super) async fn changes(connection: &mut SqliteConnection, after: Revision) -> Result<Delta, sqlx::Error> {
    let (position, horizon) = position(connection).await?;
    let mut delta = Delta { position, horizon, changes: Vec::new() };
    {
        let mut rows = sqlx::query(
            "SELECT kind, mesh, name, owner, revision, version, generation, labels, spec, computed, hash, created, modified
             FROM resources WHERE revision > $1",
        )
        .bind(after.0.cast_signed())
        .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            delta.changes.extend(legible(resource(&row)?).map(|resource| Change::Put(Arc::new(resource))));
        }
    }
    let stones = sqlx::query("SELECT kind, mesh, name, owner, revision, deleted FROM tombstones WHERE revision > $1")
        .bind(after.max(horizon).0.cast_signed())
        .fetch_all(connection)
        .await?;
    for row in stones {
        let (revision, deleted) = (revision(&row, 4)?, row.try_get(5)?);
        let tombstone = key(&row)?.map(|key| Tombstone { key, revision, deleted });
        delta.changes.extend(legible(tombstone).map(|tombstone| Change::Delete(Arc::new(tombstone))));
    }
    Ok(delta)
}

/// Where the journal stands, and its horizon.
pub(super) async fn position(connection: &mut SqliteConnection) -> Result<(Position, Revision), sqlx::Error> {
    let (revision, fence, horizon): (i64, i64, i64) =
        sqlx::query_as("SELECT revision, fence, horizon FROM counter").fetch_one(connection).await?;
    let position = Position { revision: Revision(revision.cast_unsigned()), fence: fence.cast_unsigned() };
    Ok((position, Revision(horizon.cast_unsigned())))
}

/// Says what one row holds that this version cannot read; the row is skipped, the others are read.
fn legible<T>(row: Result<T, String>) -> Option<T> {
    row.inspect_err(|reason| error!("a row of the journal cannot be read and is left out: {reason}")).ok()
}

fn revision(row: &SqliteRow, column: usize) -> Result<Revision, sqlx::Error> {
    Ok(Revision(row.try_get::<i64, _>(column)?.cast_unsigned()))
}

fn key(row: &SqliteRow) -> Result<Result<ResourceKey, String>, sqlx::Error> {
    let (kind, mesh, name, owner): (&str, &str, &str, &str) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let key = || {
        let kind = Kind::from_str(kind).map_err(|error| format!("{name}: {error}"))?;
        let owner = Owner::from_str(owner).map_err(|error| format!("{kind}/{mesh}/{name}: owner {owner:?}: {error}"))?;
        Ok(ResourceKey::new(kind, mesh, name, owner))
    };
    Ok(key())
}

fn resource(row: &SqliteRow) -> Result<Result<Resource, String>, sqlx::Error> {
    let key = match key(row)? {
        Ok(key) => key,
        Err(reason) => return Ok(Err(reason)),
    };
    let (labels, spec, computed): (&str, String, Option<String>) = (row.try_get(7)?, row.try_get(8)?, row.try_get(9)?);
    let (hash, created, modified): (&[u8], Timestamp, Timestamp) = (row.try_get(10)?, row.try_get(11)?, row.try_get(12)?);
    let Ok(labels) = serde_json::from_str::<Labels>(labels) else { return Ok(Err(format!("{key}: labels {labels:?}"))) };
    let Some(hash) = ContentHash::from_bytes(hash) else { return Ok(Err(format!("{key}: hash of {} bytes", hash.len()))) };
    Ok(Ok(Resource {
        key,
        revision: revision(row, 4)?,
        version: row.try_get::<i64, _>(5)?.cast_unsigned(),
        generation: row.try_get::<i64, _>(6)?.cast_unsigned(),
        labels,
        spec: Bytes::from(spec),
        computed: computed.map(Bytes::from),
        hash,
        created,
        modified,
    }))
}

/// A row of `zones`.
pub(super) type HolderRow = (String, String, Timestamp, Option<Timestamp>);

/// Reads a row of `zones`; `None` if it cannot be read, which is said.
pub(super) fn holder((name, uid, bound, revoked): HolderRow) -> Option<ZoneHolder> {
    let uid = ZoneUid::from_str(&uid).map_err(|error| format!("zone {name}: identity {uid:?}: {error}"));
    legible(uid).map(|uid| ZoneHolder { name: name.into(), uid, bound, revoked })
}

/// The small tables that the process holds in memory.
pub(super) async fn surroundings(connection: &mut SqliteConnection) -> Result<Surroundings, sqlx::Error> {
    let epochs: Vec<(String, i64)> =
        sqlx::query_as("SELECT id, first_revision FROM epochs ORDER BY position").fetch_all(&mut *connection).await?;
    let epoch = |(id, first): (String, i64)| {
        let id = legible(Uuid::from_str(&id).map_err(|error| format!("epoch {id:?}: {error}")))?;
        Some(Epoch { id, first: Revision(first.cast_unsigned()) })
    };
    let holders: Vec<HolderRow> =
        sqlx::query_as("SELECT name, uid, bound, revoked FROM zones").fetch_all(&mut *connection).await?;
    let holders: BTreeMap<_, _> = holders.into_iter().filter_map(holder).map(|holder| (holder.name.clone(), holder)).collect();
    let revoked: Vec<String> =
        sqlx::query_scalar("SELECT serial FROM zone_certificates WHERE revoked IS NOT NULL").fetch_all(&mut *connection).await?;
    let tokens: Vec<(String, Timestamp)> = sqlx::query_as("SELECT jti, until FROM revoked_tokens").fetch_all(connection).await?;
    Ok(Surroundings {
        epochs: Epochs::new(epochs.into_iter().filter_map(epoch).collect()),
        registry: Registry {
            sessions: BTreeMap::new(),
            holders,
            revoked_serials: revoked.into_iter().collect(),
            revoked: Arc::new(tokens.into_iter().collect()),
        },
    })
}
