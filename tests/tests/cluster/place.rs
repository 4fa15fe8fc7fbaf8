//! A cluster that a test starts: where its programs and images lie, and its end also when the test fails.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A running cluster; dropping it takes it down.
pub(crate) struct Cluster {
    pub(crate) name: String,
}

impl Cluster {
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        Path::new("/var/lib/weft/clusters").join(&self.name).join("admin.kubeconfig")
    }

    /// `weft down`, and whatever it leaves is a failure.
    #[track_caller]
    pub(crate) fn down(&self) {
        let down = Command::new(program("weft")).args(["down", "--name", &self.name]).output();
        succeeded("weft down", &down.expect("weft starts"));
        assert_eq!(traces(&self.name), Vec::<PathBuf>::new(), "weft down left these");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // After a good run this finds nothing to do.
        let _ = Command::new(program("weft")).args(["down", "--name", &self.name]).output();
    }
}

/// `weft up` with the example running, on ports of its own, and what it printed.
#[track_caller]
pub(crate) fn up(name: &str, flags: &[&str]) -> (Cluster, String) {
    let cluster = Cluster { name: name.to_owned() };
    let mut weft = Command::new(program("weft"));
    weft.args(["up", "--name", name, "--api-port", "0", "--publish", "0:30080"]).args(flags);
    weft.arg("--image").arg(image("guestbook-1.0")).arg("--image").arg(image("probe-1.0"));
    weft.arg("--manifest").arg(root().join("examples/guestbook/guestbook.yaml"));
    let text = succeeded(&format!("weft up {}", flags.join(" ")), &weft.output().expect("weft starts"));
    (cluster, text)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the clone").to_path_buf()
}

fn from_environment(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from)
}

pub(crate) fn program(name: &str) -> PathBuf {
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
pub(crate) fn succeeded(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{text}\n{errors}", output.status);
    text
}

/// What there is of a cluster of this name on the machine.
pub(crate) fn traces(name: &str) -> Vec<PathBuf> {
    let mut candidates = vec![Path::new("/var/lib/weft/clusters").join(name), Path::new("/run/weft").join(name)];
    for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups are mounted").flatten() {
        candidates.push(hierarchy.path().join("weft").join(name));
    }
    candidates.retain(|path| path.exists());
    candidates
}
