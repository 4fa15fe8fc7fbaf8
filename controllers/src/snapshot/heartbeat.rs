//! When a node was last heard of.
//!
//! Counted in [`Snapshot::watched`] time, which stands still while this process did not watch: after an outage of the
//! server, or of its machine, every node gets its full grace again, and no clock of another machine is compared with ours.

use std::time::Duration;

use super::Snapshot;
use crate::view::{Lease, Node, condition};

/// The namespace of the nodes' leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The last sign of life of a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    /// The lease's renewTime that we saw last.
    lease: String,
    /// The Ready condition's lastHeartbeatTime that we saw last.
    status: String,
    /// In watched time: when either changed the last time, or when we first saw the node.
    pub(crate) at: Duration,
}

impl Snapshot {
    pub(super) fn hear_lease(&mut self, lease: &Lease) {
        if lease.meta.namespace == LEASE_NAMESPACE {
            let heard = self.heard_entry(&lease.meta.name);
            if heard.lease != lease.spec.renew_time {
                heard.lease.clone_from(&lease.spec.renew_time);
                self.heard_now(&lease.meta.name);
            }
        }
    }

    pub(super) fn hear_node(&mut self, node: &Node) {
        self.gone.remove(&node.meta.name);
        let Some(ready) = condition(&node.status.conditions, "Ready") else {
            self.heard_entry(&node.meta.name);
            return;
        };
        let beat = ready.last_heartbeat_time.clone().unwrap_or_default();
        let heard = self.heard_entry(&node.meta.name);
        if heard.status != beat {
            heard.status = beat;
            self.heard_now(&node.meta.name);
        }
    }

    /// How long ago, in watched time, the node gave a sign of life.
    pub(crate) fn silence(&self, node: &str) -> Duration {
        self.heard.get(node).map_or(Duration::ZERO, |heard| self.watched.saturating_sub(heard.at))
    }

    /// How long, in watched time, a node that is not there has not been there.
    pub(crate) fn absence(&self, node: &str) -> Duration {
        self.watched.saturating_sub(self.gone.get(node).copied().unwrap_or(Duration::ZERO))
    }

    fn heard_entry(&mut self, node: &str) -> &mut Heard {
        let at = self.watched;
        self.heard.entry(node.to_owned()).or_insert_with(|| Heard { lease: String::new(), status: String::new(), at })
    }

    fn heard_now(&mut self, node: &str) {
        let at = self.watched;
        if let Some(heard) = self.heard.get_mut(node) {
            heard.at = at;
        }
    }
}
