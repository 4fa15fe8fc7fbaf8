//! A network namespace with the devices of the scenarios' node, under the interface indices that the model has.
use crate::world::{A, B, HOST_SIDE, NET, NIC, OVERLAY, UNREADY};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// Namespaces of this thread's own, with a bpffs in one of them: everything is gone when the thread ends.
pub(crate) fn enter() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("namespaces need root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of our own");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let pins = std::env::temp_dir().join(format!("weft-prog-run-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&pins).unwrap();
    mount(Some("bpf"), &pins, Some("bpf"), MsFlags::empty(), none).expect("bpffs");
    std::fs::write("/proc/sys/net/ipv4/conf/all/forwarding", "1").unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    make();
    pins
}

fn make() {
    pair("weft_host", HOST_SIDE, "weft_net", NET);
    pair("eth0", NIC, "wire", NIC + 1);
    for (name, index) in [("pod-a", A), ("pod-b", B), ("pod-c", UNREADY)] {
        pair(name, index, &format!("{name}-in"), index + 10);
    }
    ip(&format!("link add weft_vxlan index {OVERLAY} type vxlan external dstport 8472"));
    ip("addr add 172.31.0.11/24 dev eth0");
    ip("route add default via 172.31.0.1");
    // The same by `six` of the scenarios.
    ip("addr add fd00::ac1f:b/120 dev eth0 nodad");
    ip("route add default via fd00::ac1f:1");
}

/// A machine on the NIC's segment.
pub(crate) fn neighbour(addr: abi::Addr, mac: [u8; 6]) {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    ip(&format!("neigh replace {addr} lladdr {mac} dev eth0 nud permanent"));
}

fn pair(name: &str, index: u32, peer: &str, peer_index: u32) {
    ip(&format!("link add {name} index {index} type veth peer name {peer} index {peer_index}"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {peer} up"));
}

/// `ip` in this thread's namespace.
fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("the ip command");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}
