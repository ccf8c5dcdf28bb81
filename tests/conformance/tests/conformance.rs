//! `make conformance`.

use std::process::ExitCode;

fn main() -> ExitCode {
    atoll_conformance::main()
}
