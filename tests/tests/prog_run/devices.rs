//! A network namespace with the devices of the scenarios' node, under the interface indices that the model has.
use crate::world::{A, B, HOST_SIDE, NET, NIC, OVERLAY, UNREADY};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
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
    let mut lines = vec![
        pair("weft_host", HOST_SIDE, "weft_net", NET),
        pair("eth0", NIC, "wire", NIC + 1),
        format!("link add weft_vxlan index {OVERLAY} type vxlan external dstport 8472"),
        "addr add 172.31.0.11/24 dev eth0".to_owned(),
        "route add default via 172.31.0.1".to_owned(),
        // The same by `six` of the scenarios.
        "addr add fd00::ac1f:b/120 dev eth0 nodad".to_owned(),
        "route add default via fd00::ac1f:1".to_owned(),
    ];
    lines.extend(
        [("pod-a", A), ("pod-b", B), ("pod-c", UNREADY)]
            .map(|(name, index)| pair(name, index, &format!("{name}-in"), index + 10)),
    );
    ip(&lines.join("\n"));
}

/// A machine on the NIC's segment.
pub(crate) fn neighbour(addr: abi::Addr, mac: [u8; 6]) {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    ip(&format!("neigh replace {addr} lladdr {mac} dev eth0 nud permanent"));
}

fn pair(name: &str, index: u32, peer: &str, peer_index: u32) -> String {
    format!(
        "link add {name} index {index} type veth peer name {peer} index {peer_index}\nlink set {name} up\nlink set {peer} up"
    )
}

/// `ip` in this thread's namespace, a command a line.
fn ip(lines: &str) {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ip.spawn().expect("the ip command");
    child.stdin.take().expect("it is a pipe").write_all(lines.as_bytes()).expect("ip reads");
    let done = child.wait_with_output().expect("the ip command");
    assert!(done.status.success(), "ip: {}\n{lines}", String::from_utf8_lossy(&done.stderr));
}
