//! The start, in the one safe order, and the end.
//!
//! Watches → the node's address → devices → maps and programs → pods of before → the first full round → hooks → CNI
//! configuration. A restart meets hooks of an earlier agent that run all the while: tables come before programs, and
//! programs are replaced one by one through their links.
use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use abi::{
    config::{
        FEATURE_ENCAPSULATE, FEATURE_EVENTS, FEATURE_FLOW_EVENTS, FEATURE_LOG, FEATURE_NATIVE, GATEWAY_MAC, Settings,
    },
    event::Hook,
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{broadcast, watch as latest},
    task::JoinHandle,
};

use crate::{
    Args, Shared, Started, apply,
    apply::StoreError,
    args::Encapsulation,
    condition,
    conflist::{self, ConflistError},
    devices::{self, Devices, DevicesError, HAIRPIN, VXLAN_PORT},
    engine::{self, InForce, Inbox},
    events,
    flows::{self, Flows},
    follow::{self, FollowError},
    foreign::Foreign,
    http::{self, HttpError},
    ipam::{IpamError, Ledger},
    issues, leaks,
    listeners::{self, Listeners},
    load::{self, LoadError, carry, pins::Pins},
    memory, mtu,
    names::Addresses,
    netlink::{Link, Netlink, NetlinkError},
    pods::{PodError, Pods},
    preflight::{self, PreflightError},
    routing::{self, Routing},
    slots::LOCAL_NODE,
    snapshot::{NodeFacts, of_family},
    socket::{self, SocketError},
    takeover, watch,
};

/// Source ports of masqueraded flows: Linux' own range for clients starts here too, and a port that a socket of the
/// host has is left out flow by flow.
const MASQUERADE: (u16, u16) = (32_768, 65_535);
/// After hooks are attached, until nothing of earlier ones runs any more.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two sweeps of expired flows.
const SWEEP: Duration = Duration::from_secs(15);

