//! A dry run of all documents, faulty ones beside valid ones.

use std::io::Write;

use http::Method;

use super::{
    report::{self, Outcome, Results},
    sources::Document,
    transactions,
};
use crate::client::Client;

/// What an apply would do with each document; what is wrong with one is told on `err`.
///
/// # Errors
/// When the plane cannot be reached, or cannot read the documents.
pub(crate) async fn dry_run(
    client: &Client,
    documents: Vec<Document>,
    strict: bool,
    err: &mut dyn Write,
) -> anyhow::Result<Vec<(Document, Outcome)>> {
    let mut query = vec![("dry_run", "true".to_owned()), ("atomic", "false".to_owned())];
    query.extend(strict.then(|| ("strict", "true".to_owned())));
    let mut foretold = Vec::new();
    for transaction in transactions::split(documents) {
        let body = Some(("application/yaml", transaction.text.clone()));
        let answer = client.call(Method::POST, &["_apply"], &query, body).await?.refuse()?;
        let Results { results } = serde_json::from_str(&answer.text)?;
        report::print_remarks(&results, &transaction, err)?;
        let documents = transaction.documents.into_iter().enumerate();
        foretold
            .extend(documents.filter_map(|(index, document)| {
                Some((document, results.iter().find(|outcome| outcome.index == index)?.clone()))
            }));
    }
    Ok(foretold)
}
