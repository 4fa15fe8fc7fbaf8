//! A cluster that is there: found by name, asked what runs, its namespaces lent out.

use std::{fs, io, path::PathBuf, time::Duration};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    cgroup,
    netns::{self, Netns},
    paths::{self, Paths},
    spec::{self, Spec},
    state::State,
};

/// A cluster whose files are whole.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What it is.
    pub spec: Spec,
    /// Where it is.
    pub paths: Paths,
}

/// What there is of a cluster.
#[derive(Debug)]
pub enum Status {
    /// Nothing.
    Absent,
    /// Files without `cluster.json`, or processes without files: a start or a removal that was cut short.
    Half,
    /// Files, and nothing runs: the machine was restarted.
    Stopped(Cluster),
    /// Processes run, the supervisor does not.
    Orphaned(Cluster),
    /// It runs.
    Running(Cluster),
}

/// What failed on a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name.
    #[error(transparent)]
    Name(#[from] spec::Error),
    /// Its processes.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Its files.
    #[error("reading {0}")]
    Read(PathBuf, #[source] io::Error),
    /// It is not there.
    #[error("there is no running cluster {0:?}: start it with weft up --name {0}")]
    NotRunning(String),
    /// A node is not there.
    #[error("{0} is not a running node of the cluster; it has {1}")]
    NoNode(String, String),
    /// Its network.
    #[error(transparent)]
    Netns(#[from] netns::Error),
    /// The hold file.
    #[error("writing {0}")]
    Hold(PathBuf, #[source] io::Error),
}

impl Cluster {
    /// What there is of the cluster of this name.
    pub fn status(name: &str) -> Result<Status, Error> {
        spec::validate_name(name)?;
        let paths = Paths::new(name);
        let running = is_locked(&paths);
        let alive = running || !cgroup::processes(&paths::cgroup(name))?.is_empty();
        let spec = match fs::read(paths.spec()) {
            Ok(bytes) => serde_json::from_slice::<Spec>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::Read(paths.spec(), error)),
        };
        Ok(match spec {
            Some(spec) if running => Status::Running(Cluster { spec, paths }),
            Some(spec) if alive => Status::Orphaned(Cluster { spec, paths }),
            Some(spec) => Status::Stopped(Cluster { spec, paths }),
            None if alive || paths.files.exists() => Status::Half,
            None => Status::Absent,
        })
    }

    /// The running cluster of this name.
    pub fn running(name: &str) -> Result<Cluster, Error> {
        match Cluster::status(name)? {
            Status::Running(cluster) | Status::Orphaned(cluster) => Ok(cluster),
            _ => Err(Error::NotRunning(name.to_owned())),
        }
    }

    /// What runs now.
    pub fn state(&self) -> State {
        State::read(&self.paths.state()).unwrap_or_default()
    }

    /// Whether the cluster runs the program that this process is, not an earlier build of it.
    pub fn runs_this_program(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let identity =
            |process: &str| fs::metadata(format!("/proc/{process}/exe")).map(|file| (file.dev(), file.ino())).ok();
        identity("self") == identity(&self.state().supervisor.to_string())
    }

    /// The first process of a running node, as the host numbers it.
    pub fn node_pid(&self, node: &str) -> Result<i32, Error> {
        let pid = self.state().nodes.get(node).copied();
        let group = paths::cgroup(&self.spec.name).join(node);
        let alive = cgroup::processes(&group)?;
        let no_node = || Error::NoNode(node.to_owned(), self.spec.node_names().join(", "));
        pid.filter(|pid| alive.contains(pid)).ok_or_else(no_node)
    }

    /// A node's network.
    pub fn node_netns(&self, node: &str) -> Result<Netns, Error> {
        Ok(Netns::of_process(self.node_pid(node)?)?)
    }

    /// The network outside of the nodes, on their fabric.
    pub fn outside(&self) -> Result<Netns, Error> {
        let not_running = || Error::NotRunning(self.spec.name.clone());
        Ok(Netns::of_process(self.state().outside.ok_or_else(not_running)?)?)
    }

    /// Cuts a node's power and leaves it off until `power_on`.
    pub fn power_off(&self, node: &str) -> Result<(), Error> {
        let hold = self.paths.hold(node);
        fs::write(&hold, "").map_err(|error| Error::Hold(hold, error))?;
        // pid 1 alone: the kernel ends the rest of a pid namespace with it. `end` waits until all is gone.
        if let Ok(first) = self.node_pid(node) {
            _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL);
        }
        Ok(cgroup::end(&paths::cgroup(&self.spec.name).join(node), Duration::from_secs(10))?)
    }

    /// Lets the supervisor start the node again.
    pub fn power_on(&self, node: &str) -> Result<(), Error> {
        let hold = self.paths.hold(node);
        fs::remove_file(&hold).map_err(|error| Error::Hold(hold, error))
    }
}

/// The supervisor holds the lock exclusively; a shared try tells without keeping it.
fn is_locked(paths: &Paths) -> bool {
    let Ok(file) = fs::File::open(paths.lock()) else { return false };
    Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
}
