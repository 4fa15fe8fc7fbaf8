//! `weft server`: puts the API server together and runs it.
//!
//! Order: keys, store, copy in memory, the cluster's own objects, listeners, controllers. It serves only when its own
//! objects are there, so that nobody meets a cluster without namespaces or roles.
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::allocators::Allocators;
use crate::authn::Tokens;
use crate::authz::Rbac;
use crate::controller_api::ControllerApi;
use crate::http;
use crate::kubelet::Kubelet;
use crate::pki::{self, Authority};
use crate::ranges::Ranges;
use crate::registry::{Registry, Settings};
use crate::storage::cache::Cache;
use crate::storage::embedded::Embedded;
use crate::storage::{self, Storage};

mod bootstrap;
mod flags;
mod inherited;
mod kubernetes_service;
mod role;
mod tls;

/// The log reaches back at least this long.
const KEEP_LOG: Duration = Duration::from_secs(300);
const COMPACT_EVERY: Duration = Duration::from_secs(30);

/// The API server of a cluster
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the store and the keys are
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Address to listen on; may be given again
    #[arg(long)]
    pub listen: Vec<SocketAddr>,
    /// Listening socket that the parent process opened; may be given again
    #[arg(long)]
    pub listen_fd: Vec<i32>,
    /// Address by which pods reach this server
    #[arg(long)]
    pub advertise_address: IpAddr,
    /// Another address for the server's certificate, such as a node's; may be given again
    #[arg(long)]
    pub tls_san: Vec<IpAddr>,
    /// Range of Services, or one of each family with a comma between: the first is the primary family
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cidr: Ranges,
    /// Range of pods, or one of each family with a comma between; each node gets a piece of each
    #[arg(long, default_value = "10.244.0.0/16")]
    pub cluster_cidr: Ranges,
    /// Prefix length of a node's IPv4 piece
    #[arg(long, visible_alias = "node-cidr-mask-size-ipv4", default_value_t = 24)]
    pub node_cidr_mask_size: u8,
    /// Prefix length of a node's IPv6 piece
    #[arg(long, default_value_t = 64)]
    pub node_cidr_mask_size_ipv6: u8,
    /// Range of node ports
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: PortRange,
}

/// First and last port.
pub type PortRange = (u16, u16);

