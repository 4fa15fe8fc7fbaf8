//! `weft supervise`: the process behind a local cluster. Makes the fabric, starts the nodes, the API server and the
//! publisher, starts each again when it ends, and writes down what runs. Holds the cluster's lock while it lives.
//!
//! Single-threaded but for the short-lived threads of `Netns::run`. Its own death stops nothing: the publisher holds the
//! fabric and the listeners for a next supervisor, which takes over whatever runs (`--adopt`), and `down` finds the rest
//! by cgroup.

mod adopt;

use std::{
    fs, io,
    io::Write as _,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    process,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    cgroup, children,
    children::{Child, Signals},
    commands, fabric,
    family::Station,
    handoff,
    netns::{self, Netns},
    nodes,
    paths::{self, Paths},
    spec::{Publish, Spec},
    state::{Held, State},
};

/// Flags of `weft supervise`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster.
    #[arg(long)]
    name: String,
    /// Take over what an earlier supervisor started.
    #[arg(long, conflicts_with_all = ["api_fd", "publish_fd"])]
    adopt: bool,
    /// The API server's listener on the host.
    #[arg(long, required_unless_present = "adopt")]
    api_fd: Option<RawFd>,
    /// Listeners of published ports, in the spec's order.
    #[arg(long)]
    publish_fd: Vec<RawFd>,
    /// Where to write one line, `ready` or what went wrong.
    #[arg(long)]
    ready_fd: RawFd,
}

