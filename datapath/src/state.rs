//! What one stage leaves for the next: one per-CPU slot, so that no stage needs much of the 512-byte stack.
use crate::{Kernel, Packet, Tables};
use abi::{
    Addr,
    event::Hook,
    flow::{FlowKey, FlowValue, Leg, NEXT_NODE, SIDE_TURN, Tuple},
    pod::PodId,
    policy::RuleId,
    service::{BackendId, ServiceId},
};

/// The packet's state on the slow path. Integers only, and all zeros is a valid value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// The packet as it came.
    pub packet: Packet,
    /// A [`Hook`]'s number.
    pub hook: u32,
    /// The policy epoch at the packet's start.
    pub epoch: u64,
    /// Jiffies at the packet's start.
    pub now: u64,
    /// The device as flows name it: [`crate::hook::device`].
    pub device: u32,
    /// 1: `FLOWS` has no row for the packet's own addresses and ports; 2: neither has `HALFOPEN`, nor `FLOWS` when asked again.
    pub missed: u32,
    /// Which of the flows with the packet's addresses and ports: [`abi::flow::SIDE_TURN`].
    pub turn: u32,
    /// 1: an existing flow is judged anew and keeps its translation.
    pub renew: u32,
    /// Backends tried in vain so far, because their reply key was taken.
    pub attempt: u32,
    /// Source ports tried in vain so far.
    pub tries: u32,
    /// 1: the source port must come from the masquerade range.
    pub masquerade: u32,
    /// At `from_overlay`: VNI of the outer header, 0 if there was none.
    pub vni: u32,
    /// At `from_overlay`: outer source.
    pub tunnel: Addr,
    /// Where the flow goes: the packet's tuple after translation.
    pub flow: Tuple,
    /// What policy sees: destination translated, source not; in the flow's original direction.
    pub judged: Tuple,
    /// The sending pod of this node, [`abi::pod::HOST`], or none.
    pub source: PodId,
    /// The receiving pod of this node, [`abi::pod::HOST`], or none.
    pub dest: PodId,
    /// The pod that sent this very packet, for [`crate::limit`]; none at other hooks than `from_pod`.
    pub sender: PodId,
    /// The service that was asked, or 0.
    pub service: ServiceId,
    /// The backend that was chosen, or 0.
    pub backend: BackendId,
    /// Its generation.
    pub backend_generation: u32,
    /// The rules that allowed it; after a denial the rule or policy set that denied.
    pub rules: [RuleId; 2],
    /// The way there (0) and back (1).
    pub legs: [Leg; 2],
    /// How the packet goes, for [`crate::rewrite::finish`]; the default passes it on.
    pub way: Leg,
    /// What it becomes, if `translate`.
    pub to: Tuple,
    /// 1: addresses and ports change to `to`.
    pub translate: u32,
    /// 1: a flow was recorded.
    pub recorded: u32,
    /// An [`abi::event::Kept`], or 0: the packet's flow has proven itself and stays half-open all the same.
    pub kept: u32,
    /// For [`crate::too_big`]: bytes from the network header on that would fit.
    pub mtu: u32,
    /// 1: the packet is larger than its way's MTU, and the overlay's device is to split it.
    pub oversize: u32,
    /// Room for a row on its way into a table.
    pub key: FlowKey,
    /// Room for a row on its way into a table.
    pub value: FlowValue,
    /// Room for the other half.
    pub twin: FlowValue,
}

impl State {
    /// For a packet that leaves the established path.
    #[inline(always)]
    pub fn start(&mut self, hook: Hook, packet: &Packet, tables: &impl Tables, kernel: &impl Kernel) {
        self.packet = *packet;
        self.hook = hook as u32;
        self.missed = 0;
        self.turn = 0;
        self.epoch = tables.epoch();
        self.now = kernel.now();
        self.device = crate::hook::device(tables, hook, packet.ifindex);
        self.renew = 0;
        self.attempt = 0;
        self.tries = 0;
        self.recorded = 0;
        self.kept = 0;
        self.vni = 0;
        if matches!(hook, Hook::FromOverlay)
            && let Some(tunnel) = kernel.tunnel()
        {
            self.tunnel = tunnel.source;
            self.vni = tunnel.vni;
        }
        self.way = Leg::default();
        self.translate = 0;
        self.masquerade = 0;
        self.mtu = 0;
        self.oversize = 0;
        self.source = 0;
        self.dest = 0;
        self.sender = 0;
        self.service = 0;
        self.backend = 0;
        self.backend_generation = 0;
        self.rules = [0; 2];
    }

    /// Whether the packet is at this hook.
    #[inline(always)]
    pub fn at(&self, hook: Hook) -> bool {
        self.hook == hook as u32
    }

    /// The side of the key that the packet's flow is looked for by.
    #[inline(always)]
    pub fn side(&self) -> u8 {
        crate::hook::side(self.hook) + self.turn as u8 * SIDE_TURN
    }

    /// Sent by another node, which has done already what comes before: through the overlay, or without an outer header.
    #[inline(always)]
    pub fn from_node(&self) -> bool {
        self.at(Hook::FromOverlay) || (self.at(Hook::FromNetdev) && self.legs[1].next == NEXT_NODE)
    }

    /// Hooks of the NIC let pass what is not ours.
    #[inline(always)]
    pub fn lenient(&self) -> bool {
        self.at(Hook::FromNetdev) || self.at(Hook::ToNetdev)
    }
}
