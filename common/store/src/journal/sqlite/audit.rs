//! The audit on SQLite.

use sqlx::SqliteConnection;

use crate::{
    AuditEntry, AuditFilter, AuditRecord, Link, StoreError, Verified,
    journal::audit::{AuditRow, PAGE, Verifier},
};

const SELECT: &str = "
SELECT position, chain, sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object, before,
       after, decision, reason
FROM audit";

/// In an open transaction: adds rows to their chain.
pub(super) async fn append(connection: &mut SqliteConnection, rows: &[AuditRecord], links: &[Link]) -> Result<(), sqlx::Error> {
    for (row, link) in rows.iter().zip(links) {
        sqlx::query(
            "INSERT INTO audit (chain, sequence, previous, hash, at, revision, request_id, subject, method, address, verb, object,
                                before, after, decision, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(link.chain.to_string())
        .bind(link.sequence.cast_signed())
        .bind(link.previous.to_vec())
        .bind(link.hash.to_vec())
        .bind(row.at)
        .bind(row.revision.map(|revision| revision.0.cast_signed()))
        .bind(row.request_id.as_deref())
        .bind(row.subject.as_str())
        .bind(row.method.name())
        .bind(row.address.map(|address| address.to_string()))
        .bind(row.verb.as_str())
        .bind(row.object.as_str())
        .bind(row.before.map(Vec::from))
        .bind(row.after.map(Vec::from))
        .bind(row.decision.to_string())
        .bind(row.reason.as_deref())
        .execute(&mut *connection)
        .await?;
    }
    let Some(last) = links.last() else { return Ok(()) };
    sqlx::query(
        "INSERT INTO audit_chains (chain, length) VALUES ($1, $2) ON CONFLICT (chain) DO UPDATE SET length = excluded.length",
    )
    .bind(last.chain.to_string())
    .bind(last.sequence.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn read(connection: &mut SqliteConnection, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
    let sql = format!(
        "{SELECT}
         WHERE ($1 IS NULL OR subject = $1) AND ($2 IS NULL OR verb = $2) AND ($3 IS NULL OR object = $3)
           AND ($4 IS NULL OR decision = $4) AND ($5 IS NULL OR request_id = $5) AND ($6 IS NULL OR at >= $6)
           AND ($7 IS NULL OR position < $7)
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
        .fetch_all(connection)
        .await
        .map_err(super::small)?;
    rows.into_iter().map(|row| row.try_into().map_err(StoreError::Corrupt)).collect()
}

/// Walks all rows. Nobody else writes while this has the connection.
pub(super) async fn verify(connection: &mut SqliteConnection) -> Result<Verified, sqlx::Error> {
    let lengths: Vec<(String, i64)> =
        sqlx::query_as("SELECT chain, length FROM audit_chains").fetch_all(&mut *connection).await?;
    let sql = format!("{SELECT} WHERE position > $1 ORDER BY position LIMIT $2");
    let mut verifier = Verifier::default();
    loop {
        let rows: Vec<AuditRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(verifier.position)
            .bind(PAGE)
            .fetch_all(&mut *connection)
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
