//! How large packets may be: the one place that knows what each way takes for itself.
//!
//! Pure. What fits towards a node is the MTU of the underlay there (the device's, or the route's if that says less) without
//! what the way adds to a packet; pods' devices get the least of it, or in native mode the underlay's own. [`routes`] reads
//! the underlay from the kernel, [`probe`] finds out whether the network between keeps what it promises, `follow` keeps both
//! up to date, and `compile` turns [`Paths`] into rows of `NODES` and into issues, each with its remedy.
use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use abi::{
    Addr,
    route::{LEAST_MTU, OVERHEAD, SPLITS},
};
use objects::{Issue, Key, Node, Store};

use crate::{
    netlink::Link,
    routing::Routing,
    snapshot::{Snapshot, of_family},
};

pub mod probe;
pub mod routes;

/// IPv6's least MTU (RFC 8200 section 5): no way of ours has less.
pub const LEAST: u32 = LEAST_MTU;
/// What is left of the largest packet there is, behind the largest outer header.
pub const MOST: u32 = 65_535 - Outer::Vxlan6.overhead();

/// What is put before packets on their way to another node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outer {
    /// As they are.
    None,
    /// In VXLAN over IPv4.
    Vxlan4,
    /// In VXLAN over IPv6.
    Vxlan6,
}

impl Outer {
    /// Bytes that the way takes of the underlay's MTU.
    pub const fn overhead(self) -> u32 {
        match self {
            Outer::None => 0,
            Outer::Vxlan4 => OVERHEAD[0],
            Outer::Vxlan6 => OVERHEAD[1],
        }
    }

    /// The overlay's, by the address at its other end.
    pub const fn overlay(to: &Addr) -> Outer {
        if to.is_v4() { Outer::Vxlan4 } else { Outer::Vxlan6 }
    }

    /// What pods' packets leave room for, by the address at the other end of the overlay. In native mode nothing, and senders
    /// are told of what goes by VXLAN all the same; but what is forwarded to a pod for another node's own stack is told to
    /// nobody, and an outer IPv6 header is not split.
    pub const fn reserved(routing: Routing, to: &Addr) -> Outer {
        match routing {
            Routing::Native if to.is_v4() => Outer::None,
            _ => Outer::overlay(to),
        }
    }
}

/// `--mtu`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Setting {
    /// What the underlay leaves.
    #[default]
    Auto,
    /// This, whatever the underlay says.
    Fixed(u32),
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        if text == "auto" {
            return Ok(Setting::Auto);
        }
        match text.parse::<u32>() {
            Ok(mtu) if mtu < LEAST => Err(format!(
                "{mtu} is too small: IPv6 needs {LEAST} on every link (RFC 8200); give {LEAST} to {MOST}, or auto"
            )),
            Ok(mtu) if mtu > MOST => {
                Err(format!("{mtu} is too large: no IP packet has room for it; give {LEAST} to {MOST}, or auto"))
            }
            Ok(mtu) => Ok(Setting::Fixed(mtu)),
            Err(_) => Err(format!("{text:?} is neither auto nor a number of bytes from {LEAST} to {MOST}")),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Auto => f.write_str("auto"),
            Setting::Fixed(mtu) => mtu.fmt(f),
        }
    }
}

/// `--mtu` promises more than the underlay has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "--mtu {wanted} does not fit: {device} has MTU {has} and the way to other nodes takes {takes} bytes of it; give {} at most, or auto",
    has.saturating_sub(*takes).max(LEAST)
)]
pub struct DoesNotFit {
    /// The flag's value.
    pub wanted: u32,
    /// The NIC.
    pub device: String,
    /// Its MTU.
    pub has: u32,
    /// [`Outer::overhead`].
    pub takes: u32,
}

/// The underlay towards a node, in bytes from the network header on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// By the routing table and the device: as large as this node sends.
    pub route: u32,
    /// What came through, if that was tried and anything did.
    pub measured: Option<u32>,
}

impl Path {
    /// As large as packets get through, as far as is known.
    fn carries(&self) -> u32 {
        self.measured.map_or(self.route, |measured| measured.min(self.route))
    }
}

/// What is known of sizes on this node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Paths {
    /// `--mtu`.
    pub setting: Setting,
    /// The NIC's name.
    pub device: Box<str>,
    /// The NIC's MTU; 0 before anything is known.
    pub nic: u32,
    /// MTU of pods.
    pub pods: u32,
    /// By the address of the node at the other end.
    pub to: BTreeMap<IpAddr, Path>,
    /// Pods whose interface could not be made as small as that, with its MTU.
    pub larger: BTreeMap<Key, u32>,
}

/// Another node as packets reach it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The address at the other end.
    pub address: IpAddr,
    /// What pods' packets leave room for on the way there.
    pub way: Outer,
}

/// The address by which another node is reached: IPv4 where both ends have it, as the other end decides too.
pub fn tunnel(own: &[IpAddr], node: &Node) -> Option<Addr> {
    let far = |v4: bool| of_family(&node.internal_ips, v4);
    [true, false].into_iter().find(|v4| of_family(own, *v4) != Addr::ANY && far(*v4) != Addr::ANY).map(far)
}

/// All other nodes that are reached at all.
pub fn peers(own: &[IpAddr], name: &str, nodes: &Store<Node>, routing: Routing) -> Vec<Peer> {
    let others = nodes.iter().filter(|(key, _)| *key.name != *name);
    let peer = |to: Addr| Peer { address: to.into(), way: Outer::reserved(routing, &to) };
    others.filter_map(|(_, node)| tunnel(own, node)).map(peer).collect()
}

