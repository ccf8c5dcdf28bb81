//! Compiles the messages of the link.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let file = root.join("atoll/link/v1/link.proto");
    println!("cargo:rerun-if-changed={}", file.display());
    let descriptors = protox::compile([&file], [&root])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.type_attribute(".atoll.link.v1.Key", "#[derive(PartialOrd, Ord)]");
    config.compile_fds(descriptors)?;
    Ok(())
}
