//! DNS for the names of the mesh; every other name is asked for at the machine's resolver.

pub mod server;
pub mod table;
pub mod upstream;

pub use server::{DnsFault, DnsServer};
pub use table::Table;
pub use upstream::Upstream;
