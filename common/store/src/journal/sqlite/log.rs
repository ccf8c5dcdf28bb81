//! The committer's side of the journal.

use std::sync::Arc;

use async_trait::async_trait;
use atoll_model::{Revision, Timestamp};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{append, read, session::Database, sort};
use crate::{
    Link, Pruned,
    journal::{Delta, DoneBefore, DoneOnceRow, Log, LogError, Opened, Position, PruneLimits, Rows, Surroundings},
};

pub(super) struct SqliteLog {
    database: Arc<Database>,
}

impl SqliteLog {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Log for SqliteLog {
    async fn open_epoch(&mut self, id: Uuid, now: Timestamp) -> Result<Opened, LogError> {
        let mut session = self.database.session().await.map_err(sort)?;
        session.begin().await.map_err(sort)?;
        let opened = open_epoch(&mut session.connection, id, now).await;
        session.end(opened).await.map_err(sort)
    }

    async fn position(&mut self) -> Result<Position, LogError> {
        let mut session = self.database.session().await.map_err(sort)?;
        read::position(&mut session.connection).await.map(|(position, _)| position).map_err(sort)
    }

    /// Nobody else writes: there is nothing to lock.
    async fn lock(&mut self) -> Result<Position, LogError> {
        self.position().await
    }

    async fn unlock(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    async fn read(&mut self, after: Revision) -> Result<Delta, LogError> {
        let mut session = self.database.session().await.map_err(sort)?;
        read::changes(&mut session.connection, after).await.map_err(sort)
    }

    async fn surroundings(&mut self) -> Result<Surroundings, LogError> {
        let mut session = self.database.session().await.map_err(sort)?;
        read::surroundings(&mut session.connection).await.map_err(sort)
    }

    async fn done_before(&mut self, keys: &[(&str, &str)]) -> Result<DoneBefore, LogError> {
        let mut session = self.database.session().await.map_err(sort)?;
        let mut before = DoneBefore::default();
        for (subject, key) in keys {
            let row: Option<DoneOnceRow> =
                sqlx::query_as("SELECT subject, key, request, revision, outcomes, at FROM once WHERE subject = $1 AND key = $2")
                    .bind(*subject)
                    .bind(*key)
                    .fetch_optional(&mut session.connection)
                    .await
                    .map_err(sort)?;
            if let Some(row) = row {
                before.add(row.into());
            }
        }
        Ok(before)
    }

    async fn audited(&mut self, chain: Uuid) -> Result<u64, LogError> {
        let mut session = self.database.session().await.map_err(sort)?;
        let length: Option<i64> = sqlx::query_scalar("SELECT length FROM audit_chains WHERE chain = $1")
            .bind(chain.to_string())
            .fetch_optional(&mut session.connection)
            .await
            .map_err(sort)?;
        Ok(length.unwrap_or_default().cast_unsigned())
    }

    async fn append(&mut self, at: Position, revision: Revision, rows: &Rows, links: &[Link]) -> Result<bool, LogError> {
        let mut session = self.database.session().await.map_err(sort)?;
        let moved = match session.begin().await {
            Ok(()) => append::append(&mut session.connection, at, revision, rows, links).await,
            Err(error) => Err(error),
        };
        match session.end(moved).await {
            Ok(moved) => Ok(moved),
            Err(error) => {
                // An error of the disk at the end may hide that the commit was done; the counter knows.
                let moved = revision != at.revision
                    && read::position(&mut session.connection).await.is_ok_and(|(position, _)| position.revision == revision);
                if moved { Ok(true) } else { Err(sort(error)) }
            }
        }
    }

    async fn prune(&mut self, limits: PruneLimits) -> Result<(Pruned, Revision), LogError> {
        let mut session = self.database.session().await.map_err(sort)?;
        session.begin().await.map_err(sort)?;
        let pruned = prune(&mut session.connection, limits).await;
        session.end(pruned).await.map_err(sort)
    }
}

/// In an open transaction: appends the epoch.
async fn open_epoch(connection: &mut SqliteConnection, id: Uuid, now: Timestamp) -> Result<Opened, sqlx::Error> {
    sqlx::query("UPDATE counter SET fence = fence + 1").execute(&mut *connection).await?;
    let (position, _) = read::position(connection).await?;
    sqlx::query("INSERT INTO epochs (id, first_revision, opened) VALUES ($1, $2, $3)")
        .bind(id.to_string())
        .bind(position.revision.next().0.cast_signed())
        .bind(now)
        .execute(&mut *connection)
        .await?;
    Ok(Opened { position, written: None })
}

/// In an open transaction: deletes one step of what is too old.
async fn prune(connection: &mut SqliteConnection, limits: PruneLimits) -> Result<(Pruned, Revision), sqlx::Error> {
    let history =
        sqlx::query("DELETE FROM history WHERE revision IN (SELECT revision FROM history WHERE at < $1 ORDER BY at LIMIT $2)")
            .bind(limits.history_before)
            .bind(limits.step)
            .execute(&mut *connection)
            .await?;
    let gone: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM tombstones WHERE revision IN (
             SELECT revision FROM tombstones WHERE deleted < CASE WHEN recorded THEN $1 ELSE $2 END ORDER BY revision LIMIT $3)
         RETURNING revision",
    )
    .bind(limits.recorded_before)
    .bind(limits.generated_before)
    .bind(limits.step)
    .fetch_all(&mut *connection)
    .await?;
    if let Some(newest) = gone.iter().max() {
        sqlx::query("UPDATE counter SET horizon = max(horizon, $1)").bind(newest).execute(&mut *connection).await?;
    }
    let once = sqlx::query(
        "DELETE FROM once WHERE (subject, key) IN (SELECT subject, key FROM once WHERE at < $1 ORDER BY at LIMIT $2)",
    )
    .bind(limits.once_before)
    .bind(limits.once_step)
    .execute(&mut *connection)
    .await?;
    let revocations =
        sqlx::query("DELETE FROM revoked_tokens WHERE until < $1").bind(limits.revoked_until).execute(&mut *connection).await?;
    let (_, horizon) = read::position(connection).await?;
    let pruned = Pruned {
        tombstones: gone.len() as u64,
        history: history.rows_affected(),
        once: once.rows_affected(),
        revocations: revocations.rows_affected(),
    };
    Ok((pruned, horizon))
}
