//! The committer's connection.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use atoll_model::{Revision, Timestamp};
use sqlx::{PgConnection, Row, postgres::PgConnectOptions};
use tokio::time::{error::Elapsed, timeout};
use tokio_util::sync::DropGuard;
use uuid::Uuid;

use super::{
    CHANNEL,
    append::{Writer, append},
    failure::{Stage, sort},
    read,
};
use crate::{
    Link, Pruned,
    journal::{
        Delta, DoneBefore, DoneOnceRow, Log, LogError, Opened, Position, PruneLimits, RowChange, Rows, Surroundings, Wake,
    },
};

/// How long a small statement may take before the server is taken for dead.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long loading the table may take.
const LOAD_WITHIN: Duration = Duration::from_secs(60);
/// What is added to [`PATIENCE`] for each MiB that is written.
const PATIENCE_PER_MIB: Duration = Duration::from_secs(1);

const LOCK: &str = "BEGIN; SELECT revision, fence FROM counter FOR UPDATE";

pub(super) struct PostgresLog {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    epoch: Option<Uuid>,
    /// Whether a transaction that holds the counter is open.
    locked: bool,
    wake: Arc<Wake>,
    mark: String,
    _listener: DropGuard,
}

impl PostgresLog {
    pub(super) fn new(options: PgConnectOptions, wake: Arc<Wake>, listener: DropGuard) -> Self {
        Self { options, connection: None, epoch: None, locked: false, wake, mark: String::new(), _listener: listener }
    }

    fn connection(&mut self) -> Result<&mut PgConnection, LogError> {
        self.connection.as_mut().ok_or_else(|| LogError::Lost(Arc::new(sqlx::Error::PoolClosed)))
    }

    /// Sorts what came of a statement. A connection in doubt is dropped: its server side ends with it.
    fn settle<T>(&mut self, result: Result<Result<T, sqlx::Error>, Elapsed>, stage: Stage) -> Result<T, LogError> {
        let error = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => sort(error, stage),
            Err(_) => sort(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()), stage),
        };
        if self.locked || matches!(error, LogError::Lost(_) | LogError::Unknown(_)) {
            self.drop_connection();
        }
        Err(error)
    }

    fn drop_connection(&mut self) {
        self.connection = None;
        self.locked = false;
    }

    async fn commit(&mut self) -> Result<(), LogError> {
        let connection = self.connection()?;
        let done = timeout(PATIENCE, sqlx::raw_sql("COMMIT").execute(connection)).await;
        self.settle(done, Stage::Committing)?;
        self.locked = false;
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<(), LogError> {
        self.drop_connection();
        let connection = super::connect(&self.options).await.map_err(|error| sort(error, Stage::Before))?;
        self.connection = Some(connection);
        Ok(())
    }
}

#[async_trait]
impl Log for PostgresLog {
    async fn open_epoch(&mut self, id: Uuid, now: Timestamp) -> Result<Opened, LogError> {
        self.reconnect().await?;
        let at = self.lock().await?;
        let (before, mark) = (self.epoch, self.wake.mark(id));
        let connection = self.connection()?;
        let opened = timeout(PATIENCE, open_epoch(connection, id, before, &mark, at.revision.next(), now)).await;
        let opened = self.settle(opened, Stage::Before)?;
        self.commit().await?;
        self.epoch = Some(id);
        self.mark = mark;
        Ok(Opened { position: Position { fence: at.fence + 1, ..at }, written: opened })
    }

    async fn position(&mut self) -> Result<Position, LogError> {
        let connection = self.connection()?;
        let row = timeout(PATIENCE, sqlx::query("SELECT revision, fence FROM counter").fetch_one(connection)).await;
        let position = row.map(|row| row.and_then(|row| position(&row)));
        self.settle(position, Stage::Before)
    }

    async fn lock(&mut self) -> Result<Position, LogError> {
        self.locked = true;
        let connection = self.connection()?;
        let row = timeout(PATIENCE, sqlx::raw_sql(LOCK).fetch_one(connection)).await;
        let position = row.map(|row| row.and_then(|row| position(&row)));
        self.settle(position, Stage::Before)
    }

    async fn unlock(&mut self) -> Result<(), LogError> {
        let connection = self.connection()?;
        let done = timeout(PATIENCE, sqlx::raw_sql("ROLLBACK").execute(connection)).await;
        self.settle(done, Stage::Before)?;
        self.locked = false;
        Ok(())
    }

