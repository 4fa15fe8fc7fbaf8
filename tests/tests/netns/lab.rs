//! Two nodes, three pods and a machine outside, each a network namespace, joined by a bridge in one more.
//!
//! Everything hangs on the mount and network namespaces of the test's thread: when it ends, however it ends, all is gone.
use crate::{
    bench::{addr, v6},
    exchange::within,
    rows, world,
};
use abi::{
    DropReason,
    config::{FEATURE_ENCAPSULATE, GATEWAY_MAC, Settings},
    event::{Counter, HOOKS, Hook},
    flow::{FlowKey, FlowValue},
    map,
    pod::{HOST, PodId, READY},
    route::{LOCAL, SPLITS},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, PerCpuArray, ProgramArray},
    programs::{
        SchedClassifier, TcAttachType,
        tc::{NlOptions, TcAttachOptions, qdisc_add_clsact},
    },
};
use datapath::{
    parse::{TCP, UDP},
    sim::Node,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};
use zerocopy::{FromBytes, IntoBytes};

#[path = "offload.rs"]
mod offload;

/// How programs are attached.
#[derive(Clone, Copy)]
pub(crate) enum Attach {
    Tcx,
    Clsact,
}

/// What the labs differ in, beside the family.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) attach: Attach,
    /// Per node: the programs write and take off the overlay's outer header.
    pub(crate) written: [bool; 2],
    /// The nodes' NICs have their offloads. The machine outside leaves checksums and segments to its NIC in any case.
    pub(crate) offloads: bool,
    /// Pods have the wire's MTU, as in native mode, and not what the overlay leaves.
    pub(crate) full: bool,
    /// Rows of `FLOWS`.
    pub(crate) flows: u32,
    /// Rows of `HALFOPEN`.
    pub(crate) half_open: u32,
    /// What is different about the tables of a node of this number.
    pub(crate) change: fn(&mut Node, u32),
}

impl Setup {
    /// The overlay by its device on both nodes, with offloads.
    pub(crate) const fn plain(attach: Attach) -> Setup {
        let (flows, half_open) = (4096, 4096);
        Setup { attach, written: [false; 2], offloads: true, full: false, flows, half_open, change: |_, _| () }
    }
}

/// One node's programs, attached as long as this lives.
struct Loaded {
    name: &'static str,
    ebpf: Ebpf,
    tables: Node,
    _stages: ProgramArray<aya::maps::MapData>,
}

/// The lab.
pub(crate) struct Lab {
    nodes: Vec<Loaded>,
}

/// A pod: its namespace, address, id and the index of its device.
type PodAt = (&'static str, &'static str, PodId, u32);

const PODS_1: &[PodAt] = &[("pod-a", "10.244.1.2", world::POD_A, 102), ("pod-b", "10.244.1.3", world::POD_B, 103)];
const PODS_2: &[PodAt] = &[("pod-c", "10.244.2.2", 2, 104)];

impl Lab {
    pub(crate) fn start(setup: Setup) -> Lab {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("namespaces need root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        std::fs::create_dir("/run/bpf").unwrap();
        mount(Some("bpf"), "/run/bpf", Some("bpf"), MsFlags::empty(), none).unwrap();
        ip("link add fabric type bridge");
        ip("link set fabric up");
        machine("outside", &place("172.31.0.2"));
        let nodes = vec![node("node-1", 1, PODS_1, setup), node("node-2", 2, PODS_2, setup)];
        Lab { nodes }
    }

    /// Writes one row of `NODES` of a running node.
    pub(crate) fn node_row(&mut self, number: u32, (id, row): (u32, abi::route::Node)) {
        let node = &mut self.nodes[number as usize - 1];
        let mut rows: Array<_, [u8; 64]> = node.ebpf.map_mut(map::NODES.name).unwrap().try_into().unwrap();
        rows.set(id, <[u8; 64]>::try_from(row.as_bytes()).unwrap(), 0).unwrap();
    }

    /// Changes both nodes' tables.
    pub(crate) fn change(&mut self, change: impl Fn(u32, &mut Node)) {
        for (node, number) in self.nodes.iter_mut().zip(1..) {
            change(number, &mut node.tables);
            rows::write(&mut node.ebpf, &node.tables);
        }
    }

    /// Packets that the overlay device has sent and received on both nodes.
    pub(crate) fn by_device(&self) -> u64 {
        let count = |node: &Loaded| {
            let count = within(node.name, || {
                // A line for each device: its name, what it received (bytes, packets …), from the ninth field on what it sent.
                let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
                let line = text.lines().find_map(|line| line.trim().strip_prefix("weft_vxlan:")).unwrap();
                let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().unwrap()).collect();
                fields[1] + fields[9]
            });
            count.join().unwrap()
        };
        self.nodes.iter().map(count).sum()
    }

