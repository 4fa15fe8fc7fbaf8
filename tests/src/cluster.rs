//! A cluster that a test starts: it has a name and ports of its own, and ends also when the test fails.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use crate::{
    Kubectl,
    built::{image, root, succeeded, weft},
};

/// A running cluster; dropping it takes it down.
pub struct Cluster {
    name: String,
    dir: tempfile::TempDir,
    said: String,
}

/// Whether this test may start clusters; says that it is skipped if not.
pub fn may_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: this test starts a local cluster, which needs root");
    }
    root
}

impl Cluster {
    /// `weft up` with these images and more flags. The name gets this process' number.
    ///
    /// # Panics
    /// If it does not come up; it is taken down as far as it came.
    #[track_caller]
    pub fn up(name: &str, images: &[&str], flags: &[&str]) -> Cluster {
        let mut up = weft();
        let name = format!("{name}-{}", std::process::id());
        let mut cluster = Cluster { name, dir: tempfile::tempdir().expect("a directory"), said: String::new() };
        up.args(["up", "--name", &cluster.name, "--api-port", "0", "--publish", "0:30080"]).args(flags);
        for name in images {
            up.arg("--image").arg(image(name));
        }
        cluster.said = succeeded(&format!("weft up {}", flags.join(" ")), &up.output().expect("weft starts"));
        cluster
    }

    /// With the example running.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn with_guestbook(name: &str, flags: &[&str]) -> Cluster {
        let manifest = root().join("examples/guestbook/guestbook.yaml").display().to_string();
        Cluster::up(name, &["guestbook-1.0", "probe-1.0"], &[flags, &["--manifest", &manifest]].concat())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `weft up` printed.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// For files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        Path::new("/var/lib/weft/clusters").join(&self.name).join("admin.kubeconfig")
    }

    /// A kubectl that talks to it.
    pub fn kubectl(&self, program: &Path) -> Kubectl {
        Kubectl { program: program.to_owned(), kubeconfig: self.kubeconfig(), namespace: String::new() }
    }

    /// Our own command line with its kubeconfig.
    ///
    /// # Panics
    /// If it does not start.
    pub fn weft(&self, words: &[&str]) -> Output {
        weft().args(words).env("KUBECONFIG", self.kubeconfig()).output().expect("weft starts")
    }

    /// `weft down`.
    ///
    /// # Panics
    /// If it fails or leaves anything.
    #[track_caller]
    pub fn down(&self) {
        let down = weft().args(["down", "--name", &self.name]).output();
        succeeded("weft down", &down.expect("weft starts"));
        assert_eq!(traces(&self.name), Vec::<PathBuf>::new(), "weft down left these");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // After a good run this finds nothing to do.
        let _ = weft().args(["down", "--name", &self.name]).output();
    }
}

/// What there is of a cluster of this name on the machine.
///
/// # Panics
/// If there are no cgroups.
pub fn traces(name: &str) -> Vec<PathBuf> {
    let mut candidates = vec![Path::new("/var/lib/weft/clusters").join(name), Path::new("/run/weft").join(name)];
    for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups are mounted").flatten() {
        candidates.push(hierarchy.path().join("weft").join(name));
    }
    candidates.retain(|path| path.exists());
    candidates
}
