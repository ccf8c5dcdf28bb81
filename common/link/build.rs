//! Generates the services of the link; its messages are those of `atoll_sync`.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let file = root.join("atoll/link/v1/link.proto");
    println!("cargo:rerun-if-changed={}", file.display());
    let descriptors = protox::compile([&file], [&root])?;
    tonic_prost_build::configure()
        .extern_path(".atoll.link.v1", "::atoll_sync::proto")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
