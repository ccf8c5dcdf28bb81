//! Writes the rows of one transaction.

use atoll_model::{Resource, ResourceKey, Revision, Tombstone};
use sqlx::{SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::audit;
use crate::{
    HistoryEntry, Link,
    journal::{DoneOnce, Position, RowChange, Rows},
    seal::SealedSpec,
};

/// Resources that go into one statement: handing a statement to SQLite's thread costs more than a row.
const CHUNK: usize = 32;

/// In an open transaction: writes `rows` and moves the counter to `revision`; says whether the counter stood at `at`.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    at: Position,
    revision: Revision,
    rows: &Rows,
    links: &[Link],
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query("UPDATE counter SET revision = $2 WHERE revision = $1")
        .bind(at.revision.0.cast_signed())
        .bind(revision.0.cast_signed())
        .execute(&mut *connection)
        .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    let mut puts = Vec::new();
    for (key, change) in &rows.changes {
        match change {
            RowChange::Put { resource, fresh, sealed } => {
                puts.push((resource.as_ref(), sealed.as_deref()));
                if *fresh {
                    by_key("DELETE FROM tombstones WHERE kind = $1 AND mesh = $2 AND name = $3 AND owner = $4", key)
                        .execute(&mut *connection)
                        .await?;
                }
            }
            RowChange::Delete { tombstone, recorded } => bury(connection, key, tombstone, *recorded).await?,
        }
    }
    for chunk in puts.chunks(CHUNK) {
        put(connection, chunk).await?;
    }
    for entry in &rows.history {
        tell(connection, entry).await?;
    }
    for (peer, cursor) in &rows.cursors {
        sqlx::query(
            "INSERT INTO peer_cursors (peer, epoch, revision) VALUES ($1, $2, $3)
             ON CONFLICT (peer) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision",
        )
        .bind(peer)
        .bind(cursor.epoch.to_string())
        .bind(cursor.revision.0.cast_signed())
        .execute(&mut *connection)
        .await?;
    }
    for done in &rows.once {
        note(connection, done).await?;
    }
    audit::append(connection, &rows.audit, links).await?;
    Ok(true)
}

async fn note(connection: &mut SqliteConnection, done: &DoneOnce) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO once (subject, key, request, revision, outcomes, at) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(done.subject.clone())
        .bind(done.key.clone())
        .bind(done.request.to_vec())
        .bind(done.revision.0.cast_signed())
        .bind(done.codes())
        .bind(done.at)
        .execute(connection)
        .await?;
    Ok(())
}

type SqliteQuery<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

fn by_key<'q>(sql: &'static str, key: &ResourceKey) -> SqliteQuery<'q> {
    bind_key(sqlx::query(sql), key)
}

fn bind_key<'q>(query: SqliteQuery<'q>, key: &ResourceKey) -> SqliteQuery<'q> {
    query.bind(key.kind.name()).bind(key.mesh.to_string()).bind(key.name.to_string()).bind(key.owner.to_string())
}

/// Inserts or replaces up to [`CHUNK`] resources: a full chunk in one statement, the rest one by one, so that there are only
/// two statements to prepare.
async fn put(connection: &mut SqliteConnection, resources: &[(&Resource, Option<&SealedSpec>)]) -> Result<(), sqlx::Error> {
    if resources.len() == CHUNK {
        let sql = sqlx::AssertSqlSafe(put_sql(CHUNK));
        let query = resources.iter().fold(sqlx::query(sql), |query, (resource, sealed)| bind_resource(query, resource, *sealed));
        query.execute(connection).await?;
        return Ok(());
    }
    for (resource, sealed) in resources {
        bind_resource(sqlx::query(sqlx::AssertSqlSafe(put_sql(1))), resource, *sealed).execute(&mut *connection).await?;
    }
    Ok(())
}

fn put_sql(rows: usize) -> String {
    let values = vec!["(?,?,?,?,?,?,?,?,?,?,?,?,?,?)"; rows].join(",");
    format!(
        "INSERT INTO resources (kind, mesh, name, owner, revision, version, generation, labels, spec, computed, hash, created,
                                modified, key_id)
         VALUES {values}
         ON CONFLICT (kind, mesh, name, owner) DO UPDATE SET
             revision = excluded.revision, version = excluded.version, generation = excluded.generation,
             labels = excluded.labels, spec = excluded.spec, computed = excluded.computed, hash = excluded.hash,
             created = excluded.created, modified = excluded.modified, key_id = excluded.key_id"
    )
}

fn bind_resource<'q>(query: SqliteQuery<'q>, resource: &Resource, sealed: Option<&SealedSpec>) -> SqliteQuery<'q> {
    bind_key(query, &resource.key)
        .bind(resource.revision.0.cast_signed())
        .bind(resource.version.cast_signed())
        .bind(resource.generation.cast_signed())
        .bind(text(&resource.labels_json()))
        .bind(text(sealed.map_or(&resource.spec, |sealed| &sealed.spec)))
        .bind(resource.computed.as_deref().map(text))
        .bind(sealed.map_or_else(|| resource.hash.to_bytes(), |sealed| sealed.hash).to_vec())
        .bind(resource.created)
        .bind(resource.modified)
        .bind(sealed.map(|sealed| sealed.key_id.clone()))
}

async fn bury(
    connection: &mut SqliteConnection,
    key: &ResourceKey,
    tombstone: &Tombstone,
    recorded: bool,
) -> Result<(), sqlx::Error> {
    by_key("DELETE FROM resources WHERE kind = $1 AND mesh = $2 AND name = $3 AND owner = $4", key)
        .execute(&mut *connection)
        .await?;
    by_key(
        "INSERT INTO tombstones (kind, mesh, name, owner, revision, deleted, recorded) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (kind, mesh, name, owner) DO UPDATE SET
             revision = excluded.revision, deleted = excluded.deleted, recorded = excluded.recorded",
        key,
    )
    .bind(tombstone.revision.0.cast_signed())
    .bind(tombstone.deleted)
    .bind(recorded)
    .execute(connection)
    .await?;
    Ok(())
}

async fn tell(connection: &mut SqliteConnection, entry: &HistoryEntry) -> Result<(), sqlx::Error> {
    let query = by_key(
        "INSERT INTO history (kind, mesh, name, owner, revision, at, subject, address, action, before, after, key_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &entry.key,
    );
    query
        .bind(entry.revision.0.cast_signed())
        .bind(entry.at)
        .bind(entry.subject.clone())
        .bind(entry.address.map(|address| address.to_string()))
        .bind(entry.action.to_string())
        .bind(entry.before.as_deref().map(text))
        .bind(entry.after.as_deref().map(text))
        .bind(entry.key_id.clone())
        .execute(connection)
        .await?;
    Ok(())
}

/// What a plan lets through is UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
