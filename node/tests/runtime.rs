//! The embedded runtime with real namespaces, cgroups and containers, through the `Runtime` trait alone.
//!
//! This one static binary is the test, the helper (`container-helper …`) and the containers' program (`payload …`), which
//! is also what the image is made of. It needs root; it works in a mount namespace of its own, so that no mount and no
//! pinned namespace is left on the machine whatever happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use node::cni::Cni;
use node::image::Store;
use node::runtime::embedded::{Embedded, Settings};
use node::runtime::{ContainerConfig, Mount, PodId, Resources, Runtime, Sandbox, SandboxConfig, Security, State};

#[path = "runtime/network.rs"]
mod network;

const PLUGIN: &str = r#"#!/bin/sh
echo "$CNI_COMMAND ${CNI_NETNS:+netns}" >> "${0%/*}/calls"
[ "$CNI_COMMAND" = GC ] && cat > "${0%/*}/gc"
[ -e "${0%/*}/fail" ] && { echo '{"code":11,"msg":"no agent"}'; exit 1; }
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.8.7/32"}]}'
exit 0
"#;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("container-helper") => std::process::exit(container_helper::main(std::env::args_os().collect())),
        Some("payload") => payload(&words[2..]),
        _ => tests(),
    }
}

fn payload(words: &[String]) {
    match words[0].as_str() {
        "show" => {
            let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
            let link = |path: &str| fs::read_link(path).map(|link| link.display().to_string()).unwrap_or_default();
            println!("hostname {}", read("/proc/sys/kernel/hostname").trim());
            println!(
                "env {} {}",
                std::env::var("COLOUR").unwrap_or_default(),
                std::env::var("HOSTNAME").unwrap_or_default()
            );
            println!("net {}", link("/proc/self/ns/net"));
            println!("ipc {}", link("/proc/self/ns/ipc"));
            println!("volume {}", read("/volume/file").trim());
            println!("write-volume {}", fs::write("/volume/mine", "x").is_ok());
            println!("write-root {}", fs::write("/mine", "x").is_ok());
            println!("write-proc {}", fs::write("/proc/sys/kernel/hostname", "x").is_ok());
            println!(
                "mknod {}",
                nix::sys::stat::mknod("/disk", nix::sys::stat::SFlag::S_IFBLK, nix::sys::stat::Mode::empty(), 0xfe00)
                    .is_ok()
            );
            println!("uid {}", nix::unistd::getuid());
            println!(
                "groups {:?}",
                nix::unistd::getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()).collect::<Vec<_>>()
            );
        }
        "sleep" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        _ => std::process::exit(7),
    }
}

/// Everything the runtime needs, below one temporary directory.
struct Place {
    dir: tempfile::TempDir,
    cgroup_root: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cgroup_root = format!("/weft/test-{}/{name}", std::process::id());
        let cni = dir.path().join("cni");
        fs::create_dir(&cni).expect("cni directory");
        fs::write(cni.join("plain"), PLUGIN).expect("plugin");
        fs::set_permissions(cni.join("plain"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
        let list = r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"plain"}]}"#;
        fs::write(cni.join("10.conflist"), list).expect("conflist");
        Store::open(&dir.path().join("images")).expect("store").load(&image(dir.path())).expect("image");
        Self { dir, cgroup_root }
    }

    fn open(&self) -> Embedded {
        let cni = self.dir.path().join("cni");
        Embedded::open(Settings {
            state_dir: self.dir.path().join("state"),
            store: Store::open(&self.dir.path().join("images")).expect("store"),
            cni: Cni { conf_dir: cni.clone(), bin_dir: cni },
            cgroup_root: self.cgroup_root.clone(),
            netns_dir: PathBuf::from("/run/netns"),
        })
        .expect("runtime")
    }

    fn container(&self, name: &str, args: &[&str]) -> ContainerConfig {
        ContainerConfig {
            name: name.to_owned(),
            image: "payload:1".to_owned(),
            args: args.iter().map(ToString::to_string).collect(),
            env: vec![("COLOUR".into(), "blue".into())],
            log_path: self.dir.path().join("logs").join(name),
            ..ContainerConfig::default()
        }
    }

    fn log(&self, name: &str) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("logs").join(name)).expect("log");
        log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect()
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.dir.path().join("cni/calls"))
            .unwrap_or_default()
            .lines()
            .map(|line| line.trim().to_owned())
            .collect()
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").filter_map(Result::ok);
        let pods = hierarchies.map(|entry| entry.path().join(&self.cgroup_root[1..]).join("pods"));
        pods.filter_map(|pods| fs::read_dir(pods).ok())
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups").filter_map(Result::ok) {
            let group = hierarchy.path().join(&self.cgroup_root[1..]);
            // From the leaf to `weft`; fails where something else still lives, which is then not ours.
            for path in std::iter::once(group.join("pods").as_path()).chain(group.ancestors().take(3)) {
                let _ = fs::remove_dir(path);
            }
        }
    }
}

