//! Debian's containerd (1.6) with its CRI plugin, `weft-cni` as its network, the agent and the real API server: what a node
//! of a cluster that is not ours looks like.
//!
//! The runtime has network, mounts and processes of its own: whatever happens, its shims and containers end with it.
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use tests::built::program;

use crate::{
    chained::plugins,
    cluster::{self, Cluster},
    cri::{Cri, LinuxPod, PodConfig, PodMetadata, PortMapping},
};

const BUSYBOX: &str = "docker.io/library/busybox:1.0";
const PAUSE: &str = "docker.io/library/pause:1.0";
const SOCKET: &str = "/run/containerd/containerd.sock";

/// A program of one of Debian's packages: unpacked by `cargo xtask test`, or installed.
fn debian(package: &str, path: &str) -> Option<PathBuf> {
    let unpacked = std::env::var_os("WEFT_DEBIAN").map(|root| PathBuf::from(root).join(package).join(path));
    unpacked.into_iter().chain([Path::new("/").join(path)]).find(|path| path.exists())
}

/// containerd 1.6, with a directory of its own.
struct Containerd {
    child: Child,
    programs: PathBuf,
    cgroup: String,
    log: PathBuf,
}

impl Containerd {
    fn start(directory: &Path, conf: &Path, [containerd, runc]: &[PathBuf; 2]) -> Containerd {
        let programs = containerd.parent().expect("a program is in a directory").to_path_buf();
        // containerd's CRI plugin makes the loopback interface by the reference plugin of that name.
        let bin = directory.join("bin");
        std::fs::create_dir(&bin).expect("a directory");
        for plugin in [program("weft-cni"), plugins().expect("looked for before").join("loopback")] {
            let name = plugin.file_name().expect("a program").to_owned();
            std::os::unix::fs::symlink(std::path::absolute(&plugin).expect("a path"), bin.join(name)).expect("a link");
        }
        let cri = r#"plugins."io.containerd.grpc.v1.cri""#;
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = \"/run/containerd\"\n[grpc]\naddress = {SOCKET:?}\n[{cri}]\n\
             sandbox_image = {PAUSE:?}\nrestrict_oom_score_adj = true\ndisable_apparmor = true\n[{cri}.cni]\n\
             bin_dir = {bin:?}\nconf_dir = {conf:?}\n[{cri}.containerd]\nsnapshotter = \"native\"\n\
             [{cri}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             [{cri}.containerd.runtimes.runc.options]\nBinaryName = {runc:?}\nSystemdCgroup = false\n",
            root = directory.join("containerd"),
        );
        let file = directory.join("containerd.toml");
        std::fs::write(&file, config).expect("written");
        let log = directory.join("containerd.log");
        let output = std::fs::File::create(&log).expect("a log");
        // Processes of their own, which end with the first. Mounts below /run are seen by the agent, too.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount"]);
        command.args(["--propagation", "unchanged", "--mount-proc"]).arg(containerd).arg("--config").arg(&file);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs.clone()].into_iter().chain(std::env::split_paths(&path)));
        command.env("PATH", path.expect("directories without a colon"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = command.spawn().expect("util-linux");
        Containerd { child, programs, cgroup: format!("weft-cri-{}", std::process::id()), log }
    }

    /// Takes an archive of an image.
    fn import(&self, archive: &Path) {
        let mut ctr = Command::new(self.programs.join("ctr"));
        ctr.args(["--address", SOCKET, "--namespace", "k8s.io", "images", "import"]).arg(archive);
        let output = ctr.output().expect("ctr starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[track_caller]
    fn wait_for<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look() {
                return found;
            }
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(Instant::now() < end, "{what} does not come:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let end = Instant::now() + Duration::from_secs(10);
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = hierarchy.path().join(&self.cgroup);
            // Its processes take a moment to be gone.
            while group.exists() && !remove_groups(&group) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Removes a cgroup with those in it; false if one is not empty.
fn remove_groups(group: &Path) -> bool {
    let inner = std::fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    inner.filter(|path| path.is_dir()).all(|path| remove_groups(&path)) && std::fs::remove_dir(group).is_ok()
}

/// The digest of bytes that it also puts among the blobs.
fn blob(directory: &Path, bytes: &[u8]) -> (String, usize) {
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("coreutils");
    sum.stdin.take().expect("a pipe").write_all(bytes).expect("written");
    let output = sum.wait_with_output().expect("it ends");
    let digest = String::from_utf8_lossy(&output.stdout)[..64].to_owned();
    std::fs::write(directory.join("blobs/sha256").join(&digest), bytes).expect("written");
    (format!("sha256:{digest}"), bytes.len())
}

/// busybox's image once more, as one that does nothing for ever.
fn pause(busybox: &Path, directory: &Path) -> PathBuf {
    let (unpacked, archive) = (directory.join("pause"), directory.join("pause.tar"));
    std::fs::create_dir(&unpacked).expect("a directory");
    let tar = |what: &str, archive: &Path, whole: &[&str]| {
        let done = Command::new("tar").arg(what).arg(archive).arg("-C").arg(&unpacked).args(whole).status();
        assert!(done.expect("tar").success(), "{}", archive.display());
    };
    tar("-xf", busybox, &[]);
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON") };
    let at = |digest: &Value| unpacked.join("blobs").join(digest.as_str().expect("a digest").replace(':', "/"));
    let mut index = read(unpacked.join("index.json"));
    let mut manifest = read(at(&index["manifests"][0]["digest"]));
    let mut config = read(at(&manifest["config"]["digest"]));
    config["config"]["Cmd"] = json!(["sleep", "1000000"]);
    let (digest, size) = blob(&unpacked, config.to_string().as_bytes());
    (manifest["config"]["digest"], manifest["config"]["size"]) = (digest.into(), size.into());
    let (digest, size) = blob(&unpacked, manifest.to_string().as_bytes());
    let entry = &mut index["manifests"][0];
    (entry["digest"], entry["size"]) = (digest.into(), size.into());
    entry["annotations"]["io.containerd.image.name"] = PAUSE.into();
    std::fs::write(unpacked.join("index.json"), index.to_string()).expect("written");
    tar("-cf", &archive, &["."]);
    archive
}

fn images() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/images");
    std::env::var_os("WEFT_IMAGES").map_or(default, PathBuf::from)
}

fn pod(cluster: &Cluster, cgroup: &str, name: &str, host_port: i32) -> PodConfig {
    cluster.pod(name);
    let uid = cluster.get(&format!("/api/v1/namespaces/default/pods/{name}"))["metadata"]["uid"].clone();
    let uid = uid.as_str().expect("a uid").to_owned();
    let ports = (host_port != 0).then_some(PortMapping { container_port: 80, host_port });
    PodConfig {
        metadata: Some(PodMetadata { name: name.to_owned(), uid, namespace: "default".to_owned() }),
        hostname: name.to_owned(),
        port_mappings: ports.into_iter().collect(),
        linux: Some(LinuxPod { cgroup_parent: format!("/{cgroup}") }),
    }
}

/// A node with its range, ready for pods.
fn ready(cluster: &mut Cluster) {
    for document in cluster::manifests() {
        cluster.create(&document);
    }
    cluster.start_proxy();
    cluster.create(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" } }));
    // The mounts are this test's own: network namespaces that the runtime pins below it are the agent's to see.
    let none: Option<&str> = None;
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("an empty /run");
    mount(none, "/run", none, MsFlags::MS_SHARED, none).expect("a shared /run");
    cluster.start_agent();
    let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "172.31.0.11" }] } });
    cluster.patch("/api/v1/nodes/n1/status", &status);
    cluster.wait_ready();
}