    async fn read(&mut self, after: Revision) -> Result<Delta, LogError> {
        let connection = self.connection()?;
        let delta = if after == Revision(0) {
            timeout(LOAD_WITHIN, load(connection)).await
        } else {
            timeout(PATIENCE, read::changes(connection, after)).await
        };
        self.settle(delta, Stage::Before)
    }

    async fn surroundings(&mut self) -> Result<Surroundings, LogError> {
        let connection = self.connection()?;
        let read = timeout(PATIENCE, read::surroundings(connection)).await;
        self.settle(read, Stage::Before)
    }

    async fn done_before(&mut self, keys: &[(&str, &str)]) -> Result<DoneBefore, LogError> {
        let connection = self.connection()?;
        let done = timeout(PATIENCE, done_before(connection, keys)).await;
        self.settle(done, Stage::Before)
    }

    async fn audited(&mut self, chain: Uuid) -> Result<u64, LogError> {
        let connection = self.connection()?;
        let query = sqlx::query_scalar("SELECT length FROM audit_chains WHERE chain = $1").bind(chain);
        let length: Result<Result<Option<i64>, _>, _> = timeout(PATIENCE, query.fetch_optional(connection)).await;
        Ok(self.settle(length, Stage::Before)?.unwrap_or_default().cast_unsigned())
    }

    async fn append(&mut self, at: Position, revision: Revision, rows: &Rows, links: &[Link]) -> Result<bool, LogError> {
        let Some(epoch) = self.epoch else { return Err(LogError::Lost(Arc::new(sqlx::Error::PoolClosed))) };
        let stage = if self.locked { Stage::Before } else { Stage::Committing };
        let mark = std::mem::take(&mut self.mark);
        let writer = Writer { at, epoch, mark: &mark };
        let done = match self.connection() {
            Ok(connection) => timeout(patience(rows), append(connection, &writer, revision, rows, links)).await,
            Err(error) => return Err(error),
        };
        self.mark = mark;
        let moved = self.settle(done, stage)?;
        if self.locked {
            self.commit().await?;
        }
        Ok(moved)
    }

    async fn prune(&mut self, limits: PruneLimits) -> Result<(Pruned, Revision), LogError> {
        let connection = self.connection()?;
        let history = timeout(PATIENCE, prune_history(connection, limits)).await;
        let history = self.settle(history, Stage::Before)?;
        self.lock().await?;
        let connection = self.connection()?;
        let tombstones = timeout(PATIENCE, prune_tombstones(connection, limits)).await;
        let (tombstones, horizon) = self.settle(tombstones, Stage::Before)?;
        let connection = self.connection()?;
        let revocations = timeout(PATIENCE, prune_revocations(connection, limits)).await;
        let revocations = self.settle(revocations, Stage::Before)?;
        self.commit().await?;
        let connection = self.connection()?;
        let once = timeout(PATIENCE, prune_once(connection, limits)).await;
        let once = self.settle(once, Stage::Before)?;
        Ok((Pruned { tombstones, history, once, revocations }, horizon))
    }
}

fn position(row: &sqlx::postgres::PgRow) -> Result<Position, sqlx::Error> {
    let (revision, fence): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Position { revision: Revision(revision.cast_unsigned()), fence: fence.cast_unsigned() })
}

/// Reads everything; a large table takes longer than other statements may.
async fn load(connection: &mut PgConnection) -> Result<Delta, sqlx::Error> {
    sqlx::raw_sql("SET statement_timeout = '60s'; SET enable_seqscan = on").execute(&mut *connection).await?;
    let delta = read::changes(connection, Revision(0)).await?;
    sqlx::raw_sql("SET statement_timeout = '5s'; SET enable_seqscan = off").execute(connection).await?;
    Ok(delta)
}

