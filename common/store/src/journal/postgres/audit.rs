//! The audit on Postgres.

use sqlx::postgres::{PgArguments, PgPool};

use crate::{
    AuditEntry, AuditFilter, AuditRecord, Link, StoreError, Verified,
    journal::audit::{AuditRow, PAGE, Verifier},
};

/// Adds rows in their order; for the transactions that add nothing else.
const APPEND: &str = "
WITH counted AS (
    INSERT INTO audit_chains (chain, length) VALUES ($1, $2) ON CONFLICT (chain) DO UPDATE SET length = excluded.length
)
INSERT INTO audit (chain, sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object, before,
                   after, decision, reason)
SELECT $1, sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object, before, after, decision,
       reason
FROM unnest($3::bigint[], $4::bytea[], $5::bytea[], $6::timestamptz[], $7::bigint[], $8::text[], $9::text[], $10::text[],
            $11::text[], $12::text[], $13::text[], $14::bytea[], $15::bytea[], $16::text[], $17::text[])
     AS r (sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object, before, after, decision,
           reason)
ORDER BY sequence";

const SELECT: &str = "
SELECT position, chain::text AS chain, sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object,
       before, after, decision, reason
FROM audit";

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

/// Binds chain, length and the arrays of the rows: seventeen parameters.
pub(super) fn bind<'q>(query: Query<'q>, rows: &'q [AuditRecord], links: &[Link]) -> Query<'q> {
    let all = || rows.iter();
    query
        .bind(links.last().map(|link| link.chain).unwrap_or_default())
        .bind(links.last().map(|link| link.sequence).unwrap_or_default().cast_signed())
        .bind(links.iter().map(|link| link.sequence.cast_signed()).collect::<Vec<_>>())
        .bind(links.iter().map(|link| link.previous.to_vec()).collect::<Vec<_>>())
        .bind(links.iter().map(|link| link.hash.to_vec()).collect::<Vec<_>>())
        .bind(all().map(|row| row.at).collect::<Vec<_>>())
        .bind(all().map(|row| row.revision.map(|revision| revision.0.cast_signed())).collect::<Vec<_>>())
        .bind(all().map(|row| row.request_id.as_deref()).collect::<Vec<_>>())
        .bind(all().map(|row| row.subject.as_str()).collect::<Vec<_>>())
        .bind(all().map(|row| row.method.name()).collect::<Vec<_>>())
        .bind(all().map(|row| row.address.map(|address| address.to_string())).collect::<Vec<_>>())
        .bind(all().map(|row| row.verb.as_str()).collect::<Vec<_>>())
        .bind(all().map(|row| row.object.as_str()).collect::<Vec<_>>())
        .bind(all().map(|row| row.before.map(Vec::from)).collect::<Vec<_>>())
        .bind(all().map(|row| row.after.map(Vec::from)).collect::<Vec<_>>())
        .bind(all().map(|row| row.decision.to_string()).collect::<Vec<_>>())
        .bind(all().map(|row| row.reason.as_deref()).collect::<Vec<_>>())
}

pub(super) async fn append(pool: &PgPool, rows: &[AuditRecord], links: &[Link]) -> Result<(), sqlx::Error> {
    bind(sqlx::query(APPEND), rows, links).execute(pool).await?;
    Ok(())
}

pub(super) async fn read(pool: &PgPool, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
    let sql = format!(
        "{SELECT}
         WHERE ($1::text IS NULL OR subject = $1) AND ($2::text IS NULL OR verb = $2) AND ($3::text IS NULL OR object = $3)
           AND ($4::text IS NULL OR decision = $4) AND ($5::text IS NULL OR request_id = $5)
           AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::bigint IS NULL OR position < $7)
         ORDER BY position DESC LIMIT $8"
    );
    let rows: Vec<AuditRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(filter.subject.as_deref())
        .bind(filter.verb.as_deref())
        .bind(filter.object.as_deref())
        .bind(filter.decision.map(|decision| decision.to_string()))
        .bind(filter.request_id.as_deref())
        .bind(filter.since)
        .bind(filter.before.map(u64::cast_signed))
        .bind(filter.rows())
        .fetch_all(pool)
        .await
        .map_err(StoreError::unavailable)?;
    rows.into_iter().map(|row| row.try_into().map_err(StoreError::Corrupt)).collect()
}

/// Walks all rows as they are at one moment.
pub(super) async fn verify(pool: &PgPool) -> Result<Verified, sqlx::Error> {
    let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let lengths: Vec<(String, i64)> =
        sqlx::query_as("SELECT chain::text, length FROM audit_chains").fetch_all(&mut *transaction).await?;
    let sql = format!("{SELECT} WHERE position > $1 ORDER BY position LIMIT $2");
    let mut verifier = Verifier::default();
    loop {
        let rows: Vec<AuditRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(verifier.position)
            .bind(PAGE)
            .fetch_all(&mut *transaction)
            .await?;
        if rows.is_empty() {
            return Ok(verifier.end(&lengths));
        }
        verifier = match verifier.page(rows) {
            Ok(verifier) => verifier,
            Err(broken) => return Ok(broken),
        };
    }
}
