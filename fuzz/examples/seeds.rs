//! Writes the seeds, the part of the corpus that is not found but known: `cargo run -p fuzz --example seeds`.
use std::{fs, path::Path};

use abi::{Addr, config::GATEWAY_MAC, flow::Tuple};
use agent_api::v1::{CniGcRequest, CniRequest, MonitorRequest, cni_gc_request::Attachment};
use datapath::{
    parse::{ICMP, ICMPV6, TCP, UDP},
    sim::frame::Make,
};
use prost::Message as _;

fn main() {
    packets();
    configurations();
    requests();
}

fn write(target: &str, name: &str, input: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&path).expect("a directory in the clone");
    fs::write(path.join(name), input).expect("a file in the clone");
}

/// Hooks by their places; a pod's device is pod A's, B's with 8 added.
const FROM_POD: u8 = 0;
const FROM_HOST: u8 = 2;
const FROM_OVERLAY: u8 = 3;
const FROM_NETDEV: u8 = 4;
const B: u8 = 8;

fn addr(text: &str, v6: bool) -> Addr {
    let v4 = Addr::from(text.parse::<std::net::IpAddr>().expect("an address"));
    if v6 { Addr([u32::from_ne_bytes([0xfd, 0, 0, 0]), 0, 0, v4.v4_word()]) } else { v4 }
}

/// A frame behind its place and length.
fn frame(place: u8, ends: [(&str, u16); 2], proto: u8, flags: u8, v6: bool) -> Vec<u8> {
    let [(src, sport), (dst, dport)] = ends;
    let tuple = Tuple { src: addr(src, v6), dst: addr(dst, v6), sport: sport.to_be(), dport: dport.to_be() };
    let device = if place & B == 0 { 102 } else { 103 };
    let link = [GATEWAY_MAC, [2, 0, 0, 0, 0, device]];
    let proto = if v6 && proto == ICMP { ICMPV6 } else { proto };
    let bytes = Make { tuple, proto, flags, ttl: 64, link, unsummed: false, extensions: &[] }.bytes();
    behind(place, &bytes)
}

fn behind(place: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short frame");
    [&[place, length], bytes].concat()
}

const A: &str = "10.244.1.2";
const NEAR: &str = "10.244.1.3";
const FAR: &str = "10.244.2.2";

fn packets() {
    for v6 in [false, true] {
        let family = if v6 { "v6" } else { "v4" };
        let input = |kind: u8, name: &str, frames: &[Vec<u8>]| {
            write("packet", &format!("{name}-{family}"), &[&[kind | u8::from(v6)], &frames.concat()[..]].concat());
        };
        let tcp = |place, from, to, flags| frame(place, [from, to], TCP, flags, v6);
        let udp = |place, from, to| frame(place, [from, to], UDP, 0, v6);
        let (here, there) = ((A, 40_000), (NEAR, 8080));
        let handshake =
            [tcp(FROM_POD, here, there, 2), tcp(FROM_POD | B, there, here, 0x12), tcp(FROM_POD, here, there, 0x10)];
        input(0, "tcp-near", &handshake);
        input(2, "tcp-near-by-policy", &handshake);
        input(4, "tcp-near-full-table", &handshake);
        let service = ("10.96.0.11", 80);
        input(0, "tcp-service", &[tcp(FROM_POD, here, service, 2), tcp(FROM_OVERLAY, (FAR, 8080), here, 0x12)]);
        let port = ("172.31.0.11", 30_080);
        input(0, "node-port", &[tcp(FROM_NETDEV, ("172.31.0.2", 999), port, 2)]);
        input(0, "out", &[udp(FROM_POD, here, ("172.31.0.2", 53)), udp(FROM_POD, here, ("10.96.0.14", 53))]);
        input(0, "host", &[udp(FROM_HOST, ("172.31.0.11", 5), here), udp(FROM_OVERLAY, (FAR, 5), here)]);
        let ping = frame(FROM_POD, [(A, 7), (FAR, 7)], ICMP, if v6 { 128 } else { 8 }, v6);
        input(0, "ping", &[ping]);
        // The service's answer is unreachable: an error that quotes the translated packet.
        let quoted = udp(FROM_OVERLAY, here, (FAR, 8080));
        input(0, "error", &[tcp(FROM_POD, here, service, 2), error(&quoted[16..], v6)]);
        input(0, "fragments", &fragments(v6));
    }
    let mut solicitation = frame(FROM_POD, [(A, 0), (NEAR, 0)], ICMP, 135, true);
    solicitation.extend_from_slice(&[0; 16]);
    solicitation[1] += 16;
    write("packet", "solicitation", &[&[1], &solicitation[..]].concat());
    write("packet", "arp", &[&[0, FROM_POD, 20], &[0xff; 12][..], &[8, 6, 0, 1, 8, 0, 6, 4]].concat());
}

