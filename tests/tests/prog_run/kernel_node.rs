//! A node whose datapath is the real one: the programs loaded into a network namespace of the test's own, run by
//! BPF_PROG_TEST_RUN.
use crate::{
    bench::{Bench, Seen},
    devices, rows,
};
use abi::{
    Addr, DropReason,
    config::{Settings, VNI_POD},
    event::Hook,
    flow::{FlowKey, NEXT_HOST, NEXT_NIC, NEXT_NODE, NEXT_POD},
    map,
};
use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::ProgramArray,
    programs::{Program, SchedClassifier},
};
use datapath::{kernel::Tunnel, parse::TCP, sim::Node};
use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::Mutex,
};
use zerocopy::IntoBytes;

/// The loaded programs and their maps, and the tables as they should be.
pub(crate) struct KernelNode {
    /// None only while it is dropped.
    programs: Option<Programs>,
    node: Node,
    sockets: Vec<Socket>,
}

/// What the kernel holds of a node; bound to no namespace.
struct Programs {
    ebpf: Ebpf,
    tunnel: Ebpf,
    _stages: ProgramArray<aya::maps::MapData>,
    _target: ProgramArray<aya::maps::MapData>,
}

/// Programs of scenarios that have ended, by their settings: for the next one, since the verifier takes its time.
static IDLE: Mutex<Vec<(Settings, Programs)>> = Mutex::new(Vec::new());
/// So many: each holds some fifty descriptors.
const KEPT: usize = 6;

/// Kept open.
enum Socket {
    Tcp { _listener: TcpListener },
    Udp { _socket: UdpSocket },
}

/// Where the object is.
fn object() -> PathBuf {
    let path = std::env::var_os("WEFT_BPF_OBJECT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/weft.bpf.o"), PathBuf::from);
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    path
}

/// The program that gives a packet an outer header; beside the object, where cargo leaves it.
fn tunnel_object() -> PathBuf {
    let path = object().with_file_name("bpfel-unknown-none").join("release/weft-bpf-tunnel");
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    path
}

fn classifier<'a>(ebpf: &'a Ebpf, name: &str) -> &'a SchedClassifier {
    ebpf.program(name).unwrap().try_into().unwrap()
}

fn load_all(ebpf: &mut Ebpf) {
    for (name, program) in ebpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into().unwrap();
        if let Err(error) = agent::load::verified(|| program.load()) {
            let text = format!("{error}: {:?}", std::error::Error::source(&error));
            // What the kernel answered, and how the verifier's log ends.
            let head: String = text.chars().take(200).collect();
            let tail = text.len().saturating_sub(4000);
            panic!("{name}: {head}…{}", text.get(tail..).unwrap_or_default());
        }
    }
}

impl Programs {
    fn load(settings: &Settings, pins: &Path) -> Programs {
        let mut loader = EbpfLoader::new();
        loader.default_map_pin_directory(pins).override_global(map::SETTINGS, settings.as_bytes(), true);
        for spec in [map::PEERS, map::CIDRS, map::POLICY, map::SERVICES, map::FLOWS, map::HALFOPEN] {
            loader.map_max_entries(spec.name, 1024);
        }
        for spec in rows::ARRAYS {
            loader.map_max_entries(spec.name, rows::ROWS);
        }
        loader.map_max_entries(map::EVENTS.name, 4096);
        let mut ebpf = loader.load_file(object()).expect("the object loads");
        load_all(&mut ebpf);
        let mut stages = ProgramArray::try_from(ebpf.take_map(map::PROGS.name).unwrap()).unwrap();
        for (index, name) in map::STAGES.iter().enumerate() {
            stages.set(index as u32, classifier(&ebpf, name).fd().unwrap(), 0).unwrap();
        }
        let mut tunnel = Ebpf::load_file(tunnel_object()).expect("the tunnel program loads");
        load_all(&mut tunnel);
        let mut target = ProgramArray::try_from(tunnel.take_map("TARGET").unwrap()).unwrap();
        target.set(0, classifier(&ebpf, "from_overlay").fd().unwrap(), 0).unwrap();
        Programs { ebpf, tunnel, _stages: stages, _target: target }
    }

    /// Idle ones, emptied.
    fn idle(settings: &Settings) -> Option<Programs> {
        let mut idle = IDLE.lock().unwrap();
        let index = idle.iter().position(|(theirs, _)| theirs == settings)?;
        let (_, mut programs) = idle.swap_remove(index);
        drop(idle);
        rows::clear(&mut programs.ebpf);
        Some(programs)
    }
}

impl Drop for KernelNode {
    fn drop(&mut self) {
        if let (Some(programs), false) = (self.programs.take(), std::thread::panicking()) {
            let mut idle = IDLE.lock().unwrap();
            if idle.len() == KEPT {
                idle.remove(0);
            }
            idle.push((self.node.settings, programs));
        }
    }
}

impl KernelNode {
    /// Loads everything, in namespaces of this thread's own.
    pub(crate) fn load(settings: Settings) -> KernelNode {
        KernelNode::of(settings, |pins| Programs::load(&settings, pins))
    }

    /// The same with programs that another scenario has left, if there are any.
    fn any(settings: Settings) -> KernelNode {
        KernelNode::of(settings, |pins| Programs::idle(&settings).unwrap_or_else(|| Programs::load(&settings, pins)))
    }

