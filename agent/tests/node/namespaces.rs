//! Network namespaces for tests: each belongs to a thread and goes away with it, also when the test fails.
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// A network namespace that lives as long as this.
pub(crate) struct Namespace {
    /// Where it can be opened.
    pub(crate) path: PathBuf,
    _alive: mpsc::Sender<()>,
}

impl Namespace {
    /// A new, empty one.
    pub(crate) fn new() -> Namespace {
        let (alive, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            let id = nix::unistd::gettid();
            tell.send(PathBuf::from(format!("/proc/{}/task/{id}/ns/net", std::process::id()))).expect("listening");
            let _ = wait.recv();
        });
        let path = told.recv().expect("the thread lives");
        let namespace = Namespace { path, _alive: alive };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Runs a command line inside; it must succeed.
    pub(crate) fn run(&self, line: &str) {
        let line = line.to_owned();
        self.within(move || sh(&line));
    }

    /// Runs a closure inside, on a thread of its own.
    pub(crate) fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().expect("no panic inside")
    }

    /// Starts a closure inside, on a thread of its own.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        let path = self.path.clone();
        thread::spawn(move || {
            let file = std::fs::File::open(&path).expect("a namespace");
            setns(file, CloneFlags::CLONE_NEWNET).expect("entered");
            work()
        })
    }
}

/// Runs `work` as a node: on a thread with network and mounts of its own, a BPF file system at `bpf`, and a NIC.
pub(crate) fn node<T: Send + 'static>(bpf: &Path, work: impl FnOnce(Namespace) -> T + Send + 'static) -> T {
    let bpf = bpf.to_path_buf();
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root, and namespaces");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        std::fs::create_dir_all(&bpf).expect("a directory");
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), none).expect("a BPF file system");
        let outside = Namespace::new();
        sh("ip link set lo up");
        for setting in ["ip_forward=1", "conf/all/rp_filter=0", "conf/default/rp_filter=0"] {
            let (path, value) = setting.split_once('=').expect("a setting");
            std::fs::write(format!("/proc/sys/net/ipv4/{path}"), value).expect("a setting of this namespace");
        }
        sh("ip link add nic0 type veth peer name wire0");
        let outside_path = outside.path.display().to_string();
        let thread = outside_path.split('/').nth(4).expect("a thread").to_owned();
        sh(&format!("ip link set wire0 netns {thread}"));
        sh("ip addr add 172.31.0.11/24 dev nic0");
        sh("ip link set nic0 up");
        sh("ip route add default via 172.31.0.2");
        outside.run("ip addr add 172.31.0.2/24 dev wire0");
        outside.run("ip link set wire0 up");
        work(outside)
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a command line here; it must succeed.
#[track_caller]
pub(crate) fn sh(line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect(words[0]);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