/// An ICMP error by the overlay to pod A about a packet.
fn error(quoted: &[u8], v6: bool) -> Vec<u8> {
    let mut bytes = frame(FROM_OVERLAY, [(FAR, 0), (A, 0)], ICMP, if v6 { 1 } else { 3 }, v6);
    bytes.truncate(2 + if v6 { 62 } else { 42 });
    bytes.extend_from_slice(quoted);
    bytes[1] = u8::try_from(bytes.len() - 2).expect("short");
    let at = if v6 { 2 + 14 + 5 } else { 2 + 14 + 3 };
    bytes[at] = bytes[1] - if v6 { 54 } else { 14 };
    bytes
}

/// The first and the last of a datagram's three, and one that comes before any first.
fn fragments(v6: bool) -> Vec<Vec<u8>> {
    let whole = frame(FROM_POD, [(A, 5), (FAR, 6)], UDP, 0, v6);
    let part = |offset: u8, more: u8, id: u8| {
        let mut bytes = whole.clone();
        if v6 {
            bytes[2 + 20] = 44;
            bytes[2 + 19] += 8;
            bytes.splice(56..56, [UDP, 0, 0, offset << 3 | more, 0, 0, 0, id]);
            bytes[1] += 8;
        } else {
            bytes[2 + 19] = id;
            (bytes[2 + 20], bytes[2 + 21]) = (more << 5, offset);
        }
        bytes
    };
    vec![part(0, 1, 7), part(2, 0, 7), part(2, 0, 8)]
}

const NETWORK: &str = r#""name":"weft","type":"weft-cni""#;

fn configurations() {
    let line = |command: &str| {
        format!("{command}\tc-1\t/run/netns/x\teth0\tIgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p\n")
    };
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0", "0.2.0"] {
        let text = format!(r#"{}{{"cniVersion":"{version}",{NETWORK}}}"#, line("ADD"));
        write("config", &format!("add-{version}"), text.as_bytes());
    }
    let previous = r#""prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"lo","mtu":1}],
        "ips":[{"address":"127.0.0.1/8","interface":0},{"address":"::1/128"}],"routes":[{"dst":"::/0","mtu":9}],
        "dns":{"nameservers":["10.96.0.10"]}}"#;
    for (name, command, fields) in [
        ("add-chained", "ADD", previous),
        ("check", "CHECK", previous),
        ("del", "DEL", r#""socket":"/run/weft/agent.sock","timeoutSeconds":600"#),
        ("gc", "GC", r#""cni.dev/valid-attachments":[{"containerID":"c-1","ifname":"eth0"}]"#),
        ("status", "STATUS", r#""dns":null"#),
        ("version", "VERSION", r#""dns":{}"#),
        ("ipam", "ADD", r#""ipam":{"type":"host-local"}"#),
        ("capability", "ADD", r#""runtimeConfig":{"infinibandGUID":"1","ips":[]}"#),
    ] {
        let text = format!(r#"{}{{"cniVersion":"1.1.0",{NETWORK},{fields}}}"#, line(command));
        write("config", name, text.as_bytes());
    }
}

fn requests() {
    let args = [("K8S_POD_NAMESPACE", "n"), ("K8S_POD_NAME", "p"), ("K8S_POD_UID", "u")];
    let request = |config: &str, previous: &str| CniRequest {
        container_id: "c-1".into(),
        netns: "/run/netns/x".into(),
        ifname: "eth0".into(),
        args: args.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(),
        config_json: config.into(),
        prev_result_json: previous.into(),
        timeout_ms: 28_000,
    };
    let put = |name: &str, kind: u8, bytes: Vec<u8>| write("request", name, &[&[kind], &bytes[..]].concat());
    let granted = r#"{"name":"weft","runtimeConfig":{"ips":["10.244.1.9/24","fd00::9"],"mac":"0a:58:0a:f4:01:09",
        "portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"tcp","hostIP":"::"}],
        "bandwidth":{"ingressRate":8000000,"ingressBurst":1000000,"egressRate":1000,"egressBurst":1}}}"#;
    put("add", 0, request(granted, r#"{"interfaces":[],"ips":[]}"#).encode_to_vec());
    put("add-nameless", 0, CniRequest { args: [].into(), ..request("{}", "") }.encode_to_vec());
    let pod = r#"{"metadata":{"name":"p","annotations":{"kubernetes.io/egress-bandwidth":"8M",
        "kubernetes.io/ingress-bandwidth":"1Ti","weft.net/pod-ips":"10.244.0.9, fd00::9"}}}"#;
    put("annotated", 3, request(pod, granted).encode_to_vec());
    let valid = vec![Attachment { container_id: "c-1".into(), ifname: "eth0".into() }];
    put("gc", 1, CniGcRequest { valid, config_json: r#"{"name":"weft"}"#.into() }.encode_to_vec());
    put("monitor", 2, MonitorRequest { kinds: vec!["drop".into(), "flow".into()], pod: "n/p".into() }.encode_to_vec());
    put("monitor-all", 2, Vec::new());
}
