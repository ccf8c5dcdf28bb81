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

mod admin;
mod backend;
mod bringup;
mod certificates;
mod command;
mod control;
mod credentials;
mod documents;
mod gateway;
mod guide;
#[expect(clippy::module_inception, reason = "the lab's own state")]
mod lab;
mod layout;
mod member;
mod members;
mod postgres;
mod probe;
mod process;
mod rest;
mod say;
mod state;
mod supervisor;
mod variables;

pub use command::{Command, run};

use lab::Lab;
