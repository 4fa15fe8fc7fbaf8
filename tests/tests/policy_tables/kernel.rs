//! The real programs as a target: loaded into a network namespace of this thread's own, run by BPF_PROG_TEST_RUN. Tables
//! are written by the agent's own store; verdicts and the rule that is told come out of the control block and `FLOWS`.
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use abi::{
    Addr, DropReason,
    config::{FEATURE_TRACE, GATEWAY_MAC, Settings, VNI_POD},
    event::Hook,
    flow::{NEXT_POD, Tuple},
    map,
};
use agent::{
    apply::{MapStore as _, Op, kernel::AyaStore, syscall::RawMap},
    tables::Table,
};
use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{MapData, ProgramArray},
    programs::SchedClassifier,
};
use datapath::sim::frame::Make;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::os::fd::AsFd as _;
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{
    cluster::NODES,
    node::{End, FIRST_POD, Flow, HOST_SIDE, POD_DEVICES, POD_MAC},
    order::Target,
};

const NIC: u32 = 20;
const OVERLAY: u32 = 30;

/// A node whose datapath is loaded.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    tunnel: Ebpf,
    _stages: ProgramArray<MapData>,
    _target: ProgramArray<MapData>,
    store: AyaStore,
    memories: [RawMap; 2],
    node: usize,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Passed,
    Dropped(DropReason),
}

fn object(name: &str) -> PathBuf {
    let object = std::env::var_os("WEFT_BPF_OBJECT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/weft.bpf.o"), PathBuf::from);
    let path = if name.is_empty() { object } else { object.with_file_name(name) };
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    path
}

/// Namespaces of this thread's own, with a bpffs and every device that a pod of a random cluster may have.
fn enter(node: usize) -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("namespaces need root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of our own");
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let pins = std::env::temp_dir().join(format!("weft-policy-{}-{thread}", std::process::id()));
    std::fs::create_dir_all(&pins).unwrap();
    mount(Some("bpf"), &pins, Some("bpf"), MsFlags::empty(), none).expect("bpffs");
    std::fs::write("/proc/sys/net/ipv4/conf/all/forwarding", "1").unwrap();
    let mut lines = format!(
        "link add weft_host index {HOST_SIDE} type veth peer name weft_net index {}\n\
         link add eth0 index {NIC} type veth peer name wire index {}\n\
         link add weft_vxlan index {OVERLAY} type vxlan external dstport 8472\n\
         link set eth0 up\nlink set wire up\naddr add {}/24 dev eth0\nroute add default via 172.31.0.1\n",
        HOST_SIDE + 1,
        NIC + 1,
        NODES[node]
    );
    for index in FIRST_POD..FIRST_POD + POD_DEVICES {
        lines +=
            &format!("link add pod{index} index {index} type veth peer name in{index} index {}\n", index + POD_DEVICES);
    }
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("the ip command");
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success(), "the devices of a node");
    pins
}

fn settings(node: usize) -> Settings {
    let v4 = |text: &str| Addr::from(text.parse::<std::net::IpAddr>().unwrap());
    Settings {
        host4: v4(NODES[node]),
        hairpin4: v4("169.254.42.1"),
        node: 1,
        host_ifindex: HOST_SIDE,
        overlay_ifindex: OVERLAY,
        nic_ifindex: NIC,
        overlay_port: 8472_u16.to_be(),
        node_port_first: 30_000,
        node_port_last: 32_767,
        masquerade_first: 40_000,
        masquerade_last: 65_535,
        gateway_mac: GATEWAY_MAC,
        features: FEATURE_TRACE,
        jiffies_per_second: 250,
        ..Settings::default()
    }
}

fn classifier<'a>(ebpf: &'a Ebpf, name: &str) -> &'a SchedClassifier {
    ebpf.program(name).unwrap().try_into().unwrap()
}