    /// Rows of a table of flows on the first node.
    pub(crate) fn rows(&self, table: &str) -> usize {
        const KEY: usize = size_of::<FlowKey>();
        const VALUE: usize = size_of::<FlowValue>();
        let map = self.nodes[0].ebpf.map(table).unwrap();
        match map {
            Map::LruHashMap(_) | Map::HashMap(_) => {
                HashMap::<_, [u8; KEY], [u8; VALUE]>::try_from(map).unwrap().keys().count()
            }
            _ => panic!("{table} is no table of flows"),
        }
    }

    /// What the programs dropped, for a failing test's report.
    pub(crate) fn drops(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let counters: PerCpuArray<_, [u8; 16]> = node.ebpf.map(map::COUNTERS.name).unwrap().try_into().unwrap();
            for reason in DropReason::ALL {
                for hook in Hook::ALL {
                    let rows = counters.get(&(u32::from(*reason as u8) * HOOKS + hook as u32), 0).unwrap();
                    let packets: u64 = rows.iter().map(|row| Counter::read_from_bytes(row).unwrap().packets).sum();
                    if packets > 0 {
                        writeln!(text, "{} {}: {packets} {}", node.name, hook.name(), reason.label()).unwrap();
                    }
                }
            }
        }
        text
    }
}

/// An address of the lab as this thread's family has it.
pub(crate) fn place(text: &str) -> String {
    addr(text).to_string()
}

/// A range of it.
fn range(text: &str, bits: u32) -> String {
    format!("{}/{}", place(text), if v6() { 96 + bits } else { bits })
}

/// What the overlay's outer headers leave of 1500 bytes: IPv6's is 20 bytes longer.
pub(crate) fn mtu() -> u32 {
    if v6() { 1430 } else { 1450 }
}

/// What `ip` wants behind an IPv6 address, that it may be used at once.
pub(crate) fn at_once() -> &'static str {
    if v6() { " nodad" } else { "" }
}

pub(crate) fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("the ip command");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

pub(crate) fn with_bits(address: &str, bits: u32) -> String {
    format!("{address}/{}", if v6() { 96 + bits } else { bits })
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// A namespace with `eth0` on the bridge.
fn machine(name: &str, address: &str) {
    ip(&format!("netns add {name}"));
    ip(&format!("link add eth0 index 20 netns {name} type veth peer name {name}"));
    ip(&format!("link set {name} master fabric up"));
    for command in
        ["link set lo up", "link set eth0 up", &format!("addr add {} dev eth0{}", with_bits(address, 24), at_once())]
    {
        ip(&format!("-n {name} {command}"));
    }
}

fn node(name: &'static str, number: u32, pods: &[PodAt], setup: Setup) -> Loaded {
    let address = place(&format!("172.31.0.1{number}"));
    machine(name, &address);
    within(name, move || {
        if !setup.offloads {
            offload::off("eth0");
        }
        for (key, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")] {
            std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).unwrap();
        }
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    })
    .join()
    .unwrap();
    let gateway = mac(GATEWAY_MAC);
    let mtu = if setup.full { 1500 } else { mtu() };
    let (beyond, onlink) = if v6() { ("fe80::1", "") } else { ("169.254.42.2", " onlink") };
    for command in [
        &format!("link add weft_host index 10 mtu {mtu} type veth peer name weft_net index 11"),
        &format!("link set weft_host address {gateway} up"),
        &format!("link set weft_net address {gateway} mtu {mtu} up"),
        &format!("link add weft_vxlan index 30 address {gateway} type vxlan external dstport 8472"),
        &format!("link set weft_vxlan mtu {mtu} up"),
        &format!("neigh add {beyond} lladdr {gateway} dev weft_host nud permanent"),
    ] {
        ip(&format!("-n {name} {command}"));
    }
    for range in [range("10.244.0.0", 16), range("10.96.0.0", 16), range("169.254.42.1", 32)] {
        ip(&format!("-n {name} route add {range} via {beyond} dev weft_host{onlink} src {address}"));
    }
    for pod in pods {
        make_pod(name, pod, mtu);
    }
    let devices = pods.iter().map(|pod| pod.0.to_owned()).collect();
    let mut tables = tables(number, pods);
    if setup.written[number as usize - 1] {
        tables.settings.features |= FEATURE_ENCAPSULATE;
    }
    (setup.change)(&mut tables, number);
    load(name, number, &tables, devices, setup)
}

fn make_pod(node: &str, (name, address, _, index): &PodAt, mtu: u32) {
    ip(&format!("netns add {name}"));
    ip(&format!("-n {node} link add {name} index {index} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}"));
    ip(&format!("-n {node} link set {name} address {} up", mac(GATEWAY_MAC)));
    for command in [
        "link set lo up",
        &format!("link set eth0 address {} up", mac(world::mac(*index))),
        &format!("addr add {} dev eth0{}", range(address, 32), at_once()),
    ] {
        ip(&format!("-n {name} {command}"));
    }
    let next = if v6() { "fe80::1" } else { "169.254.1.1" };
    if !v6() {
        ip(&format!("-n {name} route add {next} dev eth0 scope link"));
    }
    ip(&format!("-n {name} route add default via {next} dev eth0"));
    if *name != "pod-b" {
        // Pod B has to ask by ARP, or by a solicitation.
        let gateway = mac(GATEWAY_MAC);
        ip(&format!("-n {name} neigh add {next} lladdr {gateway} dev eth0 nud permanent"));
    }
}

