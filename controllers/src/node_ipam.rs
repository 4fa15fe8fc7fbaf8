//! Gives each node its piece of the pod ranges: `spec.podCIDR(s)`. Upstream: pkg/controller/nodeipam, RangeAllocator.
//!
//! What is taken is read from the nodes themselves, and the controller is serial, so no two nodes get the same piece and
//! nothing needs to be recovered after a restart.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use jiff::Timestamp;
use serde_json::json;

use crate::{
    action::{Action, normal},
    controller::{Change, Concurrency, Controller, Key},
    resource,
    snapshot::Snapshot,
};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-ipam-controller",
    watches: &[resource::NODES],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::Serial,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    if change.new.is_none() {
        // A piece is free again: who waits for one?
        let waits = snapshot.nodes.values().filter(|node| node.spec.pod_cidrs.is_empty());
        return waits.map(|node| node.meta.key()).collect();
    }
    if change.old.is_none() { vec![change.key.clone()] } else { Vec::new() }
}

fn reconcile(snapshot: &Snapshot, key: &Key, _: Timestamp) -> Vec<Action> {
    let ranges = &snapshot.settings.cluster_cidrs;
    let Some(node) = snapshot.nodes.get(key) else { return Vec::new() };
    if ranges.is_empty() || !node.spec.pod_cidrs.is_empty() || node.meta.deleting() {
        return Vec::new();
    }
    let taken: HashSet<IpNetwork> = snapshot
        .nodes
        .values()
        .flat_map(|node| node.spec.pod_cidrs.iter().chain(Some(&node.spec.pod_cidr)))
        .filter_map(|text| text.parse().ok())
        .collect();
    let pieces: Option<Vec<String>> =
        ranges.iter().map(|range| free(*range, &snapshot.settings, &taken).map(|piece| piece.to_string())).collect();
    let Some(pieces) = pieces else {
        let reason = "CIDRNotAvailable";
        let message = format!("Node {} status is now: {reason}", node.meta.name);
        let involved = node.meta.involved("v1", "Node");
        return vec![Action::Event(normal("cidrAllocator", involved, reason, message))];
    };
    let patch = json!({ "spec": { "podCIDR": pieces[0], "podCIDRs": pieces } });
    vec![Action::patch(resource::NODES, &node.meta, None, patch)]
}

/// The first piece of a range that overlaps nothing taken and no service range.
fn free(range: IpNetwork, settings: &crate::settings::Settings, taken: &HashSet<IpNetwork>) -> Option<IpNetwork> {
    let mask = if range.is_ipv4() { settings.node_mask_v4 } else { settings.node_mask_v6 };
    let bits: u8 = if range.is_ipv4() { 32 } else { 128 };
    if mask < range.prefix() || mask > bits {
        return None;
    }
    let blocked: Vec<IpNetwork> = taken
        .iter()
        .filter(|other| other.prefix() != mask)
        .chain(&settings.service_cidrs)
        .copied()
        .filter(|other| overlaps(range, *other))
        .collect();
    let count = 1_u128.checked_shl(u32::from(mask - range.prefix())).unwrap_or(u128::MAX);
    // A node of another mask may sit anywhere, so pieces are tried one by one; each try is a hash lookup.
    (0..count).find_map(|index| {
        let piece = nth(range, mask, index)?;
        (!taken.contains(&piece) && !blocked.iter().any(|other| overlaps(piece, *other))).then_some(piece)
    })
}

fn nth(range: IpNetwork, mask: u8, index: u128) -> Option<IpNetwork> {
    let ip = match range.network() {
        IpAddr::V4(base) => {
            let offset = u32::try_from(index).ok()?.checked_shl(32 - u32::from(mask)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(base) | offset))
        }
        IpAddr::V6(base) => {
            let offset = index.checked_shl(128 - u32::from(mask)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(base) | offset))
        }
    };
    IpNetwork::new(ip, mask).ok()
}

