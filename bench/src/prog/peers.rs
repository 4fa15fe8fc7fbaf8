//! What others cost on a machine of this kind: stated, not measured in this run.

/// Where the figures come from.
pub(crate) const SOURCE: &str = "Cilium, Calico and Katran: stated, not of this run; measured on 2026-11 on a machine of this kind in the same way \
     (their own programs and maps, a harness program that restores the headers, its floor subtracted, median of 5 restarts)";

/// A figure of somebody else.
pub(crate) struct Peer {
    /// Whose.
    pub(crate) whose: &'static str,
    /// Of which path.
    pub(crate) path: &'static str,
    /// A first packet's.
    pub(crate) first: bool,
    /// ns: hot, of 4,096, of 16,384, of 65,536, of 100,000 flows.
    pub(crate) figures: [Option<u32>; 5],
}

const fn flows(whose: &'static str, path: &'static str, f: [u32; 4]) -> Peer {
    Peer { whose, path, first: false, figures: [Some(f[0]), Some(f[1]), Some(f[2]), Some(f[3]), None] }
}

const fn hot(whose: &'static str, path: &'static str, ns: u32) -> Peer {
    Peer { whose, path, first: false, figures: [Some(ns), None, None, None, None] }
}

const CALICO: &str = "Calico eBPF (2026)";
const CILIUM: &str = "Cilium 1.19-dev";

/// All of them.
pub(crate) const PEERS: &[Peer] = &[
    flows(CALICO, "pod → local pod", [216, 229, 346, 490]),
    flows(CILIUM, "pod → local pod", [809, 1_056, 1_102, 1_568]),
    flows(CALICO, "pod → remote pod, without the device's work", [248, 256, 434, 519]),
    flows(CILIUM, "pod → remote pod, before the later hooks", [464, 488, 744, 863]),
    hot(CALICO, "pod → remote pod, with the later hooks", 296),
    hot(CILIUM, "pod → remote pod, with the later hooks", 580),
    hot(CALICO, "VXLAN receive → local pod, both hooks", 288),
    hot(CILIUM, "VXLAN receive → local pod, both hooks", 873),
    flows(CALICO, "pod → ClusterIP → remote backend", [436, 482, 711, 892]),
    flows(CILIUM, "pod → ClusterIP → remote backend, before the later hooks", [679, 703, 980, 1_167]),
    hot(CALICO, "pod ← ClusterIP ← remote backend (the way back)", 597),
    hot(CILIUM, "pod ← ClusterIP ← remote backend (the way back)", 871),
    hot(CALICO, "pod → ClusterIP → local backend", 380),
    hot(CILIUM, "pod → ClusterIP → local backend", 1_028),
    Peer {
        whose: "Katran XDP",
        path: "pod → ClusterIP → remote backend, as IPIP from outside",
        first: false,
        figures: [Some(114), None, None, Some(219), None],
    },
    Peer { whose: CILIUM, path: "denied by policy", first: true, figures: [Some(276), None, None, None, None] },
];

/// Instructions that the verifier goes through.
pub(crate) const VERIFIED: &[(&str, u32)] = &[
    ("Cilium 1.19-dev: pod → local pod", 38_800),
    ("Calico eBPF (2026): pod → local pod", 235_000),
    ("Katran XDP", 69_300),
];
