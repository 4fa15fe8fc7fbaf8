//! What tests of whole clusters share: what was built, a cluster that ends with its test, stock kubectl, and questions about a
//! network.
pub mod built;
pub mod cluster;
pub mod kubectl;
pub mod network;

pub use cluster::Cluster;
pub use kubectl::Kubectl;
