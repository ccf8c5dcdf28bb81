//! The limits of REST: what a plane takes from its clients, before it costs anything. Each is a flag of the planes.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

/// Declares the limits once: field, flag, variable, default.
macro_rules! limits {
    ($($(#[$about:meta])* $name:ident: $type:ty = $default:expr, $variable:literal;)*) => {
        /// What a plane takes. The names of the flags are the names of the fields.
        #[derive(Args, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[command(next_help_heading = "Limits of REST")]
        pub struct Limits {
            $($(#[$about])* #[arg(long, env = $variable, default_value_t = $default, value_name = "N", hide_env = true)] pub $name: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// A limit that lets nothing through is a mistake.
            ///
            /// # Errors
            /// The flag that is 0.
            pub fn validate(&self) -> Result<(), ZeroLimit> {
                $(if self.$name == 0 {
                    return Err(ZeroLimit(stringify!($name).replace('_', "-")));
                })*
                Ok(())
            }
        }
    };
}

limits! {
    /// Bytes of a body with one document.
    limit_body: usize = 1 << 20, "ATOLL_LIMIT_BODY";
    /// Bytes of a body of /_apply.
    limit_bulk_body: usize = 8 << 20, "ATOLL_LIMIT_BULK_BODY";
    /// Bytes of all header fields of a request.
    limit_header: usize = 16 << 10, "ATOLL_LIMIT_HEADER";
    /// Header fields of a request.
    limit_header_fields: usize = 64, "ATOLL_LIMIT_HEADER_FIELDS";
    /// Bytes of path and query.
    limit_url: usize = 8 << 10, "ATOLL_LIMIT_URL";
    /// Parameters of a query.
    limit_query_keys: usize = 100, "ATOLL_LIMIT_QUERY_KEYS";
    /// Seconds that the header of a request may take.
    limit_header_seconds: u64 = 5, "ATOLL_LIMIT_HEADER_SECONDS";
    /// Seconds that a body may take to arrive.
    limit_body_seconds: u64 = 30, "ATOLL_LIMIT_BODY_SECONDS";
    /// Seconds that an answer may take once the request is there; watches are answered at once and go on.
    limit_handler_seconds: u64 = 10, "ATOLL_LIMIT_HANDLER_SECONDS";
    /// Seconds that a connection may be idle, or that its client may read nothing.
    limit_idle_seconds: u64 = 60, "ATOLL_LIMIT_IDLE_SECONDS";
    /// Nested lists and objects of one document.
    limit_depth: usize = 32, "ATOLL_LIMIT_DEPTH";
    /// Values of one document, aliases expanded.
    limit_nodes: usize = 20_000, "ATOLL_LIMIT_NODES";
    /// Bytes of one text in a document.
    limit_scalar: usize = 64 << 10, "ATOLL_LIMIT_SCALAR";
    /// YAML aliases of one body.
    limit_aliases: usize = 100, "ATOLL_LIMIT_ALIASES";
    /// Documents of one body.
    limit_documents: usize = 500, "ATOLL_LIMIT_DOCUMENTS";
    /// Bytes of one resource: labels and spec as they are stored.
    limit_resource: usize = 256 << 10, "ATOLL_LIMIT_RESOURCE";
    /// Labels of one resource.
    limit_labels: usize = 64, "ATOLL_LIMIT_LABELS";
    /// Resources of one mesh.
    limit_resources_per_mesh: usize = 50_000, "ATOLL_LIMIT_RESOURCES_PER_MESH";
    /// Meshes.
    limit_meshes: usize = 1_000, "ATOLL_LIMIT_MESHES";
    /// Zones.
    limit_zones: usize = 500, "ATOLL_LIMIT_ZONES";
    /// Resources in all.
    limit_resources: usize = 100_000, "ATOLL_LIMIT_RESOURCES";
    /// Requests at once; more are answered with 503. Health is answered always.
    limit_requests: usize = 256, "ATOLL_LIMIT_REQUESTS";
    /// Watches at once.
    limit_watches: usize = 1_024, "ATOLL_LIMIT_WATCHES";
    /// Connections at once.
    limit_connections: usize = 512, "ATOLL_LIMIT_CONNECTIONS";
    /// Connections at once from one address (of IPv6: from one /64).
    limit_connections_per_ip: usize = 256, "ATOLL_LIMIT_CONNECTIONS_PER_IP";
}

/// A limit of 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{0} must be at least 1")]
pub struct ZeroLimit(String);

impl Limits {
    pub(crate) fn header_time(&self) -> Duration {
        Duration::from_secs(self.limit_header_seconds)
    }

    pub(crate) fn body_time(&self) -> Duration {
        Duration::from_secs(self.limit_body_seconds)
    }

    pub(crate) fn handler_time(&self) -> Duration {
        Duration::from_secs(self.limit_handler_seconds)
    }

    pub(crate) fn idle_time(&self) -> Duration {
        Duration::from_secs(self.limit_idle_seconds)
    }
}
