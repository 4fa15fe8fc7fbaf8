//! Packets that are larger than their way, and packets in pieces, with real stacks at both ends.
use crate::{
    bench::{addr, speak, v6},
    endpoint,
    exchange::{Exchange, tcp, udp},
    lab::{Attach, Lab, Setup, at_once, ip, place, with_bits},
    world::{ALLOWED, isolate, rule},
};
use abi::{
    pod::ISOLATED_INGRESS,
    policy::INGRESS,
    route::{LOCAL, SPLITS},
};
use datapath::parse::UDP;
use std::process::Command;

const POD_C: &str = "10.244.2.2:8080";
/// A service whose one backend that is.
const SERVICE: &str = "10.96.0.11:80";

#[track_caller]
fn works(lab: &Lab, client: &'static str, server: &'static str, at: &str, to: &str) {
    for (name, exchange) in [("tcp", tcp as Exchange), ("udp", udp)] {
        if let Err(error) = exchange(client, server, endpoint(at), endpoint(to)) {
            panic!("{name} from {client} to {to}: {error}\n{}", lab.drops());
        }
    }
}

/// What a namespace's kernel has been told of the way there.
fn told(namespace: &str, to: &str) -> Option<u32> {
    let output =
        Command::new("ip").args(["-n", namespace, "route", "get", &place(to)]).output().expect("the ip command");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(" mtu ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

/// Datagrams of 8,000 bytes, there and back, by address and by service, where policy lets only UDP of pod A through.
#[track_caller]
fn pieces_obey_policy() {
    let mut lab = Lab::start(Setup::plain(Attach::Clsact));
    lab.change(|number, node| {
        if number == 2 {
            isolate(node, 2, ISOLATED_INGRESS);
            node.peers.insert(addr("10.244.1.2"), 5);
            rule(node, INGRESS, 5, UDP, 8080, ALLOWED);
        }
    });
    for to in [POD_C, SERVICE] {
        let peer = udp("pod-a", "pod-c", endpoint(POD_C), endpoint(to)).map(|peer| peer.to_string());
        assert_eq!(peer.ok(), Some(place("10.244.1.2")), "{to}\n{}", lab.drops());
    }
    assert!(udp("pod-b", "pod-c", endpoint(POD_C), endpoint(POD_C)).is_err());
    assert!(lab.drops().contains("policy_denied_ingress"), "{}", lab.drops());
    // Its own way out is open.
    let out = udp("pod-c", "pod-b", endpoint("10.244.1.3:8080"), endpoint("10.244.1.3:8080"));
    assert!(out.is_ok(), "{out:?}\n{}", lab.drops());
}

#[test]
fn pieces_obey_policy_in_ipv4() {
    pieces_obey_policy();
}

#[test]
fn pieces_obey_policy_in_ipv6() {
    speak(true);
    pieces_obey_policy();
}

/// The network between the nodes carries 100 bytes less than their devices say, and swallows what is larger. The tables
/// know it; the pods, the hosts and the machine outside do not, until they are told.
#[track_caller]
fn a_narrow_underlay() {
    let mut lab = Lab::start(Setup::plain(Attach::Clsact));
    let fits = if v6() { 1_330 } else { 1_350 };
    for port in ["node-1", "node-2"] {
        ip(&format!("link set {port} mtu 1400"));
    }
    lab.change(|_, node| {
        for row in node.nodes.values_mut().filter(|row| row.flags & LOCAL == 0) {
            (row.mtu, row.flags) = (fits, row.flags & !SPLITS);
        }
    });
    works(&lab, "pod-a", "pod-c", POD_C, POD_C);
    works(&lab, "pod-a", "pod-c", POD_C, SERVICE);
    works(&lab, "pod-c", "pod-b", "10.244.1.3:8080", "10.244.1.3:8080");
    works(&lab, "node-1", "pod-c", POD_C, POD_C);
    for (namespace, to) in
        [("pod-a", "10.244.2.2"), ("pod-a", "10.96.0.11"), ("pod-c", "10.244.1.3"), ("node-1", "10.244.2.2")]
    {
        assert_eq!(told(namespace, to), Some(fits), "{namespace} about {to}\n{}", lab.drops());
    }
    assert!(lab.drops().contains("node-1 from_pod: ") && lab.drops().contains("packet_too_big"), "{}", lab.drops());
    // From outside through one node to a pod of the other: that machine's own link is as narrow now.
    ip("-n outside link set eth0 mtu 1400");
    works(&lab, "outside", "pod-c", POD_C, "172.31.0.11:30081");
    assert_eq!(told("outside", "172.31.0.11"), Some(fits), "{}", lab.drops());
}

#[test]
fn a_narrow_underlay_in_ipv4() {
    a_narrow_underlay();
}

#[test]
fn a_narrow_underlay_in_ipv6() {
    speak(true);
    a_narrow_underlay();
}

/// A router outside has a link of 1,300 bytes behind it. Its errors come to the node's address; the pods get them.
#[track_caller]
fn a_narrow_link_outside() {
    let lab = Lab::start(Setup::plain(Attach::Clsact));
    ip("netns add beyond");
    ip("link add r0 netns outside type veth peer name eth0 netns beyond");
    let (router, client) = (place("172.32.0.1"), place("172.32.0.2"));
    for command in [
        "-n outside link set r0 mtu 1300 up",
        &format!("-n outside addr add {} dev r0{}", with_bits(&router, 24), at_once()),
        "-n beyond link set eth0 up",
        "-n beyond link set lo up",
        &format!("-n beyond addr add {} dev eth0{}", with_bits(&client, 24), at_once()),
        // It keeps to the link's size, and tells nobody of it.
        &format!("-n beyond route add default via {router} mtu 1300 advmss {}", if v6() { 1_440 } else { 1_460 }),
    ] {
        ip(command);
    }
    crate::exchange::within("outside", || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    })
    .join()
    .unwrap();
    for node in ["node-1", "node-2"] {
        ip(&format!("-n {node} route add {} via {}", with_bits(&place("172.32.0.0"), 24), place("172.31.0.2")));
    }
    // Masqueraded; to a pod of the node that is asked; to one of the other node, whose answers come back this way.
    works(&lab, "pod-a", "beyond", "172.32.0.2:80", "172.32.0.2:80");
    works(&lab, "beyond", "pod-b", "10.244.1.3:8080", "172.31.0.11:30080");
    works(&lab, "beyond", "pod-c", POD_C, "172.31.0.11:30081");
    for pod in ["pod-a", "pod-b", "pod-c"] {
        assert_eq!(told(pod, "172.32.0.2"), Some(1_300), "{pod}\n{}", lab.drops());
    }
}

#[test]
fn a_narrow_link_outside_in_ipv4() {
    a_narrow_link_outside();
}

#[test]
fn a_narrow_link_outside_in_ipv6() {
    speak(true);
    a_narrow_link_outside();
}
