//! The example: the frontend serves through its published port, strangers do not reach the backend, and the agent says
//! who was refused, by which policy.
use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

use agent_api::v1::{Event, MonitorRequest};
use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, header::ACCEPT};
use hyper_util::{client::legacy::Client as Http, rt::TokioExecutor};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, api::ListParams};
use local_cluster::Cluster;
use probe::{Proto, Target};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{fixture::Fixture, report::Report};

/// The example's NodePort, as its manifest has it.
const NODE_PORT: u16 = 30080;
/// Where backends listen.
const BACKEND_PORT: u16 = 8080;
/// The policy that refuses.
const POLICY: &str = "guestbook/backend-from-frontend";
/// How long an event may take from the drop to us.
const PATIENCE: Duration = Duration::from_secs(10);

struct Backend {
    name: String,
    node: String,
    addresses: Vec<IpAddr>,
}

/// All three promises.
pub(super) async fn serves_and_refuses(
    cluster: &Cluster,
    fixture: &Fixture,
    report: &mut Report,
) -> anyhow::Result<()> {
    let client = super::client(cluster).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "guestbook");
    let backends = backends(&pods).await?;
    frontend(cluster, report).await;
    if backends.is_empty() {
        report.add("the guestbook's backend refuses strangers", 0, Vec::new());
        return Ok(());
    }
    let mut drops = watch_drops(cluster, &backends).await?;
    let services: Api<Service> = Api::namespaced(client, "guestbook");
    let service = services.get("backend").await?.spec.and_then(|spec| spec.cluster_ips).unwrap_or_default();
    let service: Vec<IpAddr> = service.iter().map(|ip| ip.parse()).collect::<Result<_, _>>()?;
    anyhow::ensure!(!service.is_empty(), "the backend's Service has no ClusterIP");
    refuses(fixture, &backends, &service, report).await?;
    listed(fixture, &backends, &mut drops, report).await;
    Ok(())
}

async fn frontend(cluster: &Cluster, report: &mut Report) {
    const TRIES: usize = 12;
    let Some(publish) = cluster.spec.publish.iter().find(|publish| publish.node == NODE_PORT) else {
        report.add("the guestbook answers on its published port", 0, Vec::new());
        return;
    };
    let (mut broken, mut frontends) = (Vec::new(), BTreeSet::new());
    for _ in 0..TRIES {
        match ask(publish.host).await {
            Ok(pod) => drop(frontends.insert(pod)),
            Err(error) => broken.push(format!("{error:#}")),
        }
    }
    if broken.is_empty() && frontends.len() < 2 {
        broken.push(format!("only {frontends:?} answered in {TRIES} tries"));
    }
    report.add("the guestbook answers on its published port, by more than one frontend", TRIES, broken);
}

/// The name of the frontend that answered; its answer holds the backend's too.
async fn ask(port: u16) -> anyhow::Result<String> {
    let http: Http<_, Empty<Bytes>> = Http::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let request = Request::get(format!("http://127.0.0.1:{port}/")).header(ACCEPT, "application/json");
    let response =
        timeout(PATIENCE, http.request(request.body(Empty::new())?)).await.context("no answer in time")??;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).with_context(|| format!("status {status}"))?;
    match (answer["frontend"]["pod"].as_str(), answer["backend"]["pod"].as_str()) {
        (Some(frontend), Some(_)) => Ok(frontend.to_owned()),
        _ => bail!("the answer names no pods: {answer}"),
    }
}

async fn backends(pods: &Api<Pod>) -> anyhow::Result<Vec<Backend>> {
    let list = pods.list(&ListParams::default().labels("role=backend")).await?;
    let backend = |pod: &Pod| {
        let ips = pod.status.as_ref()?.pod_ips.as_ref()?;
        let addresses = ips.iter().map(|ip| ip.ip.parse().ok()).collect::<Option<_>>()?;
        Some(Backend { name: pod.metadata.name.clone()?, node: pod.spec.as_ref()?.node_name.clone()?, addresses })
    };
    Ok(list.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).filter_map(backend).collect())
}

