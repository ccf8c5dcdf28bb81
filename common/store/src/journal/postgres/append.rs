//! Writes the rows of one transaction in one statement.

use std::sync::Arc;

use atoll_model::{Resource, Revision, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{DoneOnce, Position, RowChange, Rows},
    CHANNEL, audit,
};
use crate::{Link, seal::SealedSpec};

/// Moves the counter if it stands where the caller believes, and only then writes. The counter's row is locked by that, so
/// commits of several processes follow each other in the order of their revisions. As a statement of its own it is also the
/// whole transaction: one round trip.
const APPEND: &str = "
WITH moved AS (
    UPDATE counter SET revision = $3 WHERE revision = $1 AND fence = $2 RETURNING 1
), marked AS (
    UPDATE epochs SET written = $3 WHERE id = $4 AND EXISTS (SELECT FROM moved)
), put AS (
    INSERT INTO resources (kind, mesh, name, owner, revision, version, generation, labels, spec, computed, hash, created, modified,
                           key_id)
    SELECT kind, mesh, name, owner, revision, version, generation, labels::jsonb, spec, computed, hash, created, modified, key_id
    FROM unnest($7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[],
                $15::text[], $16::text[], $17::bytea[], $18::timestamptz[], $19::timestamptz[], $68::text[])
         AS r (kind, mesh, name, owner, revision, version, generation, labels, spec, computed, hash, created, modified, key_id)
    WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (kind, mesh, name, owner) DO UPDATE SET
        revision = excluded.revision, version = excluded.version, generation = excluded.generation, labels = excluded.labels,
        spec = excluded.spec, computed = excluded.computed, hash = excluded.hash, created = excluded.created,
        modified = excluded.modified, key_id = excluded.key_id
), reborn AS (
    DELETE FROM tombstones t USING unnest($20::text[], $21::text[], $22::text[], $23::text[]) AS r (kind, mesh, name, owner)
    WHERE EXISTS (SELECT FROM moved)
      AND t.kind = r.kind AND t.mesh = r.mesh AND t.name = r.name AND t.owner = r.owner
), gone AS (
    DELETE FROM resources t USING unnest($24::text[], $25::text[], $26::text[], $27::text[]) AS r (kind, mesh, name, owner)
    WHERE EXISTS (SELECT FROM moved)
      AND t.kind = r.kind AND t.mesh = r.mesh AND t.name = r.name AND t.owner = r.owner
), buried AS (
    INSERT INTO tombstones (kind, mesh, name, owner, revision, deleted, recorded)
    SELECT * FROM unnest($24::text[], $25::text[], $26::text[], $27::text[], $28::bigint[], $29::timestamptz[], $30::boolean[])
    WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (kind, mesh, name, owner) DO UPDATE SET
        revision = excluded.revision, deleted = excluded.deleted, recorded = excluded.recorded
), told AS (
    INSERT INTO history (revision, at, subject, address, action, kind, mesh, name, owner, before, after, key_id)
    SELECT * FROM unnest($31::bigint[], $32::timestamptz[], $33::text[], $34::text[], $35::text[], $36::text[], $37::text[],
                         $38::text[], $39::text[], $40::text[], $41::text[], $69::text[])
    WHERE EXISTS (SELECT FROM moved)
), followed AS (
    INSERT INTO peer_cursors (peer, epoch, revision)
    SELECT * FROM unnest($42::text[], $43::uuid[], $44::bigint[])
    WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (peer) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision
), noted AS (
    INSERT INTO once (subject, key, request, revision, outcomes, at)
    SELECT * FROM unnest($45::text[], $46::text[], $47::bytea[], $48::bigint[], $49::bytea[], $50::timestamptz[])
    WHERE EXISTS (SELECT FROM moved)
), counted AS (
    INSERT INTO audit_chains (chain, length) SELECT $51::uuid, $52::bigint WHERE $52::bigint > 0 AND EXISTS (SELECT FROM moved)
    ON CONFLICT (chain) DO UPDATE SET length = excluded.length
), audited AS (
    INSERT INTO audit (chain, sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object, before,
                       after, decision, reason)
    SELECT $51, sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object, before, after,
           decision, reason
    FROM unnest($53::bigint[], $54::bytea[], $55::bytea[], $56::timestamptz[], $57::bigint[], $58::text[], $59::text[],
                $60::text[], $61::text[], $62::text[], $63::text[], $64::bytea[], $65::bytea[], $66::text[], $67::text[])
         AS r (sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object, before, after,
               decision, reason)
    WHERE EXISTS (SELECT FROM moved)
    ORDER BY sequence
)
SELECT pg_notify($5, $6) FROM moved";

/// Who writes, and where it believes the journal to stand.
pub(super) struct Writer<'a> {
    pub(super) at: Position,
    pub(super) epoch: Uuid,
    /// What other processes are told.
    pub(super) mark: &'a str,
}

