//! Projections of the Kubernetes objects that Weft reads: the fields that it needs, and no more.
//!
//! Every room that looks at cluster state does it through these types. They are made by serde from what any API server
//! sends: unknown fields are skipped, absent and `null` ones take the API's default. They are flat and small (boxed
//! strings, sorted slices), because an agent holds one [`Pod`] for each pod of the cluster. This crate does no I/O,
//! knows no client and writes no object; values that only validation could refuse (a CIDR, an operator) are kept as
//! they came, so that the compilers can report them as an [`Issue`] and fail closed.

pub mod content;
mod endpoint_slice;
mod int_or_string;
mod issue;
mod key;
mod labels;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod quantity;
mod selector;
mod service;
mod wire;

pub use endpoint_slice::{AddressType, Conditions, Endpoint, EndpointPort, EndpointSlice, ForZone, Hints, TargetRef};
pub use int_or_string::IntOrString;
pub use issue::Issue;
pub use key::{ApiResource, Key, Object, Store};
pub use labels::Labels;
pub use namespace::Namespace;
pub use network_policy::{IpBlock, NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule};
pub use node::Node;
pub use pod::{ContainerPort, Phase, Pod};
pub use quantity::Quantity;
pub use selector::{LabelSelector, Operator, Requirement};
pub use service::{Service, ServicePort, ServiceType};
