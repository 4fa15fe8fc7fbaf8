//! A whole cluster on one machine, in namespaces.
//!
//! `start` makes the files and the supervisor, a process that outlives its caller; the supervisor makes the fabric, the
//! nodes and the published ports, and starts `weft server`, `weft node` and `weft agent` as children by
//! `/proc/self/exe`. This crate links none of them, speaks no Kubernetes, and adds nothing to the host's network but the
//! listeners on 127.0.0.1 that its `Spec` names.
//!
//! Everything that belongs to a cluster (paths, cgroups, ports) derives from its name, and `stop` finds what runs by
//! cgroup, so it also works after the supervisor was killed.

pub mod backoff;
pub mod cgroup;
pub mod children;
pub mod cluster;
pub mod commands;
pub mod down;
pub mod enter;
pub mod fabric;
pub mod family;
pub mod handoff;
pub mod host;
pub mod netns;
pub mod node_init;
pub mod nodes;
pub mod paths;
pub mod pki;
pub mod preflight;
pub mod publish;
pub mod spec;
pub mod state;
pub mod supervise;
pub mod up;

pub use cluster::{Cluster, Status};
pub use down::stop;
pub use family::{Family, IpFamily};
pub use spec::Spec;
pub use up::{adopt, start};
