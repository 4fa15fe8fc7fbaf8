//! A local cluster of plain programs: namespaces, fabric, descriptors, restarts, and that nothing is left behind.
//!
//! Needs root; without it every test says so and is counted as skipped by `cargo xtask test`.
#![expect(clippy::unwrap_used, reason = "a test's failure is its panic")]

use std::{
    fs,
    io::Read as _,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::RwLock,
    time::{Duration, Instant},
};

use local_cluster::{Cluster, Family, IpFamily, Status, cgroup, family::Station, host::HostState, paths};

/// The test that compares the host's state has the machine to itself; the others run side by side.
static MACHINE: RwLock<()> = RwLock::new(());

/// A cluster that is removed when the test ends, however it ends.
struct Guard {
    name: &'static str,
    api: u16,
    published: u16,
}

impl Guard {
    fn start(name: &'static str, nodes: u8) -> Guard {
        Guard::start_with(name, nodes, IpFamily::Ipv4)
    }

    fn start_with(name: &'static str, nodes: u8, families: IpFamily) -> Guard {
        stub(&["stop", name]).unwrap();
        let guard = Guard { name, api: 0, published: 0 };
        let ports = stub(&["start", name, &nodes.to_string(), &families.to_string()]).unwrap();
        let (api, published) = ports.trim().split_once(' ').unwrap();
        let (api, published) = (api.parse().unwrap(), published.parse().unwrap());
        std::mem::forget(guard);
        Guard { name, api, published }
    }

    fn cluster(&self) -> Cluster {
        Cluster::running(self.name).unwrap()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["log/supervisor.log", "log/server.log", "nodes/node-1/log/init.log"] {
                let path = paths::Paths::new(self.name).files.join(log);
                eprintln!("== {log}\n{}", fs::read_to_string(path).unwrap_or_default());
            }
        }
        _ = stub(&["stop", self.name]);
    }
}

fn stub(args: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_local-cluster-stub")).args(args).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn may_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root to make namespaces");
    }
    root
}

#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn word_from(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    let mut word = String::new();
    stream.read_to_string(&mut word).ok()?;
    (!word.is_empty()).then_some(word)
}

#[track_caller]
fn check_word(address: impl Into<SocketAddr>, expected: &str) {
    let address = address.into();
    wait_for(&format!("{expected:?} from {address}"), || word_from(address).filter(|word| word == expected));
}

fn local(port: u16) -> SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, port).into()
}

/// Of an IPv4 cluster.
fn node_address(number: u8) -> IpAddr {
    Family::V4.address(Station::Node(number))
}

