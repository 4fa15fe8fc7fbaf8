//! The bench as a smoke run: every part runs and prints its rows. No figure is looked at.
use std::{path::Path, process::Command};

/// Words that every run must print.
const ROWS: &[(&str, &[&str])] = &[
    (
        "prog",
        &[
            "Weft: pod → local pod",
            "Weft: pod → remote pod (VXLAN send, by the device)",
            "Weft: VXLAN receive → local pod",
            "Weft: pod → ClusterIP → remote backend",
            "Weft: pod → ClusterIP → local backend",
            "Weft: denied by policy",
            "Calico eBPF (2026): pod → local pod",
            "conntrack",
            "Weft: from_pod",
        ],
    ),
    (
        "path",
        &[
            "veth pair, nothing in between (the limit)",
            "same node: Linux bridge",
            "same node: bare redirect_peer, no features",
            "same node: Weft, by ClusterIP",
            "two nodes: kernel routing + masquerade and forward rules (nftables)",
            "two nodes: kernel VXLAN (flannel style), no rules",
            "two nodes: Weft, VXLAN by the device, by ClusterIP",
        ],
    ),
    (
        "cni",
        &[
            "Weft: ADD",
            "ptp with host-local: DEL",
            "CNI calls at once",
            "Weft: 1 pods of this node, none of others",
            "Weft: HALFOPEN",
        ],
    ),
    (
        "system",
        &[
            "Weft: server",
            "Weft: agent",
            "Weft: node",
            "until /readyz is answered",
            "Service created → row there",
            "EndpointSlice created → row has backends",
        ],
    ),
];

#[test]
fn every_row_is_printed() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: the bench makes namespaces and loads BPF programs, which needs root");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the clone");
    let json = std::env::temp_dir().join(format!("weft-bench-quick-{}", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("--quick")
        .arg("--json")
        .arg(&json)
        .current_dir(root)
        .output()
        .expect("the bench starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for (part, rows) in ROWS {
        assert!(json.join(part).with_extension("json").exists(), "{part} is not kept");
        for row in *rows {
            assert!(text.contains(row), "no row {row:?} in\n{text}");
        }
    }
    std::fs::remove_dir_all(&json).expect("it was made");
}
