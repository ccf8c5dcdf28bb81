//! The API as a client sees it: a router over a temporary store. The files mirror the paths.

#![allow(clippy::unwrap_used)]

mod access;
mod apply;
mod bad_input;
mod global_scoped;
mod links;
mod lists;
mod meshes;
mod openapi;
mod policies;
mod serve;
mod support;
mod system;
mod tokens;
mod watch;
mod zone_view;
