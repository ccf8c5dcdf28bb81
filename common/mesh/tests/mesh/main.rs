//! What callers of an index notice, one file a subject.
#![allow(clippy::unwrap_used)] // a test may fail where it stands

mod addresses;
mod cost;
mod generated;
mod history;
mod hostnames;
mod identities;
mod multi_zone;
mod services;
mod sharing;
mod vips;
mod world;
