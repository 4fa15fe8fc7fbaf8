//! Who dials: a pod (asked over its control port from its own node), a node, or a client outside.
use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use local_cluster::{Family, netns::Netns};
use probe::{Proto, Report, Target};

use super::addresses::Addresses;

/// Control port of the probe.
pub(super) const CONTROL: u16 = 8082;

/// A place from which packets start.
#[derive(Clone)]
pub(super) struct Caller {
    /// For people.
    pub name: String,
    /// The sources that a server must see if nothing translates.
    pub addresses: Addresses,
    /// The node that it is on; empty outside.
    pub node: String,
    netns: Arc<Netns>,
    pod: bool,
}

impl Caller {
    /// A pod; `netns` is its node's.
    pub(super) fn pod(name: &str, addresses: Addresses, node: &str, netns: Arc<Netns>) -> Caller {
        Caller { name: format!("pod {name} on {node}"), addresses, node: node.to_owned(), netns, pod: true }
    }

    /// A node's own network, or a client's outside.
    pub(super) fn host(name: &str, addresses: Addresses, node: &str, netns: Arc<Netns>) -> Caller {
        Caller { name: name.to_owned(), addresses, node: node.to_owned(), netns, pod: false }
    }

    /// Its address in a family of the cluster.
    pub(super) fn at(&self, family: Family) -> IpAddr {
        self.addresses.of(family)
    }

    /// Asks a pod's control port.
    pub(super) async fn control(&self, path: &str) -> anyhow::Result<String> {
        get(self, CONTROL, path).await.with_context(|| format!("{}: {path}", self.name))
    }

    /// Dials every target, all at once, and returns the reports in order.
    pub(super) async fn dial(&self, targets: Vec<Target>) -> anyhow::Result<Vec<Report>> {
        let (pod, address) = (self.pod, self.addresses.primary());
        inside(&self.netns, move || async move {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let dials = targets.iter().map(|target| one(&client, pod, address, target));
            futures::future::join_all(dials).await
        })
        .await
    }
}

/// What a caller's own address answers on a port, asked from the caller's node.
pub(super) async fn get(caller: &Caller, port: u16, path: &str) -> anyhow::Result<String> {
    let uri: hyper::Uri = format!("http://{}{path}", SocketAddr::new(caller.addresses.primary(), port)).parse()?;
    inside(&caller.netns, move || async move {
        let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let response = client.get(uri).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        anyhow::ensure!(status.is_success(), "{status}: {text}");
        Ok(text)
    })
    .await?
}

async fn one(client: &Client<HttpConnector, Empty<Bytes>>, pod: bool, address: IpAddr, target: &Target) -> Report {
    if !pod {
        return probe::dial::dial(target).await;
    }
    ask(client, address, target).await.unwrap_or_else(|error| Report {
        ok: false,
        error: Some(format!("the probe's control port did not answer: {error:#}")),
        seen: None,
    })
}

async fn ask(client: &Client<HttpConnector, Empty<Bytes>>, pod: IpAddr, target: &Target) -> anyhow::Result<Report> {
    let proto = match target.proto {
        Proto::Tcp => "tcp",
        Proto::Connect => "connect",
        Proto::Udp => "udp",
        Proto::Icmp => "icmp",
    };
    let Target { host, port, timeout_ms, tries, .. } = target;
    let query = format!("proto={proto}&host={host}&port={port}&timeout_ms={timeout_ms}&tries={tries}");
    let uri = format!("http://{}/dial?{query}", SocketAddr::new(pod, CONTROL));
    let response = client.get(uri.parse()?).await?;
    let body = response.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&body).with_context(|| String::from_utf8_lossy(&body).into_owned())
}

/// Runs a future on a thread of its own in the namespace, where it may open sockets.
pub(super) async fn inside<T, F, W>(netns: &Netns, work: W) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
    W: FnOnce() -> F + Send + 'static,
{
    let netns = netns.try_clone()?;
    let outcome = tokio::task::spawn_blocking(move || {
        netns.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok::<T, std::io::Error>(runtime.block_on(work()))
        })
    });
    Ok(outcome.await???)
}
