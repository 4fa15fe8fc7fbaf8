//! A node in memory: the datapath without a kernel, for tests and for `weft policy simulate`.
//!
//! [`Node`] holds the tables and what a kernel would know; [`Node::run`] takes a packet through the same stages as the
//! programs do, in a loop instead of by tail calls, and applies the edits to the bytes.
use crate::{
    Kernel, Outcome, Packet, Stage, State, Step, Verdict, hook,
    kernel::Tunnel,
    neighbour,
    parse::{Headers, TCP, parse},
    too_big::{self, Message},
};
use abi::{
    Addr, DropReason,
    addr::Prefix,
    config::{OVERLAY_SOURCE_MAC, Settings},
    event::Hook,
    flow::{FlowKey, FlowValue, Tuple},
    fragment::{Fragment, FragmentKey},
    peer::Class,
    pod::{Pod, PodId},
    policy::{PolicyKey, PolicyValue},
    route::{Node as NodeRow, NodeId, Route},
    service::{Backend, BackendId, Service, ServiceKey},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet},
    vec::Vec,
};

pub mod frame;
pub mod lpm;
mod tables;

pub use frame::Bytes;
pub use lpm::Lpm;

/// A node: every table of `abi`, and a model of its kernel. All fields may be changed between packets.
#[derive(Clone, Default)]
pub struct Node {
    /// The constants.
    pub settings: Settings,
    /// `CONFIG`.
    pub epoch: u64,
    /// `PODS`.
    pub pods: BTreeMap<Addr, PodId>,
    /// `POD`.
    pub pod: BTreeMap<PodId, Pod>,
    /// `ROUTES`.
    pub routes: Lpm<16, Route>,
    /// `NODES`.
    pub nodes: BTreeMap<NodeId, NodeRow>,
    /// `PEERS`.
    pub peers: BTreeMap<Addr, Class>,
    /// `CIDRS`.
    pub cidrs: Lpm<16, Class>,
    /// `POLICY`, by the bytes of the key after its prefix length.
    pub policy: Lpm<12, PolicyValue>,
    /// `SERVICES`.
    pub services: BTreeMap<ServiceKey, Service>,
    /// `SLOTS`.
    pub slots: BTreeMap<u32, BackendId>,
    /// `BACKENDS`.
    pub backends: BTreeMap<BackendId, Backend>,
    /// `FLOWS`.
    pub flows: RefCell<BTreeMap<FlowKey, FlowValue>>,
    /// `HALFOPEN`.
    pub half_open: RefCell<BTreeMap<FlowKey, FlowValue>>,
    /// `FRAGS`.
    pub fragments: RefCell<BTreeMap<FragmentKey, Fragment>>,
    /// `BUCKETS`.
    pub buckets: RefCell<BTreeMap<PodId, u64>>,
    /// `POD_FLOWS`.
    pub pod_flows: RefCell<BTreeMap<PodId, i64>>,
    /// `REPLIES`.
    pub replies: RefCell<BTreeMap<PodId, u64>>,
    /// Payload of each segment that packets are cut into at last; 0: they are whole.
    pub gso_size: u32,
    /// Rows that fit into `FLOWS`; none: any number.
    pub flow_room: Option<usize>,
    /// Jiffies.
    pub now: u64,
    /// What the next random numbers are: counted up.
    pub random: Cell<u32>,
    /// The kernel's routing table: prefix → interface index.
    pub fib: Lpm<16, u32>,
    /// Link addresses on the NIC's segment.
    pub neighbours: BTreeMap<Addr, [u8; 6]>,
    /// Tuples that a socket of the host takes.
    pub sockets: HashSet<(Tuple, u8)>,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where it goes, or why it is dropped.
    pub verdict: Result<Verdict, DropReason>,
    /// Its bytes then; of a dropped packet as they came.
    pub frame: Vec<u8>,
    /// The stages it went through after the hook program.
    pub stages: Vec<Stage>,
    /// The slow path's state at its end, for events and attribution; untouched on the established path.
    pub state: State,
}

impl Node {
    /// A row of `ROUTES`.
    pub fn route(&mut self, prefix: Prefix, route: Route) {
        self.routes.put(prefix.prefix_len, prefix.addr.bytes(), route);
    }

    /// A row of `CIDRS`.
    pub fn cidr(&mut self, prefix: Prefix, class: Class) {
        self.cidrs.put(prefix.prefix_len, prefix.addr.bytes(), class);
    }

    /// A row of `POLICY`.
    pub fn rule(&mut self, key: &PolicyKey, value: PolicyValue) {
        self.policy.put(key.prefix_len, tables::policy_bytes(key), value);
    }

