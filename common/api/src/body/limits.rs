//! How much a page holds; what is configured stands in [`crate::limits`].

/// Items of a page, unless asked.
pub const PAGE: usize = 100;
/// Items of a page, at most.
pub const PAGE_MAX: usize = 1000;
