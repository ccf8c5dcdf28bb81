//! The lab: two clouds on one machine, with real Envoys.
//!
//! ```text
//!   up (supervisor) ──starts──▶ postgres, global, zones, ingresses, sidecars, gateways, backends
//!        ▲  │ state.json                                        ▲
//!        │  ▼                                                   │ admin, REST, DNS, HTTPS
//!   restart, zone add, gateway add        status, logs, env, trace, check
//! ```
//!
//! Must not contain anything that a product plane needs: the lab only runs the programs, as a person could.

pub mod admin;
pub mod backend;
pub mod bringup;
pub mod certificates;
pub mod check;
pub mod command;
pub mod control;
pub mod credentials;
pub mod dns;
pub mod documents;
pub mod gateway;
pub mod guide;
#[expect(clippy::module_inception, reason = "the lab's own state")]
pub mod lab;
pub mod layout;
pub mod member;
pub mod members;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod rest;
pub mod say;
pub mod state;
pub mod supervisor;
pub mod trace;
pub mod variables;

pub use command::{Command, run};

use lab::Lab;
