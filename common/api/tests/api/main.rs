//! The API as a client sees it: a router over a temporary store. The files mirror the paths.

#![allow(clippy::unwrap_used)]

mod access;
mod apply;
mod bad_input;
mod body_names;
mod docs;
mod dry_run;
mod global_scoped;
mod history;
mod hostnames;
mod idempotency;
mod instances;
mod limits;
mod links;
mod lists;
mod matrix;
mod meshes;
mod openapi;
mod pages;
mod policies;
mod roles;
mod serve;
mod support;
mod system;
mod tokens;
mod watch;
mod zone_view;