    fn of(settings: Settings, programs: impl FnOnce(&Path) -> Programs) -> KernelNode {
        let pins = devices::enter();
        let node = Node { settings, ..Node::default() };
        KernelNode { programs: Some(programs(&pins)), node, sockets: Vec::new() }
    }

    fn programs(&self) -> &Programs {
        self.programs.as_ref().expect("it is not being dropped")
    }

    fn maps(&mut self) -> &mut Ebpf {
        &mut self.programs.as_mut().expect("it is not being dropped").ebpf
    }

    /// Name, instructions that the verifier went through, and translated bytes of each program.
    pub(crate) fn sizes(&self) -> Vec<(String, u32, u32)> {
        let size = |(name, program): (&str, &Program)| {
            let info = program.info().unwrap();
            let instructions = info.verified_instruction_count().unwrap_or(0);
            (name.to_owned(), instructions, info.size_translated().unwrap_or(0))
        };
        let mut sizes: Vec<_> = self.programs().ebpf.programs().map(size).collect();
        sizes.sort();
        sizes
    }
}

impl Bench for KernelNode {
    fn start(node: Node) -> KernelNode {
        let mut started = KernelNode::any(node.settings);
        started.change(|empty| *empty = node);
        started
    }

    fn change(&mut self, change: impl FnOnce(&mut Node)) {
        let settings = self.node.settings;
        change(&mut self.node);
        if self.node.settings != settings {
            let node = std::mem::replace(&mut self.node, Node { settings, ..Node::default() });
            *self = KernelNode::any(node.settings);
            self.node = node;
        }
        let node = std::mem::take(&mut self.node);
        rows::write(self.maps(), &node);
        self.node = node;
        self.node.neighbours.iter().for_each(|(addr, mac)| devices::neighbour(*addr, *mac));
        self.sockets = self.node.sockets.iter().map(open).collect();
    }

    fn send(&mut self, at: Hook, ifindex: u32, bytes: &[u8], tunnel: Option<Tunnel>) -> (Seen, Vec<u8>) {
        let mut context = [0; SK_BUFF];
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
        context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&self.node.gso_size.to_ne_bytes());
        let program = if let Some(tunnel) = tunnel {
            context[CB..CB + 16].copy_from_slice(&tunnel.source.bytes());
            context[CB + 16..CB + 20].copy_from_slice(&tunnel.vni.to_ne_bytes());
            classifier(&self.programs().tunnel, "tunnel")
        } else {
            classifier(&self.programs().ebpf, at.name())
        };
        let (mut out, mut after) = ([0; 4096], [0; SK_BUFF]);
        let mut options = TestRunOptions::new();
        options.data_in = Some(bytes);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        options.ctx_out = Some(&mut after);
        let result = program.test_run(options).expect("BPF_PROG_TEST_RUN");
        let word = |index: usize| u32::from_ne_bytes(after[CB + index * 4..CB + index * 4 + 4].try_into().unwrap());
        let outer = Addr([word(1), word(2), word(3), word(4)]);
        let seen = match (word(0) & 0x300, word(0) as u8) {
            (0x300, _) => Seen::Reply,
            (0x100, reason) => Seen::Drop(DropReason::from_number(reason).unwrap()),
            (_, NEXT_POD) => Seen::Pod(word(1)),
            (_, NEXT_HOST) => Seen::Host,
            (_, NEXT_NODE) => Seen::Encap(outer, word(0) >> 16),
            (_, NEXT_NIC) if word(0) >> 16 == VNI_POD => Seen::Native(outer),
            (_, NEXT_NIC) => Seen::Nic(word(1)),
            _ => Seen::Pass,
        };
        let action = match seen {
            Seen::Pass => UNSPECIFIED,
            Seen::Drop(_) => 2,
            Seen::Pod(to) if at == Hook::ToPod && to == ifindex => UNSPECIFIED,
            _ => 7,
        };
        assert_eq!(result.return_value, action, "{seen:?}");
        (seen, out[..result.data_size_out as usize].to_vec())
    }

    fn evict(&mut self, key: &FlowKey) {
        rows::remove(self.maps(), map::HALFOPEN.name, key);
    }

    fn wait(&mut self) {
        let jiffies = u64::from(self.node.settings.jiffies_per_second);
        rows::age(self.maps(), jiffies);
    }
}

/// `TC_ACT_UNSPEC`: programs of others behind ours see the packet too.
const UNSPECIFIED: u32 = u32::MAX;
/// Size of `struct __sk_buff`, and where some of its fields lie.
const SK_BUFF: usize = 192;
const IFINDEX: usize = 40;
const CB: usize = 48;
const GSO_SIZE: usize = 176;

/// A socket of the host that takes such packets.
fn open((tuple, proto): &(abi::flow::Tuple, u8)) -> Socket {
    let at = (std::net::IpAddr::from(tuple.dst), u16::from_be(tuple.dport));
    if *proto == TCP {
        Socket::Tcp { _listener: TcpListener::bind(at).unwrap() }
    } else {
        Socket::Udp { _socket: UdpSocket::bind(at).unwrap() }
    }
}