fn port_range(text: &str) -> Result<PortRange, String> {
    let parsed = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    parsed.filter(|(first, last)| first <= last && *first > 0).ok_or_else(|| format!("{text} is not like 30000-32767"))
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Keys and certificates.
    #[error("cannot prepare the cluster's keys")]
    Pki(#[from] pki::Error),
    /// The store.
    #[error("cannot open the store {}", path.display())]
    Store {
        /// Its file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: storage::Error,
    },
    /// The token key.
    #[error("cannot use the service-account key")]
    Tokens(#[from] jsonwebtoken::errors::Error),
    /// TLS.
    #[error("cannot set up TLS")]
    Tls(#[from] tls::Error),
    /// A listener.
    #[error("cannot listen on {place}")]
    Listen {
        /// Its address or descriptor.
        place: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Neither `--listen` nor `--listen-fd`.
    #[error("nothing to listen on: give --listen or --listen-fd")]
    NoListener,
    /// Flags about addresses that do not go together.
    #[error(transparent)]
    Flags(#[from] flags::Error),
    /// The cluster's own objects.
    #[error("cannot make the cluster's own objects: {0}")]
    Bootstrap(#[source] api::status::Status),
    /// Signals.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs the API server until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start.
pub async fn run(args: Args) -> Result<(), Error> {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(Error::Signals)?;
    let server = Running::start(&args).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result.map_err(Error::Signals)?,
    }
    tracing::info!("the API server stops");
    server.stop().await;
    Ok(())
}

/// A server that runs in this process.
pub struct Running {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    controllers: std::thread::JoinHandle<()>,
    storage: Arc<dyn Storage>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Starts one; when this returns it serves.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn start(args: &Args) -> Result<Self, Error> {
        flags::check(args)?;
        pki::make_data_dir(&args.data_dir)?;
        let listeners = listeners(args).await?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let authority = Authority::open(&args.data_dir)?;
        let registry = open(args).await?;
        kubernetes_service::check(&registry, &args.service_cidr)?;
        bootstrap::run(&registry).await.map_err(Error::Bootstrap)?;
        let port = addresses.first().map_or(6443, SocketAddr::port);
        let myself = SocketAddr::new(args.advertise_address, port);
        kubernetes_service::ensure(&registry, myself).await.map_err(Error::Bootstrap)?;
        let tokens = Arc::new(Tokens::new(&authority, Arc::clone(&registry.cache))?);
        let names =
            addresses.iter().map(SocketAddr::ip).chain([args.advertise_address]).chain(args.tls_san.iter().copied());
        let names = pki::server_names(registry.allocators.first_address(), names);
        let acceptor = tls::acceptor(&authority, &authority.serving("kube-apiserver", &names)?)?;
        let client = authority.client(pki::KUBELET_CLIENT, &[crate::authn::MASTERS.to_owned()])?;
        let kubelet = Kubelet::new(tls::client(&authority, &client)?);
        let server = Arc::new(http::Server::new(Arc::clone(&registry), tokens, kubelet));
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(http::serve(Arc::clone(&server), listener, acceptor.clone()));
        }
        tasks.spawn(compact(Arc::clone(&registry)));
        tasks.spawn(kubernetes_service::keep(Arc::clone(&registry), myself));
        let stop = Arc::new(AtomicBool::new(false));
        let storage = Arc::clone(registry.cache.storage());
        let api = ControllerApi::new(registry, tokio::runtime::Handle::current());
        let controllers = controllers::runner::run(Arc::new(api), settings(args, &authority), Arc::clone(&stop));
        tracing::info!(?addresses, "the API server serves");
        Ok(Self { addresses, stop, controllers, storage, tasks })
    }

    /// Stops it: no more requests, controllers done. What was acknowledged is on the disk already.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let controllers = tokio::task::spawn_blocking(move || self.controllers.join());
        if tokio::time::timeout(Duration::from_secs(5), controllers).await.is_err() {
            tracing::warn!("the controllers did not stop in time");
        }
        self.tasks.shutdown().await;
        self.storage.close().await;
    }
}

async fn open(args: &Args) -> Result<Arc<Registry>, Error> {
    let path = args.data_dir.join("store.redb");
    let failed = |source| Error::Store { path: path.clone(), source };
    let storage: Arc<dyn Storage> = Arc::new(Embedded::open(&path).map_err(failed)?);
    let cache = Cache::start(storage).await.map_err(failed)?;
    let (first, last) = args.service_node_port_range;
    let ports: RangeInclusive<u16> = first..=last;
    Ok(Arc::new(Registry {
        rbac: Arc::new(Rbac::new(Arc::clone(&cache))),
        allocators: Allocators::new(&cache, args.service_cidr.clone(), ports),
        settings: Settings::default(),
        cache,
    }))
}

async fn listeners(args: &Args) -> Result<Vec<TcpListener>, Error> {
    let mut listeners = Vec::new();
    for address in &args.listen {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.map_err(|source| Error::Listen { place: address.to_string(), source })?);
    }
    for descriptor in &args.listen_fd {
        let listener = inherited::listener(*descriptor);
        let place = || format!("the inherited descriptor {descriptor}");
        listeners.push(listener.map_err(|source| Error::Listen { place: place(), source })?);
    }
    if listeners.is_empty() { Err(Error::NoListener) } else { Ok(listeners) }
}

fn settings(args: &Args, authority: &Authority) -> controllers::settings::Settings {
    controllers::settings::Settings {
        cluster_cidrs: args.cluster_cidr.iter().collect(),
        service_cidrs: args.service_cidr.iter().collect(),
        node_mask_v4: args.node_cidr_mask_size,
        node_mask_v6: args.node_cidr_mask_size_ipv6,
        root_ca_pem: authority.certificate.clone(),
        ..controllers::settings::Settings::default()
    }
}

/// Forgets what happened more than `KEEP_LOG` ago.
async fn compact(registry: Arc<Registry>) {
    let mut marks = std::collections::VecDeque::new();
    loop {
        marks.push_back((tokio::time::Instant::now(), registry.cache.applied()));
        tokio::time::sleep(COMPACT_EVERY).await;
        let mut due = None;
        while let Some(&(at, revision)) = marks.front()
            && at.elapsed() > KEEP_LOG
        {
            due = Some(revision);
            marks.pop_front();
        }
        if let Some(revision) = due
            && let Err(error) = registry.cache.compact(revision).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the store was not compacted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::port_range;

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Ok((30000, 32767)));
        for text in ["", "1", "0-5", "9-8", "a-b", "1-70000"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }
}
