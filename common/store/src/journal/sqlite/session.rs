//! The one connection. Callers may be dropped at any await, so whoever takes it next first ends what was left open.
//!
//! Transactions are plain statements: sqlx keeps its own count of open transactions, and that count is wrong from then on
//! when SQLite itself rolls back, as it does when the disk is full.

use std::fs::File;

use sqlx::SqliteConnection;
use tokio::sync::{Mutex, MutexGuard};

/// The connection and the lock of its directory; the committer and the small tables take turns.
pub(super) struct Database {
    session: Mutex<Session>,
    /// Held as long as the database is open.
    _lock: File,
}

pub(super) struct Session {
    pub(super) connection: SqliteConnection,
    /// A transaction is open.
    open: bool,
    /// Commits do not wait for the disk.
    relaxed: bool,
}

impl Database {
    pub(super) fn new(connection: SqliteConnection, lock: File) -> Self {
        Self { session: Mutex::new(Session { connection, open: false, relaxed: false }), _lock: lock }
    }

    pub(super) async fn session(&self) -> Result<MutexGuard<'_, Session>, sqlx::Error> {
        let mut session = self.session.lock().await;
        if session.open {
            session.roll_back().await;
        }
        if session.relaxed {
            session.set_relaxed(false).await?;
        }
        Ok(session)
    }
}

impl Session {
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.open = true;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        Ok(())
    }

    /// Commits what went well, and takes back the rest.
    pub(super) async fn end<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let result = match result {
            Ok(value) => sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.map(|_| value),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.roll_back().await;
        }
        self.open = false;
        result
    }

    /// Commits no longer wait for the disk, or do again.
    pub(super) async fn set_relaxed(&mut self, relaxed: bool) -> Result<(), sqlx::Error> {
        let sql = if relaxed { "PRAGMA synchronous = NORMAL" } else { "PRAGMA synchronous = FULL" };
        self.relaxed = true;
        sqlx::raw_sql(sql).execute(&mut self.connection).await?;
        self.relaxed = relaxed;
        Ok(())
    }

    async fn roll_back(&mut self) {
        // Fails when SQLite has done so already; either way nothing is open then.
        let _done = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
        self.open = false;
    }
}
