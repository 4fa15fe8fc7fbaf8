//! The node side: pods to real containers, and the kubelet's duties to the API server.
//!
//! ```text
//! pods (watch) → pod_worker → plan (pure) → runtime (trait) → helper processes, CNI plugins
//!                     └────→ status (pure) → API server             register, lease, events
//! ```
//!
//! The runtime does not know pods, `plan` and `status` do no I/O, and nothing here knows how pods reach each other: that
//! is the CNI plugin's business.

mod address;
mod backoff;
pub mod cni;
mod context;
mod env;
mod events;
mod hosts;
pub mod image;
mod image_gc;
mod lease;
mod limits;
mod logs;
mod plan;
mod pod_worker;
mod pods;
mod probes;
mod register;
pub mod runtime;
mod server;
mod status;
mod volumes;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Config};

pub use address::{Error as AddressError, NodeIps};
pub use image_gc::Thresholds;
pub use server::Error as ServerError;

/// Where a kubelet answers.
const PORT: u16 = 10250;

/// `weft node`: runs the pods that are bound to one node.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of the Node object.
    #[arg(long)]
    pub node_name: String,
    /// The node's InternalIP; in dual stack one per family, the primary one first
    #[arg(long, value_name = "A[,B]")]
    pub node_ip: NodeIps,
    /// How to reach the API server, as system:node:NAME.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Where containers, volumes and logs are kept.
    #[arg(long)]
    pub state_dir: PathBuf,
    /// Where images are kept; may be shared by several nodes of one machine.
    #[arg(long)]
    pub image_store: PathBuf,
    /// Holds the network configuration lists (*.conflist).
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Holds the network plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Certificate of the node's own API, PEM.
    #[arg(long)]
    pub serving_cert: PathBuf,
    /// Its key, PEM.
    #[arg(long)]
    pub serving_key: PathBuf,
    /// CA of the API server's client certificate, PEM.
    #[arg(long)]
    pub client_ca: PathBuf,
    /// Cgroup of the node in every hierarchy; pods are below its `pods`.
    #[arg(long, default_value = "/weft")]
    pub cgroup_root: String,
    /// Where the node's own API listens [default: port 10250 on every address of the node's families]
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// When images that nothing uses are removed.
    #[command(flatten)]
    pub image_gc: image_gc::Thresholds,
}

/// Why the node could not be started. Once it runs, nothing ends it but a signal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node's addresses.
    #[error("--node-ip")]
    Address(#[from] address::Error),
    /// The kubeconfig cannot be used.
    #[error("use kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The client cannot be made.
    #[error("prepare the connection to the API server")]
    Client(#[source] Box<kube::Error>),
    /// A directory cannot be made.
    #[error("create {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The image store.
    #[error(transparent)]
    Images(#[from] image::Error),
    /// The container runtime.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// The node's own API.
    #[error(transparent)]
    Server(#[from] server::Error),
}

/// Runs the node until the process is ended. Containers outlive it.
pub async fn run(args: Args) -> Result<(), Error> {
    // Installed already where other parts of the binary came first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    args.node_ip.find()?;
    // Made by this process only, and read by it only: secrets are below it.
    make_private(&args.state_dir)?;
    let files = server::Files { cert: &args.serving_cert, key: &args.serving_key, client_ca: &args.client_ca };
    let listen = args.listen.unwrap_or_else(|| everywhere(args.node_ip));
    let (listener, tls) = server::bind(listen, &files).await?;
    let runtime = runtime::embedded::Embedded::open(runtime::embedded::Settings {
        state_dir: args.state_dir.clone(),
        store: image::Store::open(&args.image_store)?,
        cni: cni::Cni { conf_dir: args.cni_conf_dir.clone(), bin_dir: args.cni_bin_dir.clone() },
        cgroup_root: args.cgroup_root.clone(),
        netns_dir: PathBuf::from("/run/netns"),
    })?;
    let network = runtime.keep_network_clean();
    let client = connect(&args).await?;
    let (services, writer) = reflector::store();
    let node = Arc::new(context::Node {
        events: events::Recorder::start(client.clone(), &args.node_name),
        name: args.node_name,
        ips: args.node_ip,
        port: listen.port(),
        runtime: Arc::new(runtime),
        allocatable: register::measure(&args.state_dir),
        state_dir: args.state_dir,
        client: client.clone(),
        services,
    });
    tracing::info!(node = node.name, ip = %node.ips, "the node runs");
    let pods = pods::Pods::default();
    tokio::join!(
        register::keep(node.clone()),
        lease::keep(client.clone(), node.name.clone()),
        keep_services(client, writer),
        pods::keep(node.clone(), pods.clone()),
        server::serve(listener, tls, node.clone(), pods),
        image_gc::keep(node.clone(), args.image_store, args.image_gc),
        network,
    );
    Ok(())
}

/// The wildcard that takes every family of the node: the IPv6 one takes IPv4 too.
fn everywhere(ips: NodeIps) -> SocketAddr {
    let any =
        if ips.iter().all(|ip| ip.is_ipv4()) { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, PORT)
}

fn make_private(dir: &std::path::Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| Error::Directory { path: dir.to_owned(), source })
}

async fn connect(args: &Args) -> Result<Client, Error> {
    let broken =
        |source: KubeconfigError| Error::Kubeconfig { path: args.kubeconfig.clone(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(&args.kubeconfig).map_err(broken)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(broken)?;
    Client::try_from(config).map_err(|source| Error::Client(Box::new(source)))
}

/// Keeps the Services of the cluster at hand.
async fn keep_services(client: Client, writer: reflector::store::Writer<Service>) {
    let stream = watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff();
    let mut stream = pin!(reflector(writer, stream));
    while let Some(event) = stream.next().await {
        if let Err(error) = event {
            tracing::warn!(%error, "the watch on Services is interrupted");
        }
    }
}

/// An error with its causes on one line, as events and conditions print it.
pub(crate) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