fn overlaps(a: IpNetwork, b: IpNetwork) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a.contains(b.network()) || b.contains(a.network()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::*, settings::Settings};

    #[track_caller]
    fn check(range: &str, service: &str, taken: &[&str], expected: Option<&str>) {
        let settings = Settings {
            cluster_cidrs: vec![range.parse().unwrap()],
            service_cidrs: vec![service.parse().unwrap()],
            ..Settings::default()
        };
        let mut cluster = Cluster::with(settings);
        for (index, cidr) in taken.iter().enumerate() {
            let name = format!("old-{index}");
            cluster.put("nodes", json!({"metadata": {"name": name}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}));
        }
        cluster.put("nodes", json!({"metadata": {"name": "new"}}));
        let actions = reconcile(&cluster.snapshot, &Key::new("", "new"), NOW);
        let got = match &actions[..] {
            [Action::Patch { patch, .. }] => patch["spec"]["podCIDR"].as_str(),
            [Action::Event(event)] => {
                assert_eq!(event.message, "Node new status is now: CIDRNotAvailable");
                None
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn pieces() {
        let services = "10.96.0.0/16";
        check("10.244.0.0/16", services, &[], Some("10.244.0.0/24"));
        check("10.244.0.0/16", services, &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"));
        check("10.244.0.0/16", services, &["10.244.0.0/23"], Some("10.244.2.0/24"));
        check("10.244.0.0/23", services, &["10.244.0.0/24", "10.244.1.0/24"], None);
        check("10.96.0.0/15", services, &[], Some("10.97.0.0/24"));
        check("fd00::/56", services, &["fd00::/64"], Some("fd00:0:0:1::/64"));
    }

    #[test]
    fn a_piece_of_each_family() {
        let both = |ranges: [&str; 2]| Settings {
            cluster_cidrs: ranges.map(|range| range.parse().unwrap()).to_vec(),
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/112".parse().unwrap()],
            ..Settings::default()
        };
        let pieces = |settings: Settings, taken: &[&str]| {
            let mut cluster = Cluster::with(settings);
            cluster
                .put("nodes", json!({"metadata": {"name": "old"}, "spec": {"podCIDR": taken[0], "podCIDRs": taken}}));
            cluster.put("nodes", json!({"metadata": {"name": "new"}}));
            brief(&reconcile(&cluster.snapshot, &Key::new("", "new"), NOW)).join(" ")
        };
        let four_first = both(["10.244.0.0/16", "fd00:10:244::/56"]);
        assert_eq!(
            pieces(four_first.clone(), &["10.244.0.0/24", "fd00:10:244::/64"]),
            r#"patch nodes new {"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:10:244:1::/64"]}}"#
        );
        // A node from the time before the second family does not shift the others' pieces of it.
        assert_eq!(
            pieces(four_first, &["10.244.0.0/24"]),
            r#"patch nodes new {"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:10:244::/64"]}}"#
        );
        assert_eq!(
            pieces(both(["fd00:10:244::/56", "10.244.0.0/16"]), &["fd00:10:244::/64", "10.244.0.0/24"]),
            r#"patch nodes new {"spec":{"podCIDR":"fd00:10:244:1::/64","podCIDRs":["fd00:10:244:1::/64","10.244.1.0/24"]}}"#
        );
        // One family without room: nothing of the other is taken either.
        let full = pieces(both(["10.244.0.0/16", "fd00:10:244::/64"]), &["10.244.0.0/24", "fd00:10:244::/64"]);
        assert!(full.contains("CIDRNotAvailable"), "{full}");
    }

    #[test]
    fn a_node_keeps_what_it_has() {
        let mut cluster =
            Cluster::with(Settings { cluster_cidrs: vec!["10.0.0.0/16".parse().unwrap()], ..Settings::default() });
        cluster.put(
            "nodes",
            json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.9.9.0/24", "podCIDRs": ["10.9.9.0/24"]}}),
        );
        assert_eq!(reconcile(&cluster.snapshot, &Key::new("", "n"), NOW), []);
    }
}