    /// One packet through one hook.
    pub fn run(&self, at: Hook, ifindex: u32, bytes: &[u8], tunnel: Option<Tunnel>) -> Answer {
        let kernel = Lent { node: self, bytes, tunnel };
        let mut answer = Answer {
            verdict: Err(DropReason::Malformed),
            frame: bytes.to_vec(),
            stages: Vec::new(),
            state: State::default(),
        };
        let mut packet = Packet::default();
        let frame = Bytes { bytes, ifindex };
        let mut outcome = Outcome::default();
        let mut step = match parse(&frame, &mut packet) {
            Ok(Headers::Plain) => hook::enter(at, self, &kernel, &packet, &mut outcome),
            Ok(Headers::Far) => {
                answer.state.start(at, &packet, self, &kernel);
                if at == Hook::FromPod
                    && let Some(advertisement) = neighbour::answer(&frame, self.settings.gateway_mac)
                {
                    frame::advertise(&mut answer.frame, &advertisement, self.settings.gateway_mac);
                    answer.verdict = Ok(Verdict::Reply);
                    return answer;
                }
                answer.stages.push(Stage::Read);
                let step = hook::read(self, &frame, &mut answer.state);
                packet = answer.state.packet;
                if step.is_err() && hook::lenient(at) { Ok(Step::Done) } else { step }
            }
            Err(_) if hook::lenient(at) => Ok(Step::Done),
            Err(reason) => Err(reason),
        };
        if answer.stages.is_empty() && !matches!(step, Ok(Step::Done) | Err(_)) {
            answer.state.start(at, &packet, self, &kernel);
        }
        if step == Ok(Step::Unknown) {
            answer.state.missed = 1;
            step = Ok(Step::Slow(Stage::Flow));
        }
        while let Ok(Step::Slow(stage)) = step {
            assert!(answer.stages.len() < 33, "the kernel ends a chain of 33 tail calls");
            answer.stages.push(stage);
            step = hook::run_stage(stage, self, &kernel, &mut answer.state, &mut outcome);
        }
        answer.verdict = match step {
            Err(DropReason::TooBig) => {
                if answer.stages.is_empty() {
                    answer.state.start(at, &packet, self, &kernel);
                    answer.state.mtu = outcome.ifindex;
                    answer.stages.push(Stage::TooBig);
                }
                let mut message = Message::default();
                if too_big::answer(self, &frame, &answer.state, &mut message) {
                    let out = at == Hook::ToNetdev;
                    frame::too_big(&mut answer.frame, &message, out.then_some(self.settings.gateway_mac));
                    Ok(Verdict::Reply)
                } else {
                    Err(DropReason::TooBig)
                }
            }
            Ok(Step::Done) => {
                self.apply(&mut answer.frame, &packet, &outcome);
                Ok(outcome.verdict())
            }
            Ok(Step::Slow(_) | Step::Unknown) => unreachable!("the loop ends on anything else"),
            Err(reason) => Err(reason),
        };
        answer
    }

    fn apply(&self, bytes: &mut [u8], packet: &Packet, outcome: &Outcome) {
        let gateway = self.settings.gateway_mac;
        match outcome.verdict() {
            Verdict::Pod { mac, .. } => frame::relink(bytes, mac, gateway),
            Verdict::Host => frame::relink(bytes, gateway, gateway),
            Verdict::Encap { .. } => frame::relink(bytes, gateway, OVERLAY_SOURCE_MAC),
            Verdict::Pass | Verdict::Reply | Verdict::Nic { .. } | Verdict::Native { .. } => {}
        }
        frame::edit(bytes, packet, &outcome.edits);
    }
}

/// The kernel's services for one packet.
struct Lent<'a> {
    node: &'a Node,
    bytes: &'a [u8],
    tunnel: Option<Tunnel>,
}

impl Kernel for Lent<'_> {
    fn now(&self) -> u64 {
        self.node.now
    }

    fn random(&self) -> u32 {
        let number = self.node.random.get();
        self.node.random.set(number.wrapping_add(1));
        number
    }

    fn fib(&self, _src: Addr, dst: Addr) -> Option<u32> {
        self.node.fib.get(&dst.bytes()).copied()
    }

    fn neighbour(&self, addr: Addr) -> Option<[u8; 6]> {
        self.node.neighbours.get(&addr).copied()
    }

    fn sender(&self) -> [u8; 6] {
        self.bytes.get(6..12).and_then(|mac| mac.try_into().ok()).unwrap_or_default()
    }

    fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel
    }

    fn segment(&self, packet: &Packet) -> u32 {
        let data = self.bytes.get(packet.l4 as usize + 12).map_or(0, |byte| u32::from(byte >> 4) * 4);
        let header = packet.l4 + if packet.proto == TCP { data } else { 8 };
        if self.node.gso_size == 0 { packet.len } else { header + self.node.gso_size }
    }

    fn dont_fragment(&self) -> bool {
        self.bytes.get(20).is_some_and(|byte| byte & 0x40 != 0)
    }

    fn socket_takes(&self, tuple: &Tuple, proto: u8) -> bool {
        self.node.sockets.contains(&(*tuple, proto))
    }
}