/// What ends a supervisor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// cluster.json.
    #[error("reading {0}")]
    Spec(std::path::PathBuf, #[source] io::Error),
    /// A second one.
    #[error("cluster {0} already has a supervisor")]
    Locked(String),
    /// A passed descriptor.
    #[error("taking over a descriptor")]
    Descriptor(#[source] io::Error),
    /// Its cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// A namespace.
    #[error(transparent)]
    Netns(#[from] netns::Error),
    /// The bridge.
    #[error(transparent)]
    Fabric(#[from] fabric::Error),
    /// Nothing to take over.
    #[error("the process that held the network of cluster {0} is gone too: run weft down --name {0}, then weft up")]
    NothingHeld(String),
    /// The state file.
    #[error("writing the cluster's state")]
    State(#[source] io::Error),
    /// A system call.
    #[error("{0}")]
    Sys(&'static str, #[source] io::Error),
}

struct Node {
    name: String,
    number: u8,
    child: Child,
    netns: Option<Netns>,
}

struct Supervisor {
    spec: Spec,
    paths: Paths,
    fabric: Netns,
    outside: Netns,
    api: OwnedFd,
    published: Vec<(OwnedFd, Publish)>,
    nodes: Vec<Node>,
    server: Child,
    publisher: Child,
    held: Option<Held>,
}

/// Runs until told to end.
pub fn run(args: &Args) -> Result<(), Error> {
    // A session of its own: neither ctrl-c on `up` nor a closed terminal reaches it. Refused only to a group's leader.
    _ = nix::unistd::setsid();
    let ready = handoff::take(args.ready_fd).map_err(Error::Descriptor)?;
    let (lock, supervisor, signals) = match set_up(args) {
        Ok(parts) => {
            tell(ready, "ready");
            parts
        }
        Err(error) => {
            tell(ready, &chain(&error));
            return Err(error);
        }
    };
    let result = supervisor.tend(&signals);
    drop(lock);
    result
}

fn tell(ready: OwnedFd, line: &str) {
    // Whoever started us may be gone; we go on.
    _ = writeln!(fs::File::from(ready), "{line}");
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn set_up(args: &Args) -> Result<(Flock<fs::File>, Supervisor, Signals), Error> {
    let paths = Paths::new(&args.name);
    let spec = fs::read(paths.spec()).and_then(|bytes| Ok(serde_json::from_slice::<Spec>(&bytes)?));
    let spec = spec.map_err(|error| Error::Spec(paths.spec(), error))?;
    let lock = lock(&paths).map_err(|_| Error::Locked(args.name.clone()))?;
    let group = paths::cgroup(&args.name);
    for leaf in ["supervisor", "server", "outside"] {
        cgroup::make(&group.join(leaf))?;
    }
    let enter = cgroup::Door::open(&group.join("supervisor"))?.enter();
    enter.map_err(|error| Error::Sys("entering the supervisor's cgroup", error))?;
    let signals = Signals::block().map_err(|error| Error::Sys("blocking signals", error))?;
    let mut supervisor = match args.adopt {
        true => adopt::supervisor_of(spec, paths)?,
        false => fresh(args, spec, paths)?,
    };
    supervisor.start_due()?;
    Ok((lock, supervisor, signals))
}

/// A fabric with nothing on it, and descriptors that `start` passed.
fn fresh(args: &Args, spec: Spec, paths: Paths) -> Result<Supervisor, Error> {
    let take = |fd: &RawFd| handoff::take(*fd).map_err(Error::Descriptor);
    let published: Vec<OwnedFd> = args.publish_fd.iter().map(take).collect::<Result<_, _>>()?;
    let api = take(args.api_fd.as_ref().expect("required without --adopt"))?;
    let (fabric, outside) = (Netns::create()?, Netns::create()?);
    fabric::make(&fabric)?;
    fabric::plug(&fabric, "outside", &outside, Station::Outside, spec.ip_family)?;
    Ok(supervisor(spec, paths, (fabric, outside), (api, published)))
}

/// One whose children are all due.
fn supervisor(spec: Spec, paths: Paths, nets: (Netns, Netns), listeners: (OwnedFd, Vec<OwnedFd>)) -> Supervisor {
    let node = |(number, name): (u8, String)| Node { child: Child::new(&name), number, netns: None, name };
    Supervisor {
        nodes: (1..).zip(spec.node_names()).map(node).collect(),
        published: listeners.1.into_iter().zip(spec.publish.iter().copied()).collect(),
        api: listeners.0,
        server: Child::new("server"),
        publisher: Child::new("publish"),
        held: None,
        spec,
        paths,
        fabric: nets.0,
        outside: nets.1,
    }
}

/// Whoever asks whether the cluster runs holds the lock for an instant: try for a second.
fn lock(paths: &Paths) -> io::Result<Flock<fs::File>> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(paths.lock())?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, errno)) if Instant::now() > deadline => return Err(errno.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

impl Supervisor {
    fn tend(mut self, signals: &Signals) -> Result<(), Error> {
        loop {
            let next = self.children().filter_map(Child::wake).min();
            let adopted: Vec<_> = self.children().filter_map(Child::watched).collect();
            if signals.wait_also(next, &adopted).map_err(|error| Error::Sys("waiting for a signal", error))? {
                return Ok(());
            }
            let vanished: Vec<_> = self.children().filter_map(Child::vanished).collect();
            for end in children::reap().into_iter().chain(vanished) {
                self.ended(&end);
            }
            self.start_due()?;
        }
    }

    fn children(&self) -> impl Iterator<Item = &Child> {
        self.nodes.iter().map(|node| &node.child).chain([&self.server, &self.publisher])
    }

    fn ended(&mut self, end: &nix::sys::wait::WaitStatus) {
        if self.server.ended(end) || self.publisher.ended(end) {
            return;
        }
        let Some(position) = self.nodes.iter_mut().position(|node| node.child.ended(end)) else { return };
        self.nodes[position].netns = None;
        // The API server stands on the first node: a power cut there takes it along.
        if position == 0
            && let Some(pid) = self.server.pid()
        {
            _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }

    fn start_due(&mut self) -> Result<(), Error> {
        for node in &mut self.nodes {
            if !node.child.due() {
                continue;
            }
            if self.paths.hold(&node.name).exists() {
                node.child.postpone();
                continue;
            }
            let started = nodes::start(&self.spec, &self.paths, &self.fabric, (&node.name, node.number));
            let started = started.map_err(|error| chain(&error));
            node.child.started(started.map(|started| {
                node.netns = Some(started.netns);
                started.pid
            }));
        }
        if self.server.due() {
            match &self.nodes[0].netns {
                Some(netns) => self.server.started(start_server(&self.paths, &self.spec, netns, &self.api)),
                None => self.server.postpone(),
            }
        }
        if self.publisher.due() {
            let started = self.start_publisher();
            self.publisher.started(started);
        }
        self.state().write(&self.paths.state()).map_err(Error::State)
    }

    fn state(&self) -> State {
        let running = |node: &Node| Some((node.name.clone(), node.child.pid()?));
        State {
            supervisor: i32::try_from(process::id()).expect("a pid is positive and fits"),
            server: self.server.pid(),
            outside: self.publisher.pid(),
            nodes: self.nodes.iter().filter_map(running).collect(),
            held: self.held.clone(),
        }
    }

    /// It inherits everything that a next supervisor needs, under the numbers that `held` tells.
    fn start_publisher(&mut self) -> io::Result<i32> {
        let maps: Vec<_> = self.published.iter().map(|(fd, publish)| (fd.as_raw_fd(), *publish)).collect();
        let line = commands::publish(&self.spec, &maps);
        let mut command = children::this_program(&line, &self.paths.logs().join("publish.log"))?;
        let held = Held {
            fabric: handoff::pass(&mut command, &self.fabric),
            api: handoff::pass(&mut command, &self.api),
            published: self.published.iter().map(|(fd, _)| handoff::pass(&mut command, fd)).collect(),
        };
        self.outside.pre_exec(&mut command)?;
        in_cgroup(&mut command, &self.spec, "outside")?;
        let pid = children::spawn(command)?;
        self.held = Some(held);
        Ok(pid)
    }
}

fn start_server(paths: &Paths, spec: &Spec, netns: &Netns, api: &OwnedFd) -> io::Result<i32> {
    let line = commands::server(spec, paths, api.as_raw_fd());
    let mut command = children::this_program(&line, &paths.logs().join("server.log"))?;
    handoff::pass(&mut command, api);
    netns.pre_exec(&mut command)?;
    in_cgroup(&mut command, spec, "server")?;
    children::spawn(command)
}

fn in_cgroup(command: &mut process::Command, spec: &Spec, leaf: &str) -> io::Result<()> {
    let door = cgroup::Door::open(&paths::cgroup(&spec.name).join(leaf)).map_err(io::Error::other)?;
    door.pre_exec(command);
    Ok(())
}