fn load_all(ebpf: &mut Ebpf) {
    for (name, program) in ebpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into().unwrap();
        agent::load::verified(|| program.load()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn open(pins: &Path, spec: &map::MapSpec) -> RawMap {
    let data = MapData::from_pin(pins.join(spec.name)).unwrap();
    RawMap::new(data.fd().as_fd().try_clone_to_owned().unwrap(), spec, aya::util::nr_cpus().unwrap())
}

impl Kernel {
    /// Loads a node of the random clusters.
    pub(crate) fn load(node: usize) -> Kernel {
        let pins = enter(node);
        let settings = settings(node);
        let mut loader = EbpfLoader::new();
        loader.default_map_pin_directory(&pins).override_global(map::SETTINGS, settings.as_bytes(), true);
        for (spec, rows) in [(map::PEERS, 256), (map::CIDRS, 256), (map::POLICY, 65_536), (map::SERVICES, 16)] {
            loader.map_max_entries(spec.name, rows);
        }
        for spec in [map::SLOTS, map::BACKENDS, map::FLOWS, map::HALFOPEN, map::EVENTS] {
            loader.map_max_entries(spec.name, 4096);
        }
        let mut ebpf = loader.load_file(object("")).expect("the object loads");
        load_all(&mut ebpf);
        let mut stages = ProgramArray::try_from(ebpf.take_map(map::PROGS.name).unwrap()).unwrap();
        for (index, name) in map::STAGES.iter().enumerate() {
            stages.set(index as u32, classifier(&ebpf, name).fd().unwrap(), 0).unwrap();
        }
        let mut tunnel = Ebpf::load_file(object("bpfel-unknown-none/release/weft-bpf-tunnel")).expect("it loads");
        load_all(&mut tunnel);
        let mut target = ProgramArray::try_from(tunnel.take_map("TARGET").unwrap()).unwrap();
        target.set(0, classifier(&ebpf, "from_overlay").fd().unwrap(), 0).unwrap();
        let maps: BTreeMap<Table, RawMap> =
            Table::ALL.iter().map(|table| (*table, open(&pins, table.spec()))).collect();
        let memories = [open(&pins, &map::FLOWS), open(&pins, &map::HALFOPEN)];
        Kernel { ebpf, tunnel, _stages: stages, _target: target, store: AyaStore::new(maps), memories, node }
    }

    /// Where the agent writes.
    pub(crate) fn store(&mut self) -> &mut AyaStore {
        &mut self.store
    }

    /// Runs a first packet of a flow through the hook by which it enters.
    pub(crate) fn send(&mut self, flow: &Flow) -> Seen {
        self.forget();
        let seen = self.run(flow);
        self.forget();
        seen
    }

    /// Runs a packet; what the datapath remembers of its flow counts.
    pub(crate) fn run(&self, flow: &Flow) -> Seen {
        let mut context = [0; SK_BUFF];
        let (program, ifindex) = match flow.from.ifindex {
            Some(ifindex) => (classifier(&self.ebpf, Hook::FromPod.name()), ifindex),
            None if self.is_remote(&flow.from) => {
                let node = Addr::from(NODES[1 - self.node].parse::<std::net::IpAddr>().unwrap());
                context[CB..CB + 16].copy_from_slice(&node.bytes());
                context[CB + 16..CB + 20].copy_from_slice(&VNI_POD.to_ne_bytes());
                (classifier(&self.tunnel, "tunnel"), OVERLAY)
            }
            None => (classifier(&self.ebpf, Hook::FromHost.name()), HOST_SIDE + 1),
        };
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
        let (bytes, mut after) = (packet(flow), [0; SK_BUFF]);
        let mut out = [0; 512];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&bytes);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        options.ctx_out = Some(&mut after);
        program.test_run(options).expect("BPF_PROG_TEST_RUN");
        let word = u32::from_ne_bytes(after[CB..CB + 4].try_into().unwrap());
        let to = u32::from_ne_bytes(after[CB + 4..CB + 8].try_into().unwrap());
        if word & 0x300 == 0x200 && word as u8 == NEXT_POD && flow.to.ifindex.is_some_and(|ifindex| ifindex != to) {
            return Seen::Dropped(DropReason::PodNotReady); // Its address leads to another pod: it is not there.
        }
        if word & 0x300 == 0x100 { Seen::Dropped(DropReason::from_number(word as u8).unwrap()) } else { Seen::Passed }
    }

    /// Comes from the other node, by the overlay.
    fn is_remote(&self, end: &End) -> bool {
        let [a, b, c, _] = end.address.octets();
        [a, b, c] == [10, 244, 2 - self.node as u8] || end.address.to_string() == NODES[1 - self.node]
    }

    /// The rules that the datapath has recorded for the flow that it judged last.
    pub(crate) fn recorded(&self) -> Option<[u32; 2]> {
        let mut rules = None;
        for memory in &self.memories {
            let each = |_: &[u8], value: &[u8]| {
                rules = abi::flow::FlowValue::read_from_bytes(value).ok().map(|value| value.rules);
            };
            memory.for_each(each).unwrap();
        }
        rules
    }

    /// Every flow is forgotten.
    pub(crate) fn forget(&self) {
        for memory in &self.memories {
            let mut keys: Vec<Box<[u8]>> = Vec::new();
            memory.for_each(|key, _| keys.push(key.into())).unwrap();
            keys.iter().for_each(|key| memory.delete(key).unwrap());
        }
    }
}

/// Size of `struct __sk_buff`, and where two of its fields lie.
const SK_BUFF: usize = 192;
const IFINDEX: usize = 40;
const CB: usize = 48;

fn packet(flow: &Flow) -> Vec<u8> {
    let addr = |end: &End| Addr::from_octets(end.address.octets());
    let tuple =
        Tuple { src: addr(&flow.from), dst: addr(&flow.to), sport: 33_000_u16.to_be(), dport: flow.port.to_be() };
    let flags = match flow.proto {
        6 => 2,
        1 => 8,
        _ => 0,
    };
    let link = [GATEWAY_MAC, POD_MAC];
    Make { tuple, proto: flow.proto, flags, ttl: 64, link, unsummed: false, extensions: &[] }.bytes()
}

impl Target for Kernel {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put(table, (key, value)) => self.store.put(*table, key, value).unwrap(),
            Op::Delete(table, key) => self.store.delete(*table, key).unwrap(),
            Op::Barrier => {}
        }
    }

    fn passes(&mut self, flow: &Flow) -> bool {
        self.send(flow) == Seen::Passed
    }
}
