//! The journal on SQLite: a directory that belongs to one process.

use std::{fs::File, path::Path, sync::Arc};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use uuid::Uuid;

use self::session::Database;
use super::{Log, LogError};
use crate::StoreError;

mod append;
mod audit;
mod log;
mod read;
mod sealed;
mod session;
mod tables;
mod zones;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// The database file in the data directory.
const FILE: &str = "atoll.db";
/// The file whose lock says that a process uses the directory.
const LOCK: &str = "atoll.lock";

/// An open journal.
pub(crate) struct Journal {
    pub(crate) cluster: Uuid,
    pub(crate) log: Box<dyn Log>,
    pub(crate) tables: tables::Tables,
}

/// Locks the directory, checks the file, brings the tables up to date.
pub(crate) async fn open(dir: &Path) -> Result<Journal, StoreError> {
    atoll_runtime::files::private_dir(dir).map_err(StoreError::unavailable)?;
    let lock = lock(dir)?;
    let path = dir.join(FILE);
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .disable_statement_logging();
    let opened = prepare(&options).await;
    let (connection, cluster) = opened.map_err(|error| match error {
        LogError::Corrupt(what) => StoreError::Corrupt(format!("{}: {what}", path.display())),
        other => other.into(),
    })?;
    let database = Arc::new(Database::new(connection, lock));
    let log = Box::new(log::SqliteLog::new(database.clone()));
    Ok(Journal { cluster, log, tables: tables::Tables::new(database) })
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(StoreError::unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked(format!(
            "another process uses the data directory {}; several processes on one store need Postgres",
            dir.display()
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(StoreError::unavailable(error)),
    }
}

async fn prepare(options: &SqliteConnectOptions) -> Result<(SqliteConnection, Uuid), LogError> {
    let mut connection = SqliteConnection::connect_with(options).await.map_err(sort)?;
    let check: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(3)").fetch_all(&mut connection).await.map_err(sort)?;
    if check != ["ok"] {
        return Err(LogError::Corrupt(check.join("; ")));
    }
    MIGRATOR.run_direct(None, &mut connection, false).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => sort(error),
        other => LogError::Corrupt(other.to_string()),
    })?;
    sqlx::query("INSERT INTO counter (only_row, cluster) VALUES (1, $1) ON CONFLICT DO NOTHING")
        .bind(Uuid::new_v4().to_string())
        .execute(&mut connection)
        .await
        .map_err(sort)?;
    let cluster: String = sqlx::query_scalar("SELECT cluster FROM counter").fetch_one(&mut connection).await.map_err(sort)?;
    let cluster = cluster.parse().map_err(|_| LogError::Corrupt(format!("the cluster's identity is {cluster:?}")))?;
    Ok((connection, cluster))
}

/// Sorts an error by what follows from it. SQLite commits or does not; there is no doubt.
fn sort(error: sqlx::Error) -> LogError {
    let code = error.as_database_error().and_then(|database| database.code()).and_then(|code| code.parse::<i32>().ok());
    // The lower byte is the primary code: CORRUPT, NOTADB; CONSTRAINT, MISMATCH, TOOBIG.
    match code.map(|code| code & 0xff) {
        Some(11 | 26) => LogError::Corrupt(error.to_string()),
        Some(18..=20) => LogError::Refused(Arc::new(error)),
        Some(_) => LogError::Busy(Arc::new(error)),
        None => LogError::Lost(Arc::new(error)),
    }
}

/// What a failed read or write of a small table means to the caller.
fn small(error: sqlx::Error) -> StoreError {
    match sort(error) {
        LogError::Corrupt(what) => StoreError::Corrupt(what),
        other => StoreError::unavailable(other),
    }
}