/// Appends the epoch in an open transaction; gives what the epoch before had written.
async fn open_epoch(
    connection: &mut PgConnection,
    id: Uuid,
    before: Option<Uuid>,
    mark: &str,
    first: Revision,
    now: Timestamp,
) -> Result<Option<Revision>, sqlx::Error> {
    let written: Option<Option<i64>> =
        sqlx::query_scalar("SELECT written FROM epochs WHERE id = $1").bind(before).fetch_optional(&mut *connection).await?;
    sqlx::query("INSERT INTO epochs (id, first_revision, opened) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(first.0.cast_signed())
        .bind(now)
        .execute(&mut *connection)
        .await?;
    // A statement of the lost connection that the server reads only now finds another fence and does nothing.
    sqlx::query("UPDATE counter SET fence = fence + 1").execute(&mut *connection).await?;
    sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(mark).execute(connection).await?;
    Ok(written.flatten().map(|revision| Revision(revision.cast_unsigned())))
}

async fn prune_history(connection: &mut PgConnection, limits: PruneLimits) -> Result<u64, sqlx::Error> {
    let done =
        sqlx::query("DELETE FROM history WHERE revision IN (SELECT revision FROM history WHERE at < $1 ORDER BY at LIMIT $2)")
            .bind(limits.history_before)
            .bind(limits.step)
            .execute(connection)
            .await?;
    Ok(done.rows_affected())
}

async fn prune_once(connection: &mut PgConnection, limits: PruneLimits) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM once WHERE (subject, key) IN (SELECT subject, key FROM once WHERE at < $1 ORDER BY at LIMIT $2)",
    )
    .bind(limits.once_before)
    .bind(limits.once_step)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes revocations of tokens that have ended, in an open transaction that holds the counter.
async fn prune_revocations(connection: &mut PgConnection, limits: PruneLimits) -> Result<u64, sqlx::Error> {
    let gone: i64 = sqlx::query_scalar(
        "WITH gone AS (
            DELETE FROM revoked_tokens WHERE until < $1 RETURNING 1
        ), moved AS (
            UPDATE counter SET fence = fence + 1 WHERE EXISTS (SELECT FROM gone)
        )
        SELECT count(*) FROM gone",
    )
    .bind(limits.revoked_until)
    .fetch_one(connection)
    .await?;
    Ok(gone.cast_unsigned())
}

async fn done_before(connection: &mut PgConnection, keys: &[(&str, &str)]) -> Result<DoneBefore, sqlx::Error> {
    let (subjects, keys): (Vec<&str>, Vec<&str>) = keys.iter().copied().unzip();
    let rows: Vec<DoneOnceRow> = sqlx::query_as(
        "SELECT o.subject, o.key, o.request, o.revision, o.outcomes, o.at
         FROM unnest($1::text[], $2::text[]) AS r (subject, key) JOIN once o ON o.subject = r.subject AND o.key = r.key",
    )
    .bind(subjects)
    .bind(keys)
    .fetch_all(connection)
    .await?;
    let mut before = DoneBefore::default();
    rows.into_iter().for_each(|row| before.add(row.into()));
    Ok(before)
}

/// Deletes the oldest tombstones in an open transaction that holds the counter; gives their number and the horizon.
async fn prune_tombstones(connection: &mut PgConnection, limits: PruneLimits) -> Result<(u64, Revision), sqlx::Error> {
    let row: (i64, i64) = sqlx::query_as(
        "WITH gone AS (
            DELETE FROM tombstones WHERE revision IN (
                SELECT revision FROM tombstones WHERE deleted < CASE WHEN recorded THEN $1 ELSE $2 END ORDER BY revision LIMIT $3)
            RETURNING revision
        ), moved AS (
            UPDATE counter SET horizon = greatest(horizon, (SELECT max(revision) FROM gone)), fence = fence + 1
            WHERE EXISTS (SELECT FROM gone)
            RETURNING horizon
        )
        SELECT (SELECT count(*) FROM gone), coalesce((SELECT horizon FROM moved), (SELECT horizon FROM counter))",
    )
    .bind(limits.recorded_before)
    .bind(limits.generated_before)
    .bind(limits.step)
    .fetch_one(connection)
    .await?;
    Ok((row.0.cast_unsigned(), Revision(row.1.cast_unsigned())))
}

/// More rows may take longer.
fn patience(rows: &Rows) -> Duration {
    let bytes: usize = rows
        .changes
        .values()
        .map(|change| match change {
            RowChange::Put { resource, .. } => resource.spec.len() + 200,
            RowChange::Delete { .. } => 100,
        })
        .sum();
    PATIENCE + PATIENCE_PER_MIB * u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}