/// A docker archive whose one layer is this binary.
fn image(dir: &Path) -> PathBuf {
    let binary = fs::read("/proc/self/exe").expect("this binary");
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "payload", &binary);
    append(&mut layer, "etc/passwd", b"root:x:0:0::/root:/sh\nweb:x:33:33::/:/sh\n");
    let layer = layer.into_inner().expect("in memory");
    let diff_id = format!("sha256:{:x}", <sha2::Sha256 as sha2::Digest>::digest(&layer));
    let config =
        serde_json::json!({"config": {"Entrypoint": ["/payload", "payload"]}, "rootfs": {"diff_ids": [diff_id]}})
            .to_string();
    let manifest = r#"[{"Config":"config","RepoTags":["payload:1"],"Layers":["layer"]}]"#;
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "manifest.json", manifest.as_bytes());
    append(&mut archive, "config", config.as_bytes());
    append(&mut archive, "layer", &layer);
    let path = dir.join("payload.tar");
    fs::write(&path, archive.into_inner().expect("in memory")).expect("archive");
    path
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o755);
    tar.append_data(&mut header, name, content).expect("in memory");
}

fn pod(name: &str) -> SandboxConfig {
    let pod = PodId { namespace: "default".into(), name: name.into(), uid: format!("uid-{name}") };
    SandboxConfig { pod, hostname: name.into(), ..SandboxConfig::default() }
}

fn tests() {
    unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root: a mount namespace of their own");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
        .expect("private mounts");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("tmpfs on /run");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio");
    runtime.block_on(async {
        shows_its_surroundings().await;
        ends_and_is_told().await;
        is_found_again_after_a_restart().await;
        is_lost_with_its_helper().await;
        network::a_network_that_fails_leaves_nothing().await;
        network::tells_the_plugins_what_is_valid().await;
        host_network_is_the_nodes().await;
        a_missing_image_is_named().await;
        executes().await;
    });
}

async fn wait_exited(runtime: &Embedded, id: &str) -> node::runtime::Container {
    for _ in 0..2000 {
        if let Some(found) = runtime.containers(None).into_iter().find(|one| one.id == id && one.state == State::Exited)
        {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let found = runtime.containers(None).into_iter().find(|one| one.id == id);
    panic!("the container did not end: {found:#?}");
}

async fn start(runtime: &Embedded, sandbox: &Sandbox, config: &ContainerConfig) -> String {
    let id = runtime.create_container(&sandbox.id, config).await.expect("create");
    runtime.start_container(&id).await.expect("start");
    id
}

fn value<'a>(log: &'a [String], key: &str) -> &'a str {
    log.iter().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {log:?}")).trim()
}

