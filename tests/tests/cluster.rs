//! The embedded cluster as a user meets it: `weft up --check` with all its faults, stock kubectl of every version that lies
//! here, a supervisor that dies, `weft down`.
//!
//! One test but for the refusals, since one cluster serves all of it. The cluster has a name and ports of its own and goes also when the
//! test fails.
#[path = "cluster/host.rs"]
mod host;
#[path = "cluster/kubectl.rs"]
mod kubectl;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/supervisor.rs"]
mod supervisor;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A running cluster; dropping it takes it down.
struct Cluster {
    name: String,
}

impl Cluster {
    fn kubeconfig(&self) -> PathBuf {
        Path::new("/var/lib/weft/clusters").join(&self.name).join("admin.kubeconfig")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // After a good run this finds nothing to do.
        let _ = Command::new(program("weft")).args(["down", "--name", &self.name]).output();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the clone").to_path_buf()
}

fn from_environment(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from)
}

fn program(name: &str) -> PathBuf {
    let default = format!("target/{}-unknown-linux-gnu/release", env::consts::ARCH);
    let path = from_environment("WEFT_PROGRAMS", &default).join(name);
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    path
}

fn image(name: &str) -> PathBuf {
    let path = from_environment("WEFT_IMAGES", "target/images").join(format!("{name}.tar"));
    assert!(path.exists(), "{} is missing: run cargo xtask image", path.display());
    path
}

#[track_caller]
fn succeeded(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{text}\n{errors}", output.status);
    text
}

fn up(name: &str) -> Cluster {
    let cluster = Cluster { name: name.to_owned() };
    let mut weft = Command::new(program("weft"));
    weft.args(["up", "--name", name, "--nodes", "2", "--api-port", "0", "--publish", "0:30080", "--check"]);
    weft.arg("--image").arg(image("guestbook-1.0")).arg("--image").arg(image("probe-1.0"));
    weft.arg("--manifest").arg(root().join("examples/guestbook/guestbook.yaml"));
    let text = succeeded("weft up --check", &weft.output().expect("weft starts"));
    assert!(text.contains("checks hold"), "{text}");
    cluster
}

fn traces(name: &str) -> Vec<PathBuf> {
    let mut candidates = vec![Path::new("/var/lib/weft/clusters").join(name), Path::new("/run/weft").join(name)];
    for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups are mounted").flatten() {
        candidates.push(hierarchy.path().join("weft").join(name));
    }
    candidates.retain(|path| path.exists());
    candidates
}

#[test]
fn up_check_kubectl_down() {
    let name = format!("test-{}", std::process::id());
    let cluster = up(&name);
    for kubectl in kubectl::versions() {
        kubectl::works_as_anywhere(&kubectl, &cluster.kubeconfig());
    }
    supervisor::dies_and_is_replaced(&name);
    let spec = local_cluster::Cluster::running(&name).expect("the cluster runs").spec;
    let down = Command::new(program("weft")).args(["down", "--name", &name]).output();
    succeeded("weft down", &down.expect("weft starts"));
    assert_eq!(traces(&name), Vec::<PathBuf>::new(), "weft down left these");
    let listening = host::listeners();
    for port in spec.publish.iter().map(|publish| publish.host).chain([spec.api_port]) {
        // Others may come and go on the same machine.
        assert!(!listening.contains(&format!("0100007F:{port:04X}")), "weft down left the listener on {port}");
    }
}
