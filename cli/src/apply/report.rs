//! What became of each document: one line on standard output, and on standard error what its author should know.

use std::io::Write;

use serde::Deserialize;

use super::{sources, transactions::Transaction};
use crate::client::Fault;

/// What became of one document.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    pub(super) index: usize,
    #[serde(rename = "type")]
    kind: String,
    mesh: String,
    name: String,
    pub(crate) result: String,
    /// In a dry run: what would differ.
    pub(crate) changes: Vec<Difference>,
    warnings: Vec<String>,
    invalid_parameters: Vec<Fault>,
}

/// A field that would differ.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Difference {
    pub(crate) field: String,
}

/// The answer of an apply.
#[derive(Deserialize)]
pub(super) struct Results {
    pub(super) results: Vec<Outcome>,
}

impl Outcome {
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self.result.as_str(), "created" | "updated" | "unchanged")
    }
}

/// Prints a line for each document, and what its author should know.
pub(super) fn print(
    outcomes: &[Outcome],
    transaction: &Transaction,
    dry_run: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<()> {
    let dry = if dry_run { " (dry run)" } else { "" };
    for outcome in outcomes {
        let title = sources::title(&outcome.kind, &outcome.mesh, &outcome.name);
        let result = if matches!(outcome.result.as_str(), "refused" | "denied") { "failed" } else { &outcome.result };
        writeln!(out, "{title} {result}{dry} ({})", transaction.place(outcome.index, None))?;
    }
    print_remarks(outcomes, transaction, err)
}

/// Prints warnings and faults with their places.
pub(super) fn print_remarks(outcomes: &[Outcome], transaction: &Transaction, err: &mut dyn Write) -> std::io::Result<()> {
    for outcome in outcomes {
        for warning in &outcome.warnings {
            writeln!(err, "  {}: warning: {warning}", transaction.place(outcome.index, None))?;
        }
        for fault in &outcome.invalid_parameters {
            let place = transaction.place(outcome.index, fault.line.zip(fault.column));
            let field = if fault.field.is_empty() { String::new() } else { format!("{}: ", fault.field) };
            writeln!(err, "  {place}: {field}{}", fault.reason)?;
        }
    }
    Ok(())
}