async fn shows_its_surroundings() {
    let place = Place::new("show");
    let runtime = place.open();
    let sandbox = runtime.run_sandbox(&pod("web-0")).await.expect("sandbox");
    assert!(sandbox.ready && sandbox.ips == ["10.9.8.7".parse::<std::net::IpAddr>().expect("ip")]);
    let volume = place.dir.path().join("volume");
    fs::create_dir(&volume).expect("volume");
    fs::write(volume.join("file"), "content").expect("file");
    let mount = |read_only| Mount { host_path: volume.clone(), container_path: "/volume".into(), read_only };
    let first = ContainerConfig { mounts: vec![mount(false)], ..place.container("first", &["show"]) };
    let security =
        Security { run_as_user: Some(33), supplemental_groups: vec![7], read_only_rootfs: true, ..Security::default() };
    let second = ContainerConfig { mounts: vec![mount(true)], security, ..place.container("second", &["show"]) };
    for config in [&first, &second] {
        let id = start(&runtime, &sandbox, config).await;
        let exit = wait_exited(&runtime, &id).await.exit.expect("exit");
        assert_eq!((exit.code, exit.reason.as_str()), (0, "Completed"));
    }
    let (one, two) = (place.log("first"), place.log("second"));
    assert_eq!(value(&one, "hostname"), "web-0");
    assert_eq!(value(&one, "env"), "blue web-0");
    assert_eq!(
        (value(&one, "volume"), value(&one, "write-volume"), value(&one, "write-root")),
        ("content", "true", "true")
    );
    assert_eq!((value(&one, "write-proc"), value(&one, "mknod"), value(&one, "uid")), ("false", "false", "0"));
    assert_eq!((value(&two, "write-volume"), value(&two, "write-root"), value(&two, "uid")), ("false", "false", "33"));
    assert_eq!(value(&two, "groups"), "[7, 33]");
    assert_eq!((value(&one, "net"), value(&one, "ipc")), (value(&two, "net"), value(&two, "ipc")), "one sandbox");
    assert_ne!(value(&one, "net"), fs::read_link("/proc/self/ns/net").expect("link").display().to_string());

    runtime.remove_sandbox(&sandbox.id).await.expect("remove");
    assert_eq!(place.calls(), ["ADD netns", "DEL netns"]);
    assert_eq!(place.cgroups(), Vec::<PathBuf>::new());
    assert!(runtime.containers(None).is_empty() && runtime.sandboxes(None).is_empty());
    assert_eq!(fs::read_dir("/run/netns").expect("pins").count(), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&place.dir.path().display().to_string()), "{mounts}");
    println!("test a container sees its pod's hostname, network, volumes and user ... ok");
}

async fn ends_and_is_told() {
    let place = Place::new("end");
    let runtime = place.open();
    let mut events = runtime.events();
    let sandbox = runtime.run_sandbox(&pod("end")).await.expect("sandbox");
    let id = start(&runtime, &sandbox, &place.container("c", &["other"])).await;
    let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.expect("in time").expect("event");
    assert_eq!((event.container.as_str(), event.pod_uid.as_str()), (id.as_str(), "uid-end"));
    let exit = wait_exited(&runtime, &id).await.exit.expect("exit");
    assert_eq!((exit.code, exit.reason.as_str()), (7, "Error"));

    let limits = Resources { memory_limit: 64 << 20, cpu_shares: 102, cpu_quota: 20_000, oom_score_adj: 900 };
    let sleeper =
        start(&runtime, &sandbox, &ContainerConfig { resources: limits, ..place.container("s", &["sleep"]) }).await;
    runtime.stop_container(&sleeper, Duration::from_millis(200)).await.expect("stop");
    let exit = wait_exited(&runtime, &sleeper).await.exit.expect("exit");
    assert_eq!(exit.code, 137, "pid 1 without a handler does not hear SIGTERM");
    runtime.remove_sandbox(&sandbox.id).await.expect("remove");

    let missing = ContainerConfig { command: vec!["/nothing".into()], ..place.container("m", &[]) };
    let sandbox = runtime.run_sandbox(&pod("end")).await.expect("sandbox");
    let id = runtime.create_container(&sandbox.id, &missing).await.expect("create");
    let error = runtime.start_container(&id).await.expect_err("there is no such program");
    assert!(error.text().contains("/nothing"), "{}", error.text());
    let exit = wait_exited(&runtime, &id).await.exit.expect("exit");
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"));
    runtime.remove_sandbox(&sandbox.id).await.expect("remove");
    assert_eq!(place.cgroups(), Vec::<PathBuf>::new());
    println!("test a container's end, stop and failed start are told ... ok");
}

