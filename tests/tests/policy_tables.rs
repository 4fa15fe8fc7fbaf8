//! The tables that the agent makes of random clusters, held against the API's text: by the datapath's stages in user
//! space and by the real programs in the kernel, and while one cluster becomes another.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "policy_tables/change.rs"]
mod change;
#[path = "../../policy/tests/reference/world.rs"]
mod cluster;
#[path = "policy_tables/kernel.rs"]
mod kernel;
#[path = "policy_tables/model.rs"]
mod model;
#[path = "policy_tables/node.rs"]
mod node;
#[path = "policy_tables/oracle.rs"]
mod oracle;
#[path = "policy_tables/order.rs"]
mod order;
