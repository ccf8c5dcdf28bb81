//! The bodies of fuzz targets: any bytes in, and what must hold of every answer. `fuzz/` calls them with bytes that a fuzzer
//! makes up, `tests/replay.rs` with the corpora in `fuzz/corpus`, so that what was found once stays found.
//!
//! Must not contain randomness: the same bytes do the same.
#![allow(clippy::unwrap_used)] // what must hold is asserted

mod documents;
mod lists;
mod names;
mod templates;
mod tokens;

/// A target: its name, which is that of its folder in `fuzz/corpus`, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("document_json", documents::json),
    ("document_yaml", documents::yaml),
    ("list", lists::list),
    ("kri", names::kri),
    ("sni", names::sni),
    ("names", names::names),
    ("template", templates::template),
    ("token", tokens::token),
];

/// Runs the target with this name.
///
/// # Panics
/// When there is none, or what must hold does not.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("there is such a target");
    target(bytes);
}

/// The bytes as text; none if they are none.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