/// Writes `rows` and moves the counter to `revision`; says whether the counter stood at `writer.at`, and whether the keys of
/// what is done once were still free.
pub(super) async fn append(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    revision: Revision,
    rows: &Rows,
    links: &[Link],
) -> Result<bool, sqlx::Error> {
    let (puts, fresh, deletes) = columns(rows);
    let query = sqlx::query(APPEND)
        .bind(writer.at.revision.0.cast_signed())
        .bind(writer.at.fence.cast_signed())
        .bind(revision.0.cast_signed())
        .bind(writer.epoch)
        .bind(CHANNEL)
        .bind(writer.mark);
    let query = query
        .bind(puts.keys.kind)
        .bind(puts.keys.mesh)
        .bind(puts.keys.name)
        .bind(puts.keys.owner)
        .bind(puts.revision)
        .bind(puts.version)
        .bind(puts.generation)
        .bind(puts.labels)
        .bind(puts.spec)
        .bind(puts.computed)
        .bind(puts.hash)
        .bind(puts.created)
        .bind(puts.modified);
    let query = query.bind(fresh.kind).bind(fresh.mesh).bind(fresh.name).bind(fresh.owner);
    let query = query
        .bind(deletes.keys.kind)
        .bind(deletes.keys.mesh)
        .bind(deletes.keys.name)
        .bind(deletes.keys.owner)
        .bind(deletes.revision)
        .bind(deletes.deleted)
        .bind(deletes.recorded);
    let query = bind_once(bind_cursors(bind_history(query, rows), rows), rows);
    let query = audit::bind(query, &rows.audit, links)
        .bind(puts.key_id)
        .bind(rows.history.iter().map(|entry| entry.key_id.as_deref()).collect::<Vec<_>>());
    match query.execute(connection).await {
        Ok(done) => Ok(done.rows_affected() > 0),
        // Another process did the same request, and took no revision for it.
        Err(error) if taken(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation() && error.constraint() == Some("once_pkey"))
}

fn bind_once<'q>(query: Query<'q>, rows: &Rows) -> Query<'q> {
    let all = || rows.once.iter();
    query
        .bind(all().map(|done| done.subject.clone()).collect::<Vec<_>>())
        .bind(all().map(|done| done.key.clone()).collect::<Vec<_>>())
        .bind(all().map(|done| done.request.to_vec()).collect::<Vec<_>>())
        .bind(all().map(|done| done.revision.0.cast_signed()).collect::<Vec<_>>())
        .bind(all().map(DoneOnce::codes).collect::<Vec<_>>())
        .bind(all().map(|done| done.at).collect::<Vec<_>>())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn bind_history<'q>(query: Query<'q>, rows: &Rows) -> Query<'q> {
    let all = || rows.history.iter();
    query
        .bind(all().map(|entry| entry.revision.0.cast_signed()).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.at).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.subject.as_str()).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.address.map(|address| address.to_string())).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.action.to_string()).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.key.kind.name()).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.key.mesh.as_str()).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.key.name.as_str()).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.key.owner.to_string()).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.before.as_deref().map(text)).collect::<Vec<_>>())
        .bind(all().map(|entry| entry.after.as_deref().map(text)).collect::<Vec<_>>())
}

fn bind_cursors<'q>(query: Query<'q>, rows: &Rows) -> Query<'q> {
    query
        .bind(rows.cursors.keys().map(String::as_str).collect::<Vec<_>>())
        .bind(rows.cursors.values().map(|cursor| cursor.epoch).collect::<Vec<_>>())
        .bind(rows.cursors.values().map(|cursor| cursor.revision.0.cast_signed()).collect::<Vec<_>>())
}

#[derive(Default)]
struct Keys<'a> {
    kind: Vec<&'static str>,
    mesh: Vec<&'a str>,
    name: Vec<&'a str>,
    owner: Vec<String>,
}

impl<'a> Keys<'a> {
    fn push(&mut self, key: &'a atoll_model::ResourceKey) {
        self.kind.push(key.kind.name());
        self.mesh.push(&key.mesh);
        self.name.push(&key.name);
        self.owner.push(key.owner.to_string());
    }
}

#[derive(Default)]
struct Puts<'a> {
    keys: Keys<'a>,
    revision: Vec<i64>,
    version: Vec<i64>,
    generation: Vec<i64>,
    labels: Vec<String>,
    spec: Vec<&'a str>,
    computed: Vec<Option<&'a str>>,
    hash: Vec<Vec<u8>>,
    key_id: Vec<Option<&'a str>>,
    created: Vec<Timestamp>,
    modified: Vec<Timestamp>,
}

impl<'a> Puts<'a> {
    fn push(&mut self, resource: &'a Arc<Resource>, sealed: Option<&'a SealedSpec>) {
        self.keys.push(&resource.key);
        self.revision.push(resource.revision.0.cast_signed());
        self.version.push(resource.version.cast_signed());
        self.generation.push(resource.generation.cast_signed());
        self.labels.push(String::from_utf8(resource.labels_json()).unwrap_or_default());
        self.spec.push(text(sealed.map_or(&resource.spec, |sealed| &sealed.spec)));
        self.key_id.push(sealed.map(|sealed| sealed.key_id.as_str()));
        self.computed.push(resource.computed.as_deref().map(text));
        self.hash.push(sealed.map_or_else(|| resource.hash.to_bytes(), |sealed| sealed.hash).to_vec());
        self.created.push(resource.created);
        self.modified.push(resource.modified);
    }
}

#[derive(Default)]
struct Deletes<'a> {
    keys: Keys<'a>,
    revision: Vec<i64>,
    deleted: Vec<Timestamp>,
    recorded: Vec<bool>,
}

/// The rows turned into arrays: resources, the keys of those that may have a tombstone, deletions.
fn columns(rows: &Rows) -> (Puts<'_>, Keys<'_>, Deletes<'_>) {
    let (mut puts, mut reborn, mut deletes) = (Puts::default(), Keys::default(), Deletes::default());
    for (key, change) in &rows.changes {
        match change {
            RowChange::Put { resource, fresh, sealed } => {
                puts.push(resource, sealed.as_deref());
                if *fresh {
                    reborn.push(key);
                }
            }
            RowChange::Delete { tombstone, recorded } => {
                deletes.keys.push(key);
                deletes.revision.push(tombstone.revision.0.cast_signed());
                deletes.deleted.push(tombstone.deleted);
                deletes.recorded.push(*recorded);
            }
        }
    }
    (puts, reborn, deletes)
}

/// What a plan lets through is UTF-8; anything else would be refused by the database, not cut here.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("\0")
}