/// The agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kubeconfig.
    #[error("cannot read the kubeconfig {0}")]
    Kubeconfig(String, #[source] Box<kube::config::KubeconfigError>),
    /// The service account.
    #[error("no --kubeconfig is given, and this is no pod with a service account")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// The client.
    #[error("cannot make a client of the API server")]
    Client(#[source] Box<kube::Error>),
    /// The machine.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Flags that do not fit, each other or the machine.
    #[error("{0}")]
    Flags(String),
    /// Devices and routes.
    #[error(transparent)]
    Devices(#[from] DevicesError),
    /// A request to the kernel.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Programs and maps.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The tables.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// Pods of before.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// The node is not what it was.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The engine ended: a defect, and it has said where.
    #[error("the loop that keeps the tables has ended: a defect, please report it")]
    Engine,
    /// The CNI configuration.
    #[error(transparent)]
    Conflist(#[from] ConflistError),
    /// `/metrics`.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// Runs the agent until it is told to stop. Traffic goes on without it.
///
/// # Errors
/// [`RunError`]: it cannot start.
pub async fn run(args: Args) -> Result<(), RunError> {
    memory::keep_little();
    preflight::check()?;
    args.families().map_err(RunError::Flags)?;
    let timeouts = args.timeouts().map_err(RunError::Flags)?;
    let client = client(args.kubeconfig.as_deref()).await?;
    let inbox = Arc::new(Inbox::default());
    let board = watch::start(&client, &inbox);
    let (publish, in_force) = latest::channel(InForce::default());
    let (sender, _) = broadcast::channel(events::BACKLOG);
    let shared = Arc::new(Shared {
        args,
        timeouts,
        inbox,
        board,
        in_force,
        events: sender,
        listeners: Listeners::default(),
        addresses: Addresses::default(),
        leaks: leaks::Freed::default(),
        waiting_for: Mutex::default(),
        started: std::sync::OnceLock::new(),
        devices: Mutex::default(),
    });
    http::serve(shared.clone()).await?;
    socket::serve(shared.clone()).await?;
    tracing::info!(node = shared.args.node_name, socket = %shared.args.socket.display(), "the agent has begun");
    tokio::select! {
        started = start(&shared, &client, publish) => {
            let (engine, foreign) = started?;
            tracing::info!("the node's network is ready");
            tokio::select! {
                // Whoever restarts the agent gets a fresh one; traffic goes on meanwhile.
                _ = engine => return Err(RunError::Engine),
                followed = follow::run(&shared) => followed?,
                // Not a task of its own: it must not outlive its agent, whose filters the next one replaces.
                () = foreign.follow(&shared) => {}
                () = end() => {}
            }
        }
        () = end() => {}
    }
    if let Some(started) = shared.started.get() {
        hand_over(started);
        started.pods.close();
    }
    tracing::info!("the agent ends; traffic goes on");
    Ok(())
}

pub(crate) async fn client(kubeconfig: Option<&Path>) -> Result<Client, RunError> {
    let config = match kubeconfig {
        Some(path) => {
            let failed = |error| RunError::Kubeconfig(path.display().to_string(), Box::new(error));
            let file = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)?
        }
        None => Config::incluster().map_err(|error| RunError::InCluster(Box::new(error)))?,
    };
    Client::try_from(config).map_err(|error| RunError::Client(Box::new(error)))
}

/// Brings the node's network up; the engine goes on in the background.
async fn start(
    shared: &Arc<Shared>,
    client: &Client,
    publish: latest::Sender<InForce>,
) -> Result<(JoinHandle<()>, Foreign), RunError> {
    let args = &shared.args;
    let netlink = Netlink::open()?;
    let own = addresses(shared).await;
    let ranges: Vec<_> = args.cluster_cidr.iter().chain(&args.service_cidr).copied().collect();
    let peers = mtu::peers(&own, &args.node_name, &shared.inbox.snapshot().nodes, args.routing);
    let alone = mtu::alone(&own, args.routing);
    let pod_mtu = |nic: &Link| mtu::at_start(args.mtu, nic, alone, &peers);
    let devices = devices::ensure(&netlink, &args.device, &own, &ranges, pod_mtu).await?;
    let hand_over = args.hand_over().map_err(RunError::Flags)?;
    let (takeover, mut programs) = takeover::begin(args, settings(shared, &own, &devices), hand_over)?;
    let ring = programs.events()?;
    if args.datapath_log {
        tokio::spawn(events::log(programs.log()?));
    }
    let programs = Arc::new(Mutex::new(programs));
    let store = load::store(&takeover.pins.tables)?;
    let have = apply::read(&store)?;
    let facts = NodeFacts {
        name: args.node_name.as_str().into(),
        own,
        addresses: netlink.addresses().await?,
        host_ifindex: devices.host.index,
        cluster_cidrs: args.cluster_cidr.clone(),
        service_cidrs: args.service_cidr.clone(),
        not_masqueraded: args.not_masqueraded(),
        routing: args.routing,
        accept_native: args.accept_native,
        by_program: args.overlay_encapsulation == Encapsulation::Program,
        nic: devices.nic.name.as_str().into(),
        ..NodeFacts::default()
    };
    shared.inbox.change(|state| state.node = Arc::new(facts));
    let ledger = Ledger::open(&args.state_dir, &boot())?;
    let (inbox, in_force) = (shared.inbox.clone(), shared.in_force.clone());
    let pods = Pods::new(netlink, programs.clone(), ledger, inbox, in_force, devices.pod_mtu);
    let recovered = pods.recover().await?;
    // Nothing is compiled on half the truth, so nothing is deleted that is only not known yet.
    shared.board.wait().await;
    routing::look(shared, &Netlink::open()?, &devices.nic).await;
    let foreign = Foreign::at_start(shared, Netlink::open()?).await;
    let engine = tokio::spawn(engine::run(shared.inbox.clone(), store, have, publish));
    wait_for_first_round(shared).await;
    let attach_all = || attach(&programs, &devices).and_then(|()| pods.attach_all());
    attach_all()?;
    takeover.end(&programs, attach_all)?;
    if args.datapath_log && takeover.pins.former_flows.is_some() {
        let logger = programs.lock().expect("no holder panics").log()?;
        tokio::spawn(events::log(logger));
    }
    tokio::spawn(forget_old_stages(programs.clone()));
    let Pins { flows: set, hand_over, .. } = takeover.pins;
    let maps = load::maps_dir(&args.bpffs);
    let (flows, counters) = (Flows::open(&set, &maps, shared.timeouts)?, load::open(&maps, &abi::map::COUNTERS)?);
    let hand_over = hand_over.map(|other| [set, other]);
    let started = Started { devices: RwLock::new(devices), programs, pods, flows, hand_over, counters };
    assert!(shared.started.set(started).is_ok(), "the start happens once");
    listeners::catch_up(shared)?;
    tracing::info!(pods = recovered, "hooks are attached");
    tokio::spawn(events::read(ring, shared.clone(), shared.events.clone()));
    tokio::spawn(sweep(shared.clone()));
    tokio::spawn(leaks::run(shared.clone()));
    tokio::spawn(mtu::probe::run(shared.clone()));
    let (node, inbox, in_force) = (args.node_name.clone(), shared.inbox.clone(), shared.in_force.clone());
    tokio::spawn(issues::tell(client.clone(), node, inbox, in_force));
    tokio::spawn(condition::keep(client.clone(), shared.clone()));
    if let Some(plugin) = &args.cni_plugin {
        conflist::install(plugin, &args.cni_bin_dir)?;
    }
    conflist::write(&args.cni_conf_dir, &args.socket)?;
    Ok((engine, foreign))
}

/// The addresses of this node's Node object, as soon as there are any: a node writes all of its own at once.
async fn addresses(shared: &Shared) -> Vec<IpAddr> {
    let wait = format!("there is no Node {} with an InternalIP yet", shared.args.node_name);
    shared.waiting_for.lock().expect("no holder panics").push(wait);
    loop {
        let own = shared.own_addresses();
        if !own.is_empty() {
            shared.waiting_for.lock().expect("no holder panics").clear();
            return own;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn wait_for_first_round(shared: &Shared) {
    let mut in_force = shared.in_force.clone();
    // An error means that the engine is gone, and that it has said why.
    let _ = in_force.wait_for(|state| state.rounds > 0).await;
}

fn attach(programs: &Mutex<load::Programs>, devices: &Devices) -> Result<(), LoadError> {
    let mut programs = programs.lock().expect("no holder panics");
    programs.attach(Hook::FromOverlay, &devices.vxlan.name)?;
    programs.attach(Hook::FromHost, &devices.net.name)?;
    programs.attach(Hook::FromNetdev, &devices.nic.name)?;
    programs.attach(Hook::ToNetdev, &devices.nic.name)
}

/// A link that was unpinned lets go of its program some time later, and until then that program calls its own stages.
async fn forget_old_stages(programs: Arc<Mutex<load::Programs>>) {
    tokio::time::sleep(SETTLE).await;
    if let Err(error) = programs.lock().expect("no holder panics").forget_old_stages() {
        tracing::warn!(error = crate::chain(&error), "stages of earlier programs stay pinned");
    }
}

fn settings(shared: &Shared, own: &[IpAddr], devices: &Devices) -> Settings {
    let args = &shared.args;
    let native = args.routing != Routing::Vxlan || args.accept_native;
    let by_program = args.overlay_encapsulation == Encapsulation::Program;
    let optional = [
        (args.flow_events, FEATURE_FLOW_EVENTS),
        (args.datapath_log, FEATURE_LOG),
        (native, FEATURE_NATIVE),
        (by_program, FEATURE_ENCAPSULATE),
    ];
    let features = optional.iter().filter(|(on, _)| *on).fold(FEATURE_EVENTS, |all, (_, bit)| all | bit);
    Settings {
        host4: of_family(own, true),
        host6: of_family(own, false),
        hairpin4: of_family(&HAIRPIN, true),
        hairpin6: of_family(&HAIRPIN, false),
        node: LOCAL_NODE,
        host_ifindex: devices.host.index,
        overlay_ifindex: devices.vxlan.index,
        nic_ifindex: devices.nic.index,
        overlay_port: VXLAN_PORT.to_be(),
        node_port_first: args.service_node_port_range.0,
        node_port_last: args.service_node_port_range.1,
        masquerade_first: MASQUERADE.0,
        masquerade_last: MASQUERADE.1,
        gateway_mac: GATEWAY_MAC,
        features,
        jiffies_per_second: flows::jiffies_per_second(),
        timeouts: shared.timeouts,
        flows_per_pod: args.flows_per_pod(),
    }
}

/// This boot of the machine: what had an address before it has none now.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

async fn sweep(shared: Arc<Shared>) {
    let mut rounds = 0;
    loop {
        tokio::time::sleep(SWEEP).await;
        let shared = shared.clone();
        // Only rounds take much memory for a moment.
        let now = shared.in_force.borrow().rounds;
        let grown = std::mem::replace(&mut rounds, now) != now;
        let sweep = move |started: &Started| {
            if grown {
                memory::hand_back();
            }
            started.pods.fold();
            started.flows.sweep().inspect(|_| hand_over(started))
        };
        let swept = tokio::task::spawn_blocking(move || shared.started.get().map(sweep));
        match swept.await {
            Ok(Some(Ok(count))) => tracing::debug!(count, "expired flows are swept"),
            Ok(Some(Err(error))) => tracing::warn!(%error, "expired flows could not be swept"),
            _ => {}
        }
    }
}

/// Keeps the flow tables of an earlier version up to date: programs write new flows there, and only the times go stale.
fn hand_over(started: &Started) {
    let Some([from, to]) = &started.hand_over else { return };
    if let Err(error) = carry::mirror(from, to) {
        tracing::warn!(error = crate::chain(&error), "the flows of the earlier version's tables are not up to date");
    }
}

/// Returns when somebody wants the agent to end.
async fn end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
