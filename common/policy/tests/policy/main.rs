//! What callers of a policy set notice, one file a subject.
#![allow(clippy::unwrap_used)] // a test may fail where it stands

mod make;
mod passthroughs;
mod permissions;
mod precedence;
mod selection;
mod sharing;
mod strategies;
mod timeouts;
