//! The command line of Atoll and its lab.
pub mod lab;
