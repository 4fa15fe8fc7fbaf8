//! Sizes, ways and what does not go together.
use std::sync::Arc;

use super::*;
use crate::snapshot::NodeFacts;

#[track_caller]
fn setting(text: &str, expected: Result<Setting, &str>) {
    match (text.parse::<Setting>(), expected) {
        (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
        (parsed, expected) => assert_eq!(parsed, expected.map_err(str::to_owned)),
    }
}

#[test]
fn the_flag_says_what_is_wrong() {
    setting("auto", Ok(Setting::Auto));
    setting("1280", Ok(Setting::Fixed(1_280)));
    setting("8950", Ok(Setting::Fixed(8_950)));
    setting("1279", Err("IPv6 needs 1280"));
    setting("0", Err("too small"));
    setting("65466", Err("too large"));
    setting("-1", Err("neither auto nor a number of bytes from 1280 to 65465"));
    setting("1450b", Err("neither auto"));
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[track_caller]
fn pods(setting: Setting, nic: u32, own: &[&str], peers: &[(Outer, u32)], expected: u32) {
    let own: Vec<IpAddr> = own.iter().map(|text| ip(text)).collect();
    assert_eq!(of_pods(setting, nic, alone(&own, Routing::Auto), peers.iter().copied()), expected);
}

#[track_caller]
fn room(routing: Routing, own: &[&str], expected: Outer) {
    let own: Vec<IpAddr> = own.iter().map(|text| ip(text)).collect();
    assert_eq!(alone(&own, routing), expected);
}

#[test]
fn native_mode_leaves_room_for_nothing() {
    room(Routing::Native, &["192.0.2.1"], Outer::None);
    room(Routing::Native, &["2001:db8::1", "192.0.2.1"], Outer::None);
    room(Routing::Native, &["2001:db8::1"], Outer::Vxlan6);
    room(Routing::Auto, &["192.0.2.1"], Outer::Vxlan4);
    room(Routing::Vxlan, &["2001:db8::1"], Outer::Vxlan6);
    room(Routing::Native, &[], Outer::Vxlan6);
}

#[test]
fn pods_get_what_every_way_carries() {
    let (v4, v6) = (&["192.0.2.1"][..], &["2001:db8::1"][..]);
    let both = &["192.0.2.1", "2001:db8::1"];
    pods(Setting::Auto, 1_500, v4, &[], 1_450);
    pods(Setting::Auto, 1_500, v6, &[], 1_430);
    pods(Setting::Auto, 1_500, both, &[], 1_450);
    // One peer without IPv4 is enough, and so is one with a smaller route; a larger route changes nothing.
    pods(Setting::Auto, 1_500, both, &[(Outer::Vxlan4, 1_500), (Outer::Vxlan6, 1_500)], 1_430);
    pods(Setting::Auto, 1_500, v4, &[(Outer::Vxlan4, 1_500), (Outer::Vxlan4, 1_400)], 1_350);
    pods(Setting::Auto, 1_500, v4, &[(Outer::Vxlan4, 9_000)], 1_450);
    pods(Setting::Auto, 1_500, v4, &[(Outer::None, 1_500)], 1_500);
    pods(Setting::Auto, 1_500, v4, &[(Outer::None, 1_500), (Outer::Vxlan4, 1_500)], 1_450);
    // Never less than IPv6 needs, never more than a packet can be.
    pods(Setting::Auto, 1_300, v4, &[], 1_280);
    pods(Setting::Auto, 65_536, v4, &[], MOST);
    pods(Setting::Fixed(1_400), 1_500, v4, &[(Outer::Vxlan4, 1_300)], 1_400);
}

#[track_caller]
fn start(wanted: u32, nic: u32, peers: &[Outer], expected: Result<u32, &str>) {
    let peers: Vec<Peer> = peers.iter().map(|way| Peer { address: ip("192.0.2.2"), way: *way }).collect();
    let nic = Link { name: "eth0".into(), index: 2, mac: [0; 6], mtu: nic, up: true, peer: 0 };
    match (
        at_start(Setting::Fixed(wanted), &nic, peers.first().map_or(Outer::Vxlan4, |peer| peer.way), &peers),
        expected,
    ) {
        (Err(error), Err(text)) => assert_eq!(error.to_string(), text),
        (fits, expected) => assert_eq!(fits.map_err(|error| error.to_string()), expected.map_err(str::to_owned)),
    }
}

#[test]
fn a_fixed_mtu_must_fit_the_device() {
    start(1_450, 1_500, &[], Ok(1_450));
    start(1_500, 1_500, &[Outer::None], Ok(1_500));
    let text = "--mtu 1450 does not fit: eth0 has MTU 1500 and the way to other nodes takes 70 bytes of it; give 1430 at most, or auto";
    start(1_450, 1_500, &[Outer::Vxlan4, Outer::Vxlan6], Err(text));
    let text = "--mtu 1500 does not fit: eth0 has MTU 1500 and the way to other nodes takes 50 bytes of it; give 1450 at most, or auto";
    start(1_500, 1_500, &[], Err(text));
}

fn paths(to: &[(&str, u32, Option<u32>)], pods: u32) -> Paths {
    let row = |(address, route, measured): &(&str, u32, Option<u32>)| {
        (ip(address), Path { route: *route, measured: *measured })
    };
    Paths { device: "eth0".into(), nic: 1_500, pods, to: to.iter().map(row).collect(), ..Paths::default() }
}

#[track_caller]
fn fits(paths: &Paths, address: &str, expected: (u32, u32)) {
    let address = ip(address);
    assert_eq!(paths.towards(address, Outer::overlay(&address.into())), expected);
}

#[test]
fn what_fits_towards_a_node() {
    fits(&Paths::default(), "192.0.2.2", (0, 0)); // Nothing is known.
    let known = paths(&[("192.0.2.2", 1_500, Some(1_500)), ("192.0.2.3", 1_500, Some(1_400))], 1_450);
    fits(&known, "192.0.2.2", (1_450, SPLITS));
    fits(&known, "192.0.2.3", (1_350, 0)); // The kernel does not know that, and would split too late.
    fits(&known, "192.0.2.9", (1_450, SPLITS));
    fits(&known, "2001:db8::2", (1_430, 0));
    fits(&paths(&[("192.0.2.2", 1_400, None)], 1_350), "192.0.2.2", (1_350, SPLITS));
    assert_eq!((known.own(), Paths::default().own()), (1_500, 0));
    // Little more than the least: what the overlay leaves is less, and without an outer header the underlay's own fits.
    for underlay in [1_280, 1_329, 1_349, 1_350] {
        let small = paths(&[("192.0.2.2", underlay, None), ("2001:db8::2", 1_500, Some(underlay))], 1_280);
        fits(&small, "192.0.2.2", (underlay - 50, SPLITS));
        fits(&small, "2001:db8::2", (underlay - 70, 0));
        for address in ["192.0.2.2", "2001:db8::2"] {
            let tunnel = Addr::from(ip(address));
            let (mtu, _) = small.towards(ip(address), Outer::overlay(&tunnel));
            let row = abi::route::Node { tunnel, mtu, ..Default::default() };
            assert_eq!((row.bare_mtu(), row.overlay_mtu()), (underlay, mtu.max(1_280)));
        }
    }
}

#[test]
fn a_measure_holds_for_its_route() {
    let old = paths(&[("192.0.2.2", 1_500, Some(1_400)), ("192.0.2.3", 1_500, Some(1_500))], 1_450);
    let mut new = paths(&[("192.0.2.2", 1_500, None), ("192.0.2.3", 1_400, None), ("192.0.2.4", 1_500, None)], 1_450);
    new.remember(&old);
    let expected =
        paths(&[("192.0.2.2", 1_500, Some(1_400)), ("192.0.2.3", 1_400, None), ("192.0.2.4", 1_500, None)], 1_450);
    assert_eq!(new, expected);
}

/// The issues of a node `n1` with one peer `n2`, by object and message.
fn told(paths: Paths, routing: Routing) -> Vec<String> {
    let node = |name: &str, address: &str| {
        let key = Key::cluster(name.to_owned());
        (key.clone(), Arc::new(Node { key, internal_ips: [ip(address)].into(), ..Node::default() }))
    };
    let nodes = [node("n1", "192.0.2.1"), node("n2", "192.0.2.2")];
    let facts = NodeFacts { name: "n1".into(), own: vec![ip("192.0.2.1")], routing, ..NodeFacts::default() };
    let snapshot = Snapshot {
        nodes: Arc::new(nodes.into_iter().collect()),
        node: Arc::new(facts),
        paths: Arc::new(paths),
        ..Snapshot::default()
    };
    issues(&snapshot).iter().map(|issue| format!("{} {}: {}", issue.kind, issue.key.name, issue.message)).collect()
}

#[track_caller]
fn mismatch(paths: Paths, expected: &[&str]) {
    assert_eq!(told(paths, Routing::Vxlan), expected);
}

#[test]
fn native_mode_fills_the_wire() {
    let full = paths(&[("192.0.2.2", 1_500, Some(1_500))], 1_500);
    assert!(told(full, Routing::Native).is_empty());
    let narrow = told(paths(&[("192.0.2.2", 1_400, None)], 1_500), Routing::Native);
    assert_eq!(
        narrow,
        [
            "Node n2: The route to it (192.0.2.2) has MTU 1400, of which 0 are taken, and pods of this node have MTU 1500: raise the route's to 1500, or start the agent with --mtu 1400 or auto"
        ]
    );
}

#[test]
fn mismatches_come_with_their_remedy() {
    mismatch(Paths::default(), &[]);
    mismatch(paths(&[("192.0.2.2", 1_500, Some(1_500))], 1_450), &[]);
    mismatch(paths(&[("192.0.2.2", 1_500, None)], 1_450), &[]); // It answers nothing: nothing is known.
    mismatch(
        paths(&[("192.0.2.2", 1_500, Some(1_400))], 1_450),
        &[
            "Node n2: Packets of 1400 bytes get through to it (192.0.2.2) and larger ones do not, though this node sends up to 1500: give its device, and every one on the way, MTU 1500, or start the agent of this node with --mtu 1350",
        ],
    );
    mismatch(
        paths(&[("192.0.2.2", 1_400, Some(1_400))], 1_450),
        &[
            "Node n2: The route to it (192.0.2.2) has MTU 1400, of which 50 are taken, and pods of this node have MTU 1450: raise the route's to 1500, or start the agent with --mtu 1350 or auto",
        ],
    );
    // No agent can be started with less than the least.
    mismatch(paths(&[("192.0.2.2", 1_330, Some(1_330))], 1_280), &[]);
    mismatch(
        paths(&[("192.0.2.2", 1_300, None)], 1_280),
        &[
            "Node n2: The route to it (192.0.2.2) has MTU 1300, of which 50 are taken, and pods of this node have MTU 1280: raise the route's to 1330",
        ],
    );
    mismatch(
        paths(&[("192.0.2.2", 1_500, Some(1_300))], 1_450),
        &[
            "Node n2: Packets of 1300 bytes get through to it (192.0.2.2) and larger ones do not, though this node sends up to 1500: give its device, and every one on the way, MTU 1500",
        ],
    );
    mismatch(
        paths(&[], 1_480),
        &[
            "Node n1: Pods have MTU 1480, and eth0 has 1500, of which the way to other nodes takes 50: raise the MTU of eth0 to 1530, or start the agent with --mtu auto",
        ],
    );
    let larger = [(Key::new("default", "old"), 1_450)].into();
    mismatch(
        Paths { larger, ..paths(&[], 1_350) },
        &[
            "Pod old: Its interface has MTU 1450, from before the node's pods had 1350, and could not be changed: large packets of it may be refused; delete the pod, so that it is made anew",
        ],
    );
}
