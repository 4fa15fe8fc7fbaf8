//! `CONFIG` and the load-time settings of the programs.
use crate::{Addr, route::NodeId, timeout::Timeouts};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The one row of `CONFIG`: what changes while programs run.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// The policy epoch, read once per packet before any look-up; its low bit selects the set in `POD`. Raised by one
    /// aligned store, so that all policy changes of a round take effect at once.
    pub epoch: u64,
    /// Zero.
    pub reserved: [u64; 7],
}

/// Constants of one node, written into the object before it is loaded (a read-only global named `SETTINGS`), so that
/// the verifier prunes what a node does not use.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Settings {
    /// This node's IPv4 address: source of masqueraded flows and of the overlay.
    pub host4: Addr,
    /// This node's IPv6 address.
    pub host6: Addr,
    /// Source of flows that come back to where they started (a pod or the host to itself through a service).
    pub hairpin4: Addr,
    /// The same for IPv6.
    pub hairpin6: Addr,
    /// This node.
    pub node: NodeId,
    /// Interface index of `weft_host`: what is handed to the host's stack enters there.
    pub host_ifindex: u32,
    /// Interface index of the flow-based VXLAN device.
    pub overlay_ifindex: u32,
    /// Interface index of the NIC.
    pub nic_ifindex: u32,
    /// UDP port of the overlay, network byte order.
    pub overlay_port: u16,
    /// First node port, host byte order.
    pub node_port_first: u16,
    /// Last node port, host byte order.
    pub node_port_last: u16,
    /// First port of masqueraded flows, host byte order.
    pub masquerade_first: u16,
    /// Last port of masqueraded flows, host byte order.
    pub masquerade_last: u16,
    /// MAC of every device on the host's side: `weft_host`, `weft_net`, `weft_vxlan` and the pods' host ends.
    pub gateway_mac: [u8; 6],
    /// [`FEATURE_EVENTS`] and later ones.
    pub features: u32,
    /// `CONFIG_HZ` of the kernel: jiffies in a second.
    pub jiffies_per_second: u32,
    /// How long flows live after their last packet.
    pub timeouts: Timeouts,
    /// Rows of `FLOWS` that the flows of one pod may have; 0: any number.
    pub flows_per_pod: u32,
}

/// Emit events to the ring buffer (counters are always kept).
pub const FEATURE_EVENTS: u32 = 1;

/// Emit an event for each new flow too.
pub const FEATURE_FLOW_EVENTS: u32 = 2;
/// Some nodes are reached, or reach this one, without an outer header. Off, it costs nothing.
pub const FEATURE_NATIVE: u32 = 256;

/// Leave the verdict in the packet's control block, where BPF_PROG_TEST_RUN shows it (tests only).
pub const FEATURE_TRACE: u32 = 4;

/// Log what the slow path decides, through aya-log (map `AYA_LOGS`, level by the global `AYA_LOG_LEVEL`). Off, it costs
/// nothing: the verifier removes it.
pub const FEATURE_LOG: u32 = 8;

/// Write the overlay's outer header in the program and take it off in the NIC's (back end `program`); what that cannot do, and
/// everything without it (back end `device`), goes by the VXLAN device.
pub const FEATURE_ENCAPSULATE: u32 = 16;
/// The flow tables are two sets, [`crate::map::OTHER_FLOWS`] being the second: rows are written to both, and a flow that
/// only the second knows is taken from there. Off, it costs nothing: the verifier removes it.
pub const FEATURE_BOTH_FLOWS: u32 = 1 << 16;
/// The same with a second set whose rows are of the former layout, [`crate::map::FORMER_FLOWS`].
pub const FEATURE_FORMER_FLOWS: u32 = 1 << 17;

/// A bit of `SWITCHES`: tell of each new flow, as [`FEATURE_FLOW_EVENTS`] does for good.
pub const TELL_FLOWS: u64 = 1;

/// The gateway MAC of every Weft node: locally administered, unicast.
pub const GATEWAY_MAC: [u8; 6] = [0xee, 0xee, 0xee, 0xee, 0xee, 0xee];
/// Inner source MAC of overlay packets. Not the gateway's: a VXLAN device takes a packet with its own address as source for
/// a loop and drops it.
pub const OVERLAY_SOURCE_MAC: [u8; 6] = [0xee, 0xee, 0xee, 0xee, 0xee, 0xed];
/// VNI of pod traffic.
pub const VNI_POD: u32 = 1;
/// VNI of traffic forwarded to a service's backend with the client's address kept.
pub const VNI_SERVICE: u32 = 2;
/// Mark bit of packets that our programs have already judged; cleared on the way into and out of a pod.
pub const MARK_SEEN: u32 = 0x0000_0400;

const _: () = assert!(size_of::<Config>() == 64 && size_of::<Settings>() == 144);
