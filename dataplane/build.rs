//! Generates the client of `proto/atoll/runner/v1`; for the tests' own zone also its server, and Envoy's discovery service.

use tonic_prost_build::manual;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let file = root.join("atoll/runner/v1/runner.proto");
    println!("cargo:rerun-if-changed={}", file.display());
    let descriptors = protox::compile([file], [root])?;
    let mut config = prost_build::Config::new();
    config.btree_map(["."]);
    tonic_prost_build::configure().build_client(true).compile_fds_with_config(descriptors, config)?;
    manual::Builder::new().compile(&[discovery()]);
    Ok(())
}

/// The one method of Envoy's aggregated discovery that Envoy is told to use: the incremental one.
fn discovery() -> manual::Service {
    const TYPES: &str = "::atoll_envoy_api::envoy::service::discovery::v3";
    let delta = manual::Method::builder()
        .name("delta_aggregated_resources")
        .route_name("DeltaAggregatedResources")
        .input_type(format!("{TYPES}::DeltaDiscoveryRequest"))
        .output_type(format!("{TYPES}::DeltaDiscoveryResponse"))
        .codec_path("::tonic_prost::ProstCodec")
        .client_streaming()
        .server_streaming()
        .build();
    manual::Service::builder().name("AggregatedDiscoveryService").package("envoy.service.discovery.v3").method(delta).build()
}
