//! Starting a cluster: checks, listeners, files, credentials, and the supervisor that keeps it.
//!
//! Returns when every node has been started; whether the API server answers and pods run is for the caller to ask it.

use std::{
    fs, io,
    io::Read as _,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use crate::{
    children,
    cluster::{self, Cluster, Status},
    down,
    family::IpFamily,
    handoff,
    host::{self, HostState},
    paths::Paths,
    pki, preflight,
    spec::{self, Spec},
};

/// What keeps a cluster from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine.
    #[error(transparent)]
    Preflight(#[from] preflight::Error),
    /// What was asked for.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// Looking at what is there.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// It runs.
    #[error("cluster {0} is running already")]
    Running(String),
    /// Half of one.
    #[error("an earlier cluster {0} was left half removed: run weft down --name {0} first")]
    Half(String),
    /// One without its supervisor, which `adopt` gives it.
    #[error("cluster {0} runs and has lost its supervisor: run weft up --name {0} to give it a new one")]
    Orphaned(String),
    /// Another size.
    #[error("cluster {name} exists with {nodes} nodes: run weft down --name {name} first to change that")]
    Differs {
        /// Which.
        name: String,
        /// Its size.
        nodes: u8,
    },
    /// Other families.
    #[error("cluster {name} exists with --ip-family {ip_family}: run weft down --name {name} first to change that")]
    OtherFamilies {
        /// Which.
        name: String,
        /// Its families.
        ip_family: IpFamily,
    },
    /// A taken port.
    #[error("port {port} on 127.0.0.1 is taken: choose another with {flag}")]
    PortTaken {
        /// The port.
        port: u16,
        /// The flag that moves it.
        flag: &'static str,
    },
    /// Another refusal of a port.
    #[error("listening on 127.0.0.1:{0}")]
    Listen(u16, #[source] io::Error),
    /// A program that belongs beside this one.
    #[error("{0} is missing: build it with cargo xtask build")]
    Program(PathBuf),
    /// The host's state, which must stay as it is.
    #[error("reading the host's network state")]
    Host(#[source] host::Error),
    /// A file.
    #[error("writing {0}")]
    Write(PathBuf, #[source] io::Error),
    /// Credentials.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// The supervisor.
    #[error("starting the supervisor")]
    Supervisor(#[source] io::Error),
    /// Its own words.
    #[error("the supervisor: {0}")]
    Refused(SupervisorLine),
    /// Cleaning up after a failed start.
    #[error(transparent)]
    Down(#[from] down::Error),
}

/// What the supervisor said instead of `ready`.
#[derive(Debug)]
pub struct SupervisorLine(String);

impl std::fmt::Display for SupervisorLine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Starts the cluster. `cni_plugin` is the program that nodes' CNI directories get; the cluster keeps a copy.
///
/// A cluster whose files are there (the machine was restarted) is started from them. A first start that fails leaves no
/// trace.
pub fn start(mut spec: Spec, cni_plugin: &Path) -> Result<Cluster, Error> {
    preflight::check()?;
    spec.validate()?;
    let fresh = match Cluster::status(&spec.name)? {
        Status::Absent => true,
        Status::Stopped(earlier) if earlier.spec.nodes != spec.nodes => {
            return Err(Error::Differs { name: spec.name, nodes: earlier.spec.nodes });
        }
        Status::Stopped(earlier) if earlier.spec.ip_family != spec.ip_family => {
            return Err(Error::OtherFamilies { name: spec.name, ip_family: earlier.spec.ip_family });
        }
        Status::Stopped(earlier) => {
            spec = earlier.spec;
            false
        }
        Status::Half => return Err(Error::Half(spec.name)),
        Status::Orphaned(_) => return Err(Error::Orphaned(spec.name)),
        Status::Running(_) => return Err(Error::Running(spec.name)),
    };
    let before = HostState::read().map_err(Error::Host)?;
    let listeners = Listeners::open(&mut spec)?;
    let cluster = Cluster { paths: Paths::new(&spec.name), spec };
    match make(&cluster, cni_plugin, &before).and_then(|()| supervisor(&cluster, Some(&listeners))) {
        Ok(()) => Ok(cluster),
        Err(error) => {
            if fresh {
                down::stop(&cluster.spec.name)?;
            }
            Err(error)
        }
    }
}

/// Gives a running cluster that has lost its supervisor a new one. Nothing that runs is restarted.
pub fn adopt(cluster: &Cluster) -> Result<(), Error> {
    preflight::check()?;
    supervisor(cluster, None)
}

struct Listeners {
    api: TcpListener,
    published: Vec<TcpListener>,
}

impl Listeners {
    /// Opens them all before anything is made, and writes the real ports into the spec.
    fn open(spec: &mut Spec) -> Result<Listeners, Error> {
        let api = listen(&mut spec.api_port, "--api-port")?;
        let open = |publish: &mut spec::Publish| listen(&mut publish.host, "--publish HOSTPORT:NODEPORT");
        let published = spec.publish.iter_mut().map(open).collect::<Result<_, _>>()?;
        Ok(Listeners { api, published })
    }
}

fn listen(port: &mut u16, flag: &'static str) -> Result<TcpListener, Error> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken { port: *port, flag },
        _ => Error::Listen(*port, error),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map_err(failed)?;
    *port = listener.local_addr().map_err(|error| Error::Listen(*port, error))?.port();
    Ok(listener)
}

/// Tries again when a parent goes meanwhile: the end of the only other cluster takes what it leaves empty along.
fn make_directory(path: &Path) -> std::io::Result<()> {
    let again = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match fs::create_dir_all(path) {
        Err(error) if again(&error) => fs::create_dir_all(path),
        other => other,
    }
}

/// Files and credentials; `cluster.json` last, so that a start that was cut short is seen as such.
fn make(cluster: &Cluster, cni_plugin: &Path, before: &HostState) -> Result<(), Error> {
    let (spec, paths) = (&cluster.spec, &cluster.paths);
    let mut directories =
        vec![paths.server(), paths.images(), paths.logs(), paths.programs(), paths.runtime.join("hold")];
    for node in spec.node_names() {
        directories.extend(["node", "agent", "log"].map(|part| paths.node(&node).join(part)));
    }
    for path in directories {
        make_directory(&path).map_err(|error| Error::Write(path, error))?;
    }
    // Keys and tokens lie below.
    let private = fs::set_permissions(&paths.files, std::os::unix::fs::PermissionsExt::from_mode(0o700));
    private.map_err(|error| Error::Write(paths.files.clone(), error))?;
    if !cni_plugin.exists() {
        return Err(Error::Program(cni_plugin.to_path_buf()));
    }
    let copy = paths.programs().join("weft-cni");
    fs::copy(cni_plugin, &copy).map_err(|error| Error::Write(copy, error))?;
    before.save(&paths.host_before()).map_err(|error| Error::Write(paths.host_before(), error))?;
    pki::make(spec, paths)?;
    let text = serde_json::to_vec_pretty(spec).expect("a spec is plain data");
    let next = paths.spec().with_extension("next");
    let written = fs::write(&next, text).and_then(|()| fs::rename(&next, paths.spec()));
    written.map_err(|error| Error::Write(paths.spec(), error))
}

/// Starts the supervisor with what it shall listen on, or on what an earlier one left.
fn supervisor(cluster: &Cluster, listeners: Option<&Listeners>) -> Result<(), Error> {
    let (mut answer, ready) = io::pipe().map_err(Error::Supervisor)?;
    let line = ["supervise".into(), "--name".into(), cluster.spec.name.clone().into()];
    let log = cluster.paths.logs().join("supervisor.log");
    let mut command = children::this_program(&line, &log).map_err(Error::Supervisor)?;
    match listeners {
        None => _ = command.arg("--adopt"),
        Some(Listeners { api, published }) => {
            let api = handoff::pass(&mut command, api);
            command.arg("--api-fd").arg(api.to_string());
            for listener in published {
                let fd = handoff::pass(&mut command, listener);
                command.arg("--publish-fd").arg(fd.to_string());
            }
        }
    }
    let ready_fd = handoff::pass(&mut command, &ready);
    command.arg("--ready-fd").arg(ready_fd.to_string());
    command.spawn().map_err(Error::Supervisor)?;
    drop(ready);
    let mut text = String::new();
    answer.read_to_string(&mut text).map_err(Error::Supervisor)?;
    match text.trim() {
        "ready" => Ok(()),
        "" => Err(Error::Refused(SupervisorLine(format!("ended without a word; see {}", log.display())))),
        words => Err(Error::Refused(SupervisorLine(words.to_owned()))),
    }
}
