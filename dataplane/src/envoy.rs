//! The Envoy of this runner: finding it, starting it, adopting it, talking to it.

pub mod admin;
pub mod binary;
pub mod process;
pub mod supervisor;