/// Every fixture pod is a stranger: it must get no answer, neither from the pods nor through the Service, in no family.
async fn refuses(
    fixture: &Fixture,
    backends: &[Backend],
    service: &[IpAddr],
    report: &mut Report,
) -> anyhow::Result<()> {
    let target = |host: IpAddr, port: u16| Target { proto: Proto::Connect, host, port, timeout_ms: 1000, tries: 1 };
    let pods = backends.iter().flat_map(|backend| &backend.addresses).map(|address| target(*address, BACKEND_PORT));
    let targets: Vec<Target> = pods.chain(service.iter().map(|address| target(*address, 80))).collect();
    let dials = fixture.pods.iter().map(|from| {
        let targets = targets.clone();
        async move { anyhow::Ok((from, from.dial(targets).await?)) }
    });
    let (mut tried, mut broken) = (0, Vec::new());
    for (from, reports) in futures::future::try_join_all(dials).await? {
        for (target, dialled) in targets.iter().zip(reports) {
            tried += 1;
            if dialled.error.as_deref() != Some("timeout") {
                let got = dialled.error.unwrap_or_else(|| "connected".into());
                broken.push(format!("{} → {}:{}: {got}, expected no answer", from.name, target.host, target.port));
            }
        }
    }
    report.add("the guestbook's backend refuses strangers", tried, broken);
    Ok(())
}

/// A stream of drops from the agent of every node that a backend is on.
async fn watch_drops(cluster: &Cluster, backends: &[Backend]) -> anyhow::Result<mpsc::Receiver<Event>> {
    let (sender, receiver) = mpsc::channel(1024);
    let mut streams = JoinSet::new();
    for node in backends.iter().map(|backend| &backend.node).collect::<BTreeSet<_>>() {
        let pid = cluster.node_pid(node)?;
        // Through the node's own mounts: its /run is private.
        let socket = PathBuf::from(format!("/proc/{pid}/root{}", agent_api::SOCKET));
        let channel = agent_api::connect(&socket).await.with_context(|| format!("the agent of {node}"))?;
        let mut agent = agent_api::AgentClient::new(channel);
        let request = MonitorRequest { kinds: vec!["drop".into()], pod: String::new() };
        let mut stream = agent.monitor(request).await.with_context(|| format!("the agent of {node}"))?.into_inner();
        let sender = sender.clone();
        streams.spawn(async move {
            while let Ok(Some(event)) = stream.message().await {
                if sender.send(event).await.is_err() {
                    break;
                }
            }
        });
    }
    streams.detach_all();
    Ok(receiver)
}

/// Each backend's drop is told with the stranger, the backend, the port and the policy.
async fn listed(fixture: &Fixture, backends: &[Backend], drops: &mut mpsc::Receiver<Event>, report: &mut Report) {
    let mut missing: BTreeSet<String> = backends.iter().map(|backend| format!("guestbook/{}", backend.name)).collect();
    let stranger = format!("{}/probe-", fixture.namespace);
    let mut last = String::from("no event came");
    let _ = timeout(PATIENCE, async {
        while let Some(event) = drops.recv().await {
            let (from, to) = (event.source.unwrap_or_default(), event.destination.unwrap_or_default());
            last = format!("{} → {}:{} {} {:?}", from.name, to.name, to.port, event.reason, event.policies);
            let right = from.name.starts_with(&stranger)
                && to.port == u32::from(BACKEND_PORT)
                && event.policies.iter().any(|policy| policy == POLICY);
            if right {
                missing.remove(&to.name);
            }
            if missing.is_empty() {
                break;
            }
        }
    })
    .await;
    let broken = missing.iter().map(|name| format!("{name}: not listed with pod, peer, port and policy; last: {last}"));
    report.add("each refusal is listed with pod, peer, port and policy", backends.len(), broken.collect());
}
