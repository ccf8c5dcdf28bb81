//! Workloads W1 to W8.
