//! The paths that are measured, as the packets of a connection: where each comes in and what it carries.
use abi::{config::VNI_POD, event::Hook};

use super::world::{A, B, C, OVERLAY};

/// One packet of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) hook: Hook,
    pub(crate) ifindex: u32,
    pub(crate) src: [u8; 4],
    pub(crate) dst: [u8; 4],
    /// The server's port.
    pub(crate) port: u16,
    /// The server sends it.
    pub(crate) back: bool,
    /// TCP.
    pub(crate) flags: u8,
    /// Outer source, for what comes from the overlay.
    pub(crate) tunnel: Option<[u8; 4]>,
}

/// A path.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// Nobody may go it.
    pub(crate) denied: bool,
    /// Its first packet is measured.
    pub(crate) opens: bool,
    /// SYN.
    pub(crate) syn: Step,
    /// SYN and ACK.
    pub(crate) syn_ack: Step,
    /// ACK.
    pub(crate) ack: Step,
    /// Packets of the established flow that are measured.
    pub(crate) measured: &'static [(&'static str, Step)],
}

impl Way {
    /// A flow is two rows: it is translated.
    pub(crate) fn by_service(&self) -> bool {
        self.syn.port == SERVICE_PORT
    }
}

const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;

const POD_A: [u8; 4] = [10, 244, 1, 2];
const POD_B: [u8; 4] = [10, 244, 1, 3];
const POD_C: [u8; 4] = [10, 244, 1, 4];
/// A pod of node 2.
pub(crate) const REMOTE: [u8; 4] = [10, 244, 2, 2];
pub(crate) const NODE_2: [u8; 4] = [172, 31, 0, 12];
/// Cluster addresses.
pub(crate) const TO_REMOTE: [u8; 4] = [10, 96, 0, 10];
pub(crate) const TO_LOCAL: [u8; 4] = [10, 96, 0, 11];
/// The port that pods serve on, and the services'.
pub(crate) const PORT: u16 = 8080;
pub(crate) const SERVICE_PORT: u16 = 80;

/// A packet from the client, which has the port that varies.
const fn there(ifindex: u32, src: [u8; 4], dst: [u8; 4], port: u16, flags: u8) -> Step {
    Step { hook: Hook::FromPod, ifindex, src, dst, port, back: false, flags, tunnel: None }
}

/// A packet of the server, which is a pod of this node.
const fn back(ifindex: u32, src: [u8; 4], dst: [u8; 4], flags: u8) -> Step {
    Step { back: true, ..there(ifindex, src, dst, PORT, flags) }
}

/// A packet from node 2.
const fn overlay(src: [u8; 4], dst: [u8; 4], back: bool, flags: u8) -> Step {
    Step { hook: Hook::FromOverlay, ifindex: OVERLAY, src, dst, port: PORT, back, flags, tunnel: Some(NODE_2) }
}

/// VNI of what comes from the overlay.
pub(crate) const VNI: u32 = VNI_POD;

/// Every path.
pub(crate) const WAYS: &[Way] = &[
    Way {
        name: "pod → local pod",
        denied: false,
        opens: true,
        syn: there(A, POD_A, POD_B, PORT, SYN),
        syn_ack: back(B, POD_B, POD_A, SYN_ACK),
        ack: there(A, POD_A, POD_B, PORT, ACK),
        measured: &[("pod → local pod", there(A, POD_A, POD_B, PORT, ACK))],
    },
    Way {
        name: "pod → remote pod (VXLAN send)",
        denied: false,
        opens: true,
        syn: there(A, POD_A, REMOTE, PORT, SYN),
        syn_ack: overlay(REMOTE, POD_A, true, SYN_ACK),
        ack: there(A, POD_A, REMOTE, PORT, ACK),
        measured: &[("pod → remote pod (VXLAN send, by the device)", there(A, POD_A, REMOTE, PORT, ACK))],
    },
    Way {
        name: "VXLAN receive → local pod",
        denied: false,
        opens: true,
        syn: overlay(REMOTE, POD_B, false, SYN),
        syn_ack: back(B, POD_B, REMOTE, SYN_ACK),
        ack: overlay(REMOTE, POD_B, false, ACK),
        measured: &[("VXLAN receive → local pod", overlay(REMOTE, POD_B, false, ACK))],
    },
    Way {
        name: "pod → ClusterIP → remote backend",
        denied: false,
        opens: true,
        syn: there(A, POD_A, TO_REMOTE, SERVICE_PORT, SYN),
        syn_ack: overlay(REMOTE, POD_A, true, SYN_ACK),
        ack: there(A, POD_A, TO_REMOTE, SERVICE_PORT, ACK),
        measured: &[
            ("pod → ClusterIP → remote backend", there(A, POD_A, TO_REMOTE, SERVICE_PORT, ACK)),
            ("pod ← ClusterIP ← remote backend (the way back)", overlay(REMOTE, POD_A, true, ACK)),
        ],
    },
    Way {
        name: "pod → ClusterIP → local backend",
        denied: false,
        opens: true,
        syn: there(A, POD_A, TO_LOCAL, SERVICE_PORT, SYN),
        syn_ack: back(B, POD_B, POD_A, SYN_ACK),
        ack: there(A, POD_A, TO_LOCAL, SERVICE_PORT, ACK),
        measured: &[
            ("pod → ClusterIP → local backend", there(A, POD_A, TO_LOCAL, SERVICE_PORT, ACK)),
            ("pod ← ClusterIP ← local backend (the way back)", back(B, POD_B, POD_A, ACK)),
        ],
    },
    Way {
        name: "denied by policy",
        denied: true,
        opens: true,
        syn: there(A, POD_A, POD_C, PORT, SYN),
        syn_ack: back(C, POD_C, POD_A, SYN_ACK),
        ack: there(A, POD_A, POD_C, PORT, ACK),
        measured: &[],
    },
];