#[test]
fn pods_of_containerd() {
    let programs = debian("containerd", "usr/bin/containerd").zip(debian("runc", "usr/sbin/runc"));
    let Some((programs, _)) = programs.zip(plugins()) else {
        eprintln!(
            "SKIPPED: no containerd, runc and loopback plugin: run `cargo xtask test`, or apt-get install containerd \
             containernetworking-plugins"
        );
        return;
    };
    cluster::on_a_node(move |cluster| {
        ready(cluster);
        let directory = cluster.path("runtime");
        std::fs::create_dir(&directory).expect("a directory");
        let containerd = Containerd::start(&directory, &cluster.path("cni"), &programs.into());
        let connect = || Cri::connect(Path::new(SOCKET)).filter(Cri::is_ready);
        let cri = containerd.wait_for("containerd with its network", connect);
        let busybox = images().join("busybox-1.0.tar");
        containerd.import(&busybox);
        containerd.import(&pause(&busybox, &directory));
        let [(a, server, address), (b, client, other)] = [("a", 8080), ("b", 0)].map(|(name, host_port)| {
            let config = pod(cluster, &containerd.cgroup, name, host_port);
            let sandbox = cri.run_pod(&config).unwrap_or_else(|status| panic!("{name}: {status}"));
            let serve = format!("mkdir /w && echo this is {name} > /w/index.html && httpd -f -p 80 -h /w");
            let container = cri.start(&sandbox, &config, BUSYBOX, &["sh", "-c", &serve]).expect("a container");
            let address = cri.address(&sandbox).expect("a status");
            (sandbox, container, address)
        });
        let range = cluster.get("/api/v1/nodes/n1")["spec"]["podCIDR"].as_str().expect("a range").to_owned();
        let prefix = range.rsplit_once('.').expect("IPv4").0;
        assert!(address.starts_with(prefix) && other.starts_with(prefix) && address != other, "{address} {other}");
        // Over the network, by the pod's own address and by its host port, each way.
        let asks = |from: &str, at: &str, answer: &str| {
            let get = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {at}");
            let fetch = || cri.exec(from, &["sh", "-c", &get]).ok();
            containerd.wait_for(at, || fetch().filter(|text| text.trim_end().ends_with(answer)));
        };
        asks(&client, &format!("{address} 80"), "this is a");
        asks(&server, &format!("{other} 80"), "this is b");
        asks(&client, "172.31.0.11 8080", "this is a");
        let listed = cluster.weft(&["pod", "list"]);
        assert!(listed.contains("default/a") && listed.contains("default/b"), "{listed}");
        // A conflict is told by its owner through the runtime, and leaves nothing.
        let conflict = pod(cluster, &containerd.cgroup, "c", 8080);
        let refused = cri.run_pod(&conflict).expect_err("the port is a's").to_string();
        assert!(refused.contains("default/a"), "{refused}");
        for sandbox in [&a, &b] {
            cri.stop_pod(sandbox).expect("stopped");
            cri.stop_pod(sandbox).expect("stopped is stopped");
            cri.remove_pod(sandbox).expect("removed");
        }
        let listed = cluster.weft(&["pod", "list"]);
        assert!(!listed.contains("default/"), "{listed}");
    });
}