fn leftovers(name: &str) -> Vec<String> {
    let paths = paths::Paths::new(name);
    let mut left = Vec::new();
    for path in [&paths.files, &paths.runtime] {
        left.extend(path.exists().then(|| path.display().to_string()));
    }
    left.extend(cgroup::exists(&paths::cgroup(name)).unwrap().then(|| "cgroups".to_owned()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        left.extend((line.contains("--name") && line.contains(&format!(" {name} "))).then_some(line));
    }
    left
}

/// Links, addresses, routes, rules and sysctls; of listeners only those of this crate's programs: other programs of a
/// shared machine come and go.
fn our_changes(before: &HostState) -> Vec<String> {
    let changes = before.changes(&HostState::read().unwrap());
    let ours = |line: &String| !line.contains("listener") || line.contains("of exe");
    changes.into_iter().filter(ours).collect()
}

#[test]
fn nodes_reach_each_other_and_the_host_is_untouched() {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = HostState::read().unwrap();
    let guard = Guard::start("t-reach", 3);
    check_word(local(guard.api), "server");
    check_word(local(guard.published), "node-1");
    let cluster = guard.cluster();
    for from in ["node-1", "node-2", "node-3"] {
        cluster
            .node_netns(from)
            .unwrap()
            .run(|| {
                check_word((node_address(1), 6443), "server inside");
                check_word((node_address(2), 30080), "node-2");
                check_word((node_address(3), 30080), "node-3");
            })
            .unwrap();
    }
    cluster.outside().unwrap().run(|| check_word((node_address(2), 30080), "node-2")).unwrap();
    let during = our_changes(&before);
    let listener = |line: &String| {
        [guard.api, guard.published].iter().any(|port| line.contains(&format!("+ listener tcp 127.0.0.1 port {port} ")))
    };
    assert!(during.iter().all(listener), "{during:#?}");
    drop(guard);
    assert_eq!(leftovers("t-reach"), Vec::<String>::new());
    assert_eq!(our_changes(&before), Vec::<String>::new());
}

/// Every node, the server and every published port in each family that the cluster has, also after a power cut; no address
/// of another family.
#[track_caller]
fn check_families(name: &'static str, families: IpFamily) {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let guard = Guard::start_with(name, 2, families);
    check_word(local(guard.api), "server");
    check_word(local(guard.published), "node-1");
    let cluster = guard.cluster();
    assert_eq!(cluster.spec.ip_family, families);
    let reach = || {
        for family in families.families() {
            check_word((family.address(Station::Node(1)), 6443), "server inside");
            check_word((family.address(Station::Node(1)), 30080), "node-1");
            check_word((family.address(Station::Node(2)), 30080), "node-2");
        }
    };
    for place in [cluster.node_netns("node-1"), cluster.node_netns("node-2"), cluster.outside()] {
        place.unwrap().run(reach).unwrap();
    }
    cluster.node_netns("node-2").unwrap().run(|| check_node(families)).unwrap();
    let before = cluster.state();
    kill(before.nodes["node-2"]);
    wait_for("node-2", || cluster.state().nodes.get("node-2").copied().filter(|pid| *pid != before.nodes["node-2"]));
    cluster.outside().unwrap().run(reach).unwrap();
}

/// The addresses of node-2's device, and whether it forwards.
#[track_caller]
fn check_node(families: IpFamily) {
    let text = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
    let eth0: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).filter(|line: &Vec<_>| line[5] == "eth0").collect();
    let ours = eth0.iter().filter(|line| line[0] == "fd000172003100000000000000000012");
    assert_eq!(ours.count(), usize::from(families.has(Family::V6)), "{text}");
    let ipv4 = fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap().contains("172.31.0.12");
    assert_eq!(ipv4, families.has(Family::V4));
    if families.has(Family::V6) {
        // IFA_F_TENTATIVE: still asking whether somebody else has it.
        let tentative = |line: &Vec<&str>| u32::from_str_radix(line[4], 16).unwrap() & 0x40 != 0;
        assert!(!eth0.iter().any(tentative), "{text}");
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap().trim(), "1");
    }
}

#[test]
fn a_fabric_of_both_families() {
    check_families("t-dual", IpFamily::Dual);
}

#[test]
fn a_fabric_of_ipv6_alone() {
    check_families("t-six", IpFamily::Ipv6);
}

#[test]
fn a_node_sees_its_own_machine() {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let guard = Guard::start("t-view", 1);
    check_word(local(guard.published), "node-1");
    let pid = guard.cluster().node_pid("node-1").unwrap();
    let root = format!("/proc/{pid}/root");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mounted = |target: &str, kind: &str| {
        assert!(
            mounts.lines().any(|line| line.contains(&format!(" {target} ")) && line.contains(&format!(" - {kind} "))),
            "{target}\n{mounts}"
        );
    };
    mounted("/run", "tmpfs");
    mounted("/sys/fs/bpf", "bpf");
    for hierarchy in cgroup::hierarchies().unwrap() {
        mounted(hierarchy.mount.to_str().unwrap(), if hierarchy.unified { "cgroup2" } else { "cgroup" });
        let ours = hierarchy.mount.strip_prefix("/").unwrap().join("weft/t-view/node-1/system/cgroup.procs");
        let processes = fs::read_to_string(Path::new(&root).join(ours)).unwrap();
        assert!(processes.lines().any(|line| line == pid.to_string()), "{processes:?} in {hierarchy:?}");
    }
    let devices = fs::read_dir(format!("{root}/sys/class/net")).unwrap();
    let names: Vec<_> = devices.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.contains(&"eth0".to_owned()) && !names.contains(&"fabric".to_owned()), "{names:?}");
    let forward =
        guard.cluster().node_netns("node-1").unwrap().run(|| fs::read_to_string("/proc/sys/net/ipv4/ip_forward"));
    assert_eq!(forward.unwrap().unwrap().trim(), "1");
}