/// The scenarios' tables, from the view of this node, with every service for TCP and UDP.
fn tables(number: u32, pods: &[PodAt]) -> Node {
    let mut node = world::node();
    let own = addr(&format!("172.31.0.1{number}"));
    node.settings = Settings { node: number, features: 0, ..node.settings };
    node.pods.clear();
    node.pods.insert(own, HOST);
    let host = node.pod.get_mut(&HOST).unwrap();
    if v6() {
        (node.settings.host6, host.addr6) = (own, own);
    } else {
        (node.settings.host4, host.addr4) = (own, own);
    }
    for (id, row) in &mut node.nodes {
        // Of outer packets the kernel splits IPv4's.
        (row.flags, row.mtu) = match (*id == number, v6()) {
            (true, _) => (LOCAL, 1_500),
            (false, true) => (0, mtu()),
            (false, false) => (SPLITS, mtu()),
        };
    }
    for (_, address, id, index) in pods {
        world::pod(&mut node, *id, address, *index, READY);
    }
    // A host port is of one node alone.
    match number {
        1 => world::host_port(&mut node, 30, "172.31.0.11:8081", TCP, ("10.244.1.3:8080", world::POD_B, 1)),
        _ => world::host_port(&mut node, 31, "172.31.0.12:8082", TCP, ("10.244.2.2:8080", 2, 2)),
    }
    let tcp: Vec<_> =
        node.services.iter().filter(|(key, _)| key.proto == TCP).map(|(key, value)| (*key, *value)).collect();
    for (mut key, service) in tcp {
        key.proto = UDP;
        node.services.insert(key, service);
    }
    node
}

fn load(name: &'static str, number: u32, node: &Node, pods: Vec<String>, setup: Setup) -> Loaded {
    let pins = PathBuf::from(format!("/run/bpf/{number}"));
    std::fs::create_dir(&pins).unwrap();
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/weft.bpf.o");
    let object = std::env::var_os("WEFT_BPF_OBJECT").map_or(object, PathBuf::from);
    assert!(object.exists(), "{} is missing: run cargo xtask build", object.display());
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(&pins).override_global(map::SETTINGS, node.settings.as_bytes(), true);
    for spec in [map::PEERS, map::CIDRS, map::POLICY, map::SERVICES, map::SLOTS, map::BACKENDS] {
        loader.map_max_entries(spec.name, 4096);
    }
    loader.map_max_entries(map::FLOWS.name, setup.flows).map_max_entries(map::HALFOPEN.name, setup.half_open);
    let mut ebpf = loader.load_file(object).expect("the object loads");
    rows::write(&mut ebpf, node);
    for (_, program) in ebpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into().unwrap();
        agent::load::verified(|| program.load()).expect("the program loads");
    }
    let mut stages = ProgramArray::try_from(ebpf.take_map(map::PROGS.name).unwrap()).unwrap();
    for (index, stage) in map::STAGES.iter().enumerate() {
        let program: &SchedClassifier = ebpf.program(stage).unwrap().try_into().unwrap();
        stages.set(index as u32, program.fd().unwrap(), 0).unwrap();
    }
    let attach = setup.attach;
    let ebpf = within(name, move || {
        for pod in &pods {
            hook(&mut ebpf, "from_pod", pod, TcAttachType::Ingress, attach);
            hook(&mut ebpf, "to_pod", pod, TcAttachType::Egress, attach);
        }
        hook(&mut ebpf, "from_host", "weft_net", TcAttachType::Ingress, attach);
        hook(&mut ebpf, "from_overlay", "weft_vxlan", TcAttachType::Ingress, attach);
        hook(&mut ebpf, "from_netdev", "eth0", TcAttachType::Ingress, attach);
        hook(&mut ebpf, "to_netdev", "eth0", TcAttachType::Egress, attach);
        ebpf
    });
    Loaded { name, ebpf: ebpf.join().unwrap(), tables: node.clone(), _stages: stages }
}

fn hook(ebpf: &mut Ebpf, name: &str, device: &str, at: TcAttachType, attach: Attach) {
    let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
    match attach {
        Attach::Tcx => program.attach(device, at).map(drop).expect("tcx"),
        Attach::Clsact => {
            let _ = qdisc_add_clsact(device); // There already for the second program.
            let options = TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() });
            program.attach_with_options(device, at, options).map(drop).expect("clsact");
        }
    }
}