/// What a node with these addresses would leave room for on the way to another one like it.
pub fn alone(own: &[IpAddr], routing: Routing) -> Outer {
    Outer::reserved(routing, &own.iter().find(|ip| ip.is_ipv4()).or(own.first()).map_or(Addr::ANY, |ip| (*ip).into()))
}

/// MTU of pods behind a NIC of that MTU, on a node that is [`alone`] so; `peers` with the underlay's MTU towards each.
pub fn of_pods(setting: Setting, nic: u32, alone: Outer, peers: impl Iterator<Item = (Outer, u32)>) -> u32 {
    let left = |(way, underlay): (Outer, u32)| underlay.min(nic).saturating_sub(way.overhead()).clamp(LEAST, MOST);
    match setting {
        Setting::Fixed(mtu) => mtu,
        Setting::Auto => peers.map(left).min().unwrap_or_else(|| left((alone, nic))),
    }
}

/// The same before routes have been looked at.
///
/// # Errors
/// [`DoesNotFit`].
pub fn at_start(setting: Setting, nic: &Link, alone: Outer, peers: &[Peer]) -> Result<u32, DoesNotFit> {
    let takes = peers.iter().map(|peer| peer.way).max().unwrap_or(alone).overhead();
    match setting {
        Setting::Fixed(wanted) if wanted + takes > nic.mtu => {
            Err(DoesNotFit { wanted, device: nic.name.clone(), has: nic.mtu, takes })
        }
        _ => Ok(of_pods(setting, nic.mtu, alone, peers.iter().map(|peer| (peer.way, nic.mtu)))),
    }
}

impl Paths {
    /// What fits towards a node, for its row of `NODES`, and the row's flags that say what becomes of larger packets. Less than
    /// [`LEAST`] where the way takes of an underlay that has little more: the row is also asked what fits without an outer header.
    pub fn towards(&self, address: IpAddr, way: Outer) -> (u32, u32) {
        if self.nic == 0 {
            return (0, 0);
        }
        let known = self.to.get(&address).copied().unwrap_or(Path { route: self.nic, measured: None });
        let (route, least) = (known.route, known.carries());
        // The kernel splits outer packets by what it knows itself, and only IPv4's.
        let splits = if way == Outer::Vxlan4 && least == route { SPLITS } else { 0 };
        ((least.max(LEAST) - way.overhead()).min(MOST), splits)
    }

    /// What the NIC carries, for this node's own row; 0 if nothing is known.
    pub fn own(&self) -> u32 {
        if self.nic == 0 { 0 } else { self.nic.max(LEAST) }
    }

    /// Takes over what was measured before, where it was the same route.
    pub fn remember(&mut self, old: &Paths) {
        for (address, path) in &mut self.to {
            let same = old.to.get(address).filter(|before| before.route == path.route);
            path.measured = same.and_then(|before| before.measured);
        }
    }
}

/// What does not go together, each with what to do.
pub fn issues(snapshot: &Snapshot) -> Vec<Issue> {
    let (paths, facts) = (&*snapshot.paths, &*snapshot.node);
    let issue = |kind, key: &Key, message| Issue { kind, key: key.clone(), reason: "MtuMismatch", message };
    let mut issues = Vec::new();
    let mut takes = alone(&facts.own, facts.routing).overhead();
    for (key, node) in snapshot.nodes.iter().filter(|(key, _)| key.name != facts.name) {
        let Some(to) = tunnel(&facts.own, node) else { continue };
        let (address, way) = (IpAddr::from(to), Outer::reserved(facts.routing, &to));
        takes = takes.max(way.overhead());
        if let Some(path) = paths.to.get(&address)
            && let Some(message) = narrow(paths, address, way, *path)
        {
            issues.push(issue("Node", key, message));
        }
    }
    if paths.nic != 0 && paths.pods + takes > paths.nic {
        let (pods, nic, device) = (paths.pods, paths.nic, &paths.device);
        let or = if pods > LEAST { ", or start the agent with --mtu auto" } else { "" };
        let raise = format!("raise the MTU of {device} to {}{or}", pods + takes);
        let message = format!(
            "Pods have MTU {pods}, and {device} has {nic}, of which the way to other nodes takes {takes}: {raise}"
        );
        issues.push(issue("Node", &Key::cluster(facts.name.clone()), message));
    }
    for (key, mtu) in &paths.larger {
        let found = format!("Its interface has MTU {mtu}, from before the node's pods had {}", paths.pods);
        let message = format!(
            "{found}, and could not be changed: large packets of it may be refused; delete the pod, so that it is made anew"
        );
        issues.push(issue("Pod", key, message));
    }
    issues
}

/// What is wrong with the way to a node, if it carries less than pods send.
fn narrow(paths: &Paths, address: IpAddr, way: Outer, path: Path) -> Option<String> {
    let (route, pods, takes) = (path.route, paths.pods, way.overhead());
    let (carries, wanted) = (path.carries(), pods + takes);
    if carries >= wanted {
        return None;
    }
    // Pods cannot be given less than the least.
    let fits = Some(carries.saturating_sub(takes)).filter(|fits| *fits >= LEAST);
    if carries < route {
        let found = format!("Packets of {carries} bytes get through to it ({address}) and larger ones do not");
        let remedy = format!("give its device, and every one on the way, MTU {}", route.max(wanted));
        let or = fits.map(|fits| format!(", or start the agent of this node with --mtu {fits}")).unwrap_or_default();
        return Some(format!("{found}, though this node sends up to {route}: {remedy}{or}"));
    }
    let found = format!("The route to it ({address}) has MTU {route}, of which {takes} are taken");
    let or = fits.map(|fits| format!(", or start the agent with --mtu {fits} or auto")).unwrap_or_default();
    Some(format!("{found}, and pods of this node have MTU {pods}: raise the route's to {wanted}{or}"))
}

#[cfg(test)]
mod tests;