#[test]
fn what_dies_comes_back() {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let guard = Guard::start("t-again", 2);
    check_word(local(guard.published), "node-1");
    let cluster = guard.cluster();
    let before = cluster.state();
    // Asked politely: a child must not inherit the supervisor's blocked signals.
    let server = nix::unistd::Pid::from_raw(before.server.unwrap());
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGTERM).unwrap();
    wait_for("another server", || cluster.state().server.filter(|pid| Some(*pid) != before.server));
    check_word(local(guard.api), "server");
    // A power cut of the node that the server stands on.
    kill(before.nodes["node-1"]);
    wait_for("node-1", || cluster.state().nodes.get("node-1").copied().filter(|pid| *pid != before.nodes["node-1"]));
    check_word(local(guard.published), "node-1");
    check_word(local(guard.api), "server");
    // Off until asked otherwise.
    cluster.power_off("node-2").unwrap();
    wait_for("node-2 to be off", || (!cluster.state().nodes.contains_key("node-2")).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    assert!(!cluster.state().nodes.contains_key("node-2"));
    cluster.power_on("node-2").unwrap();
    wait_for("node-2", || cluster.state().nodes.get("node-2").copied());
    cluster.outside().unwrap().run(|| check_word((node_address(2), 30080), "node-2")).unwrap();
}

#[test]
fn down_after_the_supervisor_was_killed() {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let guard = Guard::start("t-orphan", 2);
    check_word(local(guard.published), "node-1");
    kill(guard.cluster().state().supervisor);
    wait_for("the supervisor's end", || {
        matches!(Cluster::status("t-orphan").unwrap(), Status::Orphaned(_)).then_some(())
    });
    let refusal = stub(&["start", "t-orphan", "2"]).unwrap_err();
    assert!(refusal.ends_with("run weft up --name t-orphan to give it a new one"), "{refusal}");
    // What it supervised goes on.
    check_word(local(guard.api), "server");
    drop(guard);
    assert_eq!(leftovers("t-orphan"), Vec::<String>::new());
}

#[test]
fn files_outlive_the_processes() {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let guard = Guard::start("t-reboot", 1);
    check_word(local(guard.api), "server");
    // As after a restart of the machine: nothing runs, the files are there.
    cgroup::end(&paths::cgroup("t-reboot").join("supervisor"), Duration::from_secs(10)).unwrap();
    cgroup::end(&paths::cgroup("t-reboot"), Duration::from_secs(10)).unwrap();
    assert!(matches!(Cluster::status("t-reboot").unwrap(), Status::Stopped(_)));
    let refusal = stub(&["start", "t-reboot", "2"]).unwrap_err();
    assert!(refusal.contains("exists with 1 nodes"), "{refusal}");
    let refusal = stub(&["start", "t-reboot", "1", "dual"]).unwrap_err();
    assert!(refusal.contains("exists with --ip-family ipv4"), "{refusal}");
    let ports = stub(&["start", "t-reboot", "1"]).unwrap();
    assert_eq!(ports.trim(), format!("{} {}", guard.api, guard.published), "the same ports again");
    check_word(local(guard.api), "server");
    check_word(local(guard.published), "node-1");
}

#[test]
fn a_taken_port() {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let spec = local_cluster::Spec { api_port: port, ..local_cluster::Spec::new("t-port") };
    let error = local_cluster::start(spec, Path::new("/proc/self/exe")).unwrap_err();
    assert_eq!(error.to_string(), format!("port {port} on 127.0.0.1 is taken: choose another with --api-port"));
    assert_eq!(leftovers("t-port"), Vec::<String>::new());
}

#[test]
fn two_side_by_side() {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (one, two) = (Guard::start("t-one", 1), Guard::start("t-two", 1));
    check_word(local(one.published), "node-1");
    check_word(local(two.published), "node-1");
    drop(one);
    assert_eq!(leftovers("t-one"), Vec::<String>::new());
    check_word(local(two.published), "node-1");
}

#[test]
fn refusals() {
    if !may_run() {
        return;
    }
    let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert_eq!(stub(&["start", "t-many", "11"]).unwrap_err(), "error: --nodes 11: a local cluster has 1 to 10 nodes");
    let paths = paths::Paths::new("t-half");
    // Another test's `down` may take the empty parent away meanwhile.
    wait_for("a directory", || fs::create_dir_all(paths.server()).ok());
    let refusal = stub(&["start", "t-half", "1"]).unwrap_err();
    stub(&["stop", "t-half"]).unwrap();
    assert_eq!(refusal, "error: an earlier cluster t-half was left half removed: run weft down --name t-half first");
    assert_eq!(leftovers("t-half"), Vec::<String>::new());
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}
