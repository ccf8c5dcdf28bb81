//! The limits of bodies (reliability is a matter of refusing early).

use std::time::Duration;

/// Bytes of a body with one document.
pub const BODY: usize = 1 << 20;
/// Bytes of a body of `/_apply`.
pub const APPLY_BODY: usize = 8 << 20;
/// Bytes of one resource: labels and spec as they are stored.
pub const RESOURCE: usize = 256 << 10;
/// How long a body may take to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(30);
/// Nested lists and objects of one document.
pub const DEPTH: usize = 32;
/// Values in one document, aliases expanded.
pub const NODES: usize = 20_000;
/// Bytes of one text.
pub const SCALAR: usize = 64 << 10;
/// YAML aliases in one body.
pub const ALIASES: usize = 100;
/// Documents in one body.
pub const DOCUMENTS: usize = 500;
/// Labels of one resource.
pub const LABELS: usize = 64;
/// Items of a page, unless asked.
pub const PAGE: usize = 100;
/// Items of a page, at most.
pub const PAGE_MAX: usize = 1000;
