//! Sealed rows on Postgres: which keys they need, and how a change of keys writes them.

use atoll_model::ResourceKey;
use sqlx::postgres::PgPool;

use crate::{
    StoreError,
    journal::sealed::{SealedHistory, key},
};

pub(super) async fn keys(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT DISTINCT key_id FROM resources WHERE key_id IS NOT NULL ORDER BY 1").fetch_all(pool).await
}

pub(super) async fn count(pool: &PgPool, not: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM resources WHERE key_id IS NOT NULL AND key_id <> $1)
              + (SELECT count(*) FROM history WHERE key_id IS NOT NULL AND key_id <> $1)",
    )
    .bind(not)
    .fetch_one(pool)
    .await
}

pub(super) async fn resources(pool: &PgPool, not: &str, limit: i64) -> Result<Vec<(ResourceKey, String)>, StoreError> {
    let rows: Vec<(String, String, String, String, String)> = sqlx::query_as(
        "SELECT kind, mesh, name, owner, spec FROM resources WHERE key_id IS NOT NULL AND key_id <> $1
         ORDER BY kind, mesh, name, owner LIMIT $2",
    )
    .bind(not)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(StoreError::unavailable)?;
    rows.into_iter().map(|(kind, mesh, name, owner, spec)| Ok((key((kind, mesh, name, owner))?, spec))).collect()
}

pub(super) async fn rewrap_resource(
    pool: &PgPool,
    key: &ResourceKey,
    was: &str,
    spec: &str,
    key_id: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE resources SET spec = $6, key_id = $7 WHERE kind = $1 AND mesh = $2 AND name = $3 AND owner = $4 AND spec = $5",
    )
    .bind(key.kind.name())
    .bind(key.mesh.as_str())
    .bind(key.name.as_str())
    .bind(key.owner.to_string())
    .bind(was)
    .bind(spec)
    .bind(key_id)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn history(pool: &PgPool, not: &str, limit: i64) -> Result<Vec<SealedHistory>, StoreError> {
    let rows: Vec<(i64, String, String, String, String, Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT revision, kind, mesh, name, owner, before, after FROM history WHERE key_id IS NOT NULL AND key_id <> $1
         ORDER BY revision LIMIT $2",
    )
    .bind(not)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(StoreError::unavailable)?;
    let row = |(revision, kind, mesh, name, owner, before, after)| {
        Ok(SealedHistory { revision, key: key((kind, mesh, name, owner))?, before, after })
    };
    rows.into_iter().map(row).collect()
}

pub(super) async fn rewrap_history(
    pool: &PgPool,
    revision: i64,
    before: Option<&str>,
    after: Option<&str>,
    key_id: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE history SET before = $2, after = $3, key_id = $4 WHERE revision = $1")
        .bind(revision)
        .bind(before)
        .bind(after)
        .bind(key_id)
        .execute(pool)
        .await?;
    Ok(())
}