async fn is_found_again_after_a_restart() {
    let place = Place::new("restart");
    let runtime = place.open();
    let sandbox = runtime.run_sandbox(&pod("again")).await.expect("sandbox");
    let id = start(&runtime, &sandbox, &place.container("s", &["sleep"])).await;
    let ended = start(&runtime, &sandbox, &place.container("e", &["other"])).await;
    wait_exited(&runtime, &ended).await;
    drop(runtime);

    let runtime = place.open();
    let states: std::collections::HashMap<String, State> =
        runtime.containers(None).into_iter().map(|one| (one.id, one.state)).collect();
    assert_eq!((states[&id], states[&ended]), (State::Running, State::Exited));
    assert!(runtime.sandboxes(None)[0].ready && runtime.sandboxes(None)[0].ips == sandbox.ips);
    runtime.stop_container(&id, Duration::ZERO).await.expect("stop");
    assert_eq!(wait_exited(&runtime, &id).await.exit.expect("exit").code, 137);
    runtime.remove_sandbox(&sandbox.id).await.expect("remove");
    assert_eq!(place.calls(), ["ADD netns", "DEL netns"]);
    println!("test a restarted node finds what runs ... ok");
}

async fn is_lost_with_its_helper() {
    let place = Place::new("lost");
    let runtime = place.open();
    let sandbox = runtime.run_sandbox(&pod("lost")).await.expect("sandbox");
    let id = start(&runtime, &sandbox, &place.container("s", &["sleep"])).await;
    let dir = place.dir.path().join("state/containers").join(&id);
    // The helper is the one child of this process that was given this directory.
    let helper = fs::read_dir("/proc").expect("proc").filter_map(Result::ok).find_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let fits = words.len() > 3 && words[2] == b"run" && words[3] == dir.as_os_str().as_encoded_bytes();
        fits.then(|| entry.file_name().to_string_lossy().parse::<i32>().ok())?
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(helper.expect("a helper")), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    let exit = wait_exited(&runtime, &id).await.exit.expect("exit");
    assert_eq!((exit.code, exit.reason.as_str()), (255, "Unknown"));
    runtime.remove_sandbox(&sandbox.id).await.expect("remove");
    assert_eq!(place.cgroups(), Vec::<PathBuf>::new(), "the container died with its helper");
    println!("test a container whose helper is killed is lost, not forgotten ... ok");
}

async fn host_network_is_the_nodes() {
    let place = Place::new("host");
    let runtime = place.open();
    let config = SandboxConfig { host_network: true, ..pod("host") };
    let sandbox = runtime.run_sandbox(&config).await.expect("sandbox");
    let id = start(&runtime, &sandbox, &place.container("c", &["show"])).await;
    wait_exited(&runtime, &id).await;
    let log = place.log("c");
    assert_eq!(value(&log, "net"), fs::read_link("/proc/self/ns/net").expect("link").display().to_string());
    assert_ne!(value(&log, "hostname"), "host");
    runtime.remove_sandbox(&sandbox.id).await.expect("remove");
    assert_eq!(place.calls(), Vec::<String>::new());
    println!("test a pod with hostNetwork shares the node's ... ok");
}

async fn a_missing_image_is_named() {
    let place = Place::new("image");
    let runtime = place.open();
    assert!(runtime.image("absent:3").await.expect("store").is_none());
    let error = runtime.pull_image("absent:3").await.expect_err("no registry").text();
    assert!(error.starts_with("failed to pull and unpack image \"docker.io/library/absent:3\""), "{error}");
    assert_eq!(runtime.images().await.expect("store").len(), 1);
    println!("test an image that is not there is named ... ok");
}

async fn executes() {
    let place = Place::new("exec");
    let runtime = place.open();
    let sandbox = runtime.run_sandbox(&pod("exec")).await.expect("sandbox");
    let id = start(&runtime, &sandbox, &place.container("s", &["sleep"])).await;
    let command: Vec<String> = ["/payload", "payload", "show"].iter().map(ToString::to_string).collect();
    let result = runtime.exec(&id, &command, Duration::from_secs(10)).await.expect("exec");
    assert_eq!(result.code, 0, "{}", result.output);
    assert!(result.output.contains("hostname exec"), "{}", result.output);
    let command: Vec<String> = ["/payload", "payload", "other"].iter().map(ToString::to_string).collect();
    assert_eq!(runtime.exec(&id, &command, Duration::from_secs(10)).await.expect("exec").code, 7);
    runtime.remove_sandbox(&sandbox.id).await.expect("remove");
    println!("test a command is executed in a container ... ok");
}
