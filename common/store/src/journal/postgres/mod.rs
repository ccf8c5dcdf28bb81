//! The journal on Postgres: several processes may share one database.

use std::{str::FromStr, sync::Arc, time::Duration};

use atoll_runtime::tasks::Tasks;
use sqlx::{
    ConnectOptions, Connection, PgConnection,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Log, Wake};
use crate::StoreError;

mod append;
mod audit;
mod failure;
mod listen;
mod log;
mod read;
mod sealed;
mod tables;
mod zones;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/postgres");

/// The channel on which processes tell each other that they wrote.
const CHANNEL: &str = "atoll";
/// How long making a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long creating and upgrading the tables may take, other processes' turns included.
const MIGRATE_WITHIN: Duration = Duration::from_secs(120);

/// The committer's statements touch few rows of large tables, by index. Their plans are kept for the life of a connection, and
/// one that was made while a table was still small must not read all of it for ever after.
const FEW_ROWS: [(&str, &str); 4] =
    [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("jit", "off")];

/// An open journal.
pub(crate) struct Journal {
    pub(crate) cluster: Uuid,
    pub(crate) log: Box<dyn Log>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) tables: tables::Tables,
}

/// Brings the tables up to date and connects.
pub(crate) async fn open(url: &str, tasks: &Tasks) -> Result<Journal, StoreError> {
    let plain =
        PgConnectOptions::from_str(url).map_err(StoreError::unavailable)?.application_name("atoll").disable_statement_logging();
    let cluster = migrate(&plain).await?;
    let options = plain.options([
        ("statement_timeout", "5s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("tcp_user_timeout", "10s"),
    ]);
    let wake = Arc::new(Wake::default());
    let ended = CancellationToken::new();
    tasks.spawn("store.listener", listen::listen(options.clone(), wake.clone(), ended.clone()));
    let log = Box::new(log::PostgresLog::new(options.clone().options(FEW_ROWS), wake.clone(), ended.drop_guard()));
    Ok(Journal { cluster, log, wake, tables: tables::Tables::new(pool(4, options)) })
}

fn pool(connections: u32, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(connections).acquire_timeout(CONNECT_WITHIN).connect_lazy_with(options)
}

/// Creates or upgrades the tables; other processes that do the same wait for each other. Gives the cluster's identity.
async fn migrate(options: &PgConnectOptions) -> Result<Uuid, StoreError> {
    let mut connection = connect(options).await.map_err(StoreError::unavailable)?;
    timeout(MIGRATE_WITHIN, MIGRATOR.run_direct(None, &mut connection, false))
        .await
        .map_err(StoreError::unavailable)?
        .map_err(StoreError::unavailable)?;
    sqlx::query("INSERT INTO counter (cluster) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(Uuid::new_v4())
        .execute(&mut connection)
        .await
        .map_err(StoreError::unavailable)?;
    let cluster = sqlx::query_scalar("SELECT cluster FROM counter").fetch_one(&mut connection).await;
    // The answer is there; how the connection ends does not matter.
    let _ended = connection.close().await;
    cluster.map_err(StoreError::unavailable)
}

/// Creates the tables of an empty database and nothing else: for a template of databases.
#[cfg(feature = "testing")]
pub(crate) async fn create_tables(connection: &mut PgConnection) -> Result<(), String> {
    MIGRATOR.run_direct(None, connection, false).await.map_err(|error| error.to_string())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    match timeout(CONNECT_WITHIN, PgConnection::connect_with(options)).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
