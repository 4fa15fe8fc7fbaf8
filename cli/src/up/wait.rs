//! Waiting for a condition with a deadline; a wait that is in vain says what it last saw and where to read on.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::{
    apps::v1::Deployment as DeploymentObject,
    core::v1::{Node, Pod},
};
use kube::{Api, Client, api::ListParams};
use local_cluster::Cluster;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::apply::Deployment;
use crate::progress::Progress;

const PAUSE: Duration = Duration::from_millis(100);

/// The API server says that it is ready.
pub(crate) async fn server(cluster: &Cluster, client: &Client, progress: &mut Progress) -> anyhow::Result<()> {
    let log = cluster.paths.logs().join("server.log");
    let look = async || {
        let request = kube_request("/readyz")?;
        match client.request_text(request).await {
            Ok(_) => Ok(None),
            Err(error) => Ok(Some(error.to_string())),
        }
    };
    let more = || format!("the API server does not become ready; {} ends with: {}", log.display(), last_line(&log));
    until(60, progress, look).await.with_context(more)
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("nothing").to_owned()
}

fn kube_request(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

/// Every node is registered and Ready.
pub(crate) async fn nodes(cluster: &Cluster, client: &Client, progress: &mut Progress) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let wanted = cluster.spec.node_names();
    let logs = cluster.paths.node("NODE").join("log");
    let look = async || {
        let nodes = api.list(&ListParams::default()).await?;
        let missing: Vec<String> = wanted.iter().filter_map(|name| not_ready(&nodes.items, name)).collect();
        Ok((!missing.is_empty()).then(|| missing.join("; ")))
    };
    until(120, progress, look)
        .await
        .with_context(|| format!("nodes do not become Ready; logs are in {}", logs.display()))
}

/// Why the node is not Ready; `None` if it is.
fn not_ready(nodes: &[Node], name: &str) -> Option<String> {
    let Some(node) = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name)) else {
        return Some(format!("{name}: not registered"));
    };
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
    match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!("{name}: {}", ready.message.as_deref().unwrap_or("not Ready"))),
        None => Some(format!("{name}: no Ready condition")),
    }
}

/// Every deployment has all its replicas in the newest version and available.
pub(crate) async fn rollouts(
    cluster: &Cluster,
    client: &Client,
    deployments: &[Deployment],
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let look = async || {
        let mut missing = Vec::new();
        for deployment in deployments {
            let api: Api<DeploymentObject> = Api::namespaced(client.clone(), &deployment.namespace);
            let object = api.get(&deployment.name).await?;
            if let Some(state) = not_rolled_out(&object) {
                let pods = pods(client, &deployment.namespace).await?;
                missing.push(format!("{}/{}: {state}{pods}", deployment.namespace, deployment.name));
            }
        }
        Ok((!missing.is_empty()).then(|| missing.join("; ")))
    };
    let kubeconfig = cluster.paths.admin_kubeconfig();
    let more = || {
        format!("deployments do not become available; see KUBECONFIG={} kubectl get events -A", kubeconfig.display())
    };
    until(180, progress, look).await.with_context(more)
}

/// `kubectl rollout status`'s conditions.
fn not_rolled_out(deployment: &DeploymentObject) -> Option<String> {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Some("not yet seen by its controller".to_owned());
    }
    let count = |number: Option<i32>| number.unwrap_or_default();
    let (updated, available, all) =
        (count(status.updated_replicas), count(status.available_replicas), count(status.replicas));
    let done = updated >= wanted && available >= updated && all <= updated;
    (!done).then(|| format!("{updated} of {wanted} updated, {available} available"))
}

/// What pods of a namespace wait for.
async fn pods(client: &Client, namespace: &str) -> anyhow::Result<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = api.list(&ListParams::default()).await?;
    let waits: Vec<String> = pods.items.iter().filter_map(waiting).collect();
    Ok(waits.first().map(|wait| format!(" ({wait})")).unwrap_or_default())
}

fn waiting(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let mut states = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    if let Some(state) = states.next() {
        let (reason, message) =
            (state.reason.as_deref().unwrap_or_default(), state.message.as_deref().unwrap_or_default());
        return Some(format!("{name}: {reason} {message}").trim_end().to_owned());
    }
    let conditions = status.conditions.iter().flatten();
    let mut unscheduled =
        conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    unscheduled.next().map(|condition| format!("{name}: {}", condition.message.as_deref().unwrap_or_default()))
}

/// Something answers HTTP on every published port.
pub(crate) async fn published(cluster: &Cluster, progress: &mut Progress) -> anyhow::Result<()> {
    let look = async || {
        for publish in &cluster.spec.publish {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, publish.host));
            if let Err(error) = answers(address).await {
                return Ok(Some(format!("{address} (NodePort {}): {error:#}", publish.node)));
            }
        }
        Ok(None)
    };
    until(60, progress, look).await.context("a published port does not answer")
}

async fn answers(address: SocketAddr) -> anyhow::Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange).await.context("no answer within 5 s")??;
    let line = answer.split(|byte| *byte == b'\r').next().map(String::from_utf8_lossy).unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => Ok(()),
        Some(_) => Err(anyhow!("{line}")),
        None => Err(anyhow!("closed without an answer")),
    }
}

/// Looks again and again: `None` is done, `Some` what is missing. An error of the look itself may pass, too.
async fn until(
    seconds: u64,
    progress: &mut Progress,
    look: impl AsyncFn() -> anyhow::Result<Option<String>>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let missing = match look().await {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            return Err(anyhow!("after {seconds} s: {missing}"));
        }
        progress.note(&missing);
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_rollout(status: &serde_json::Value, done: bool) {
        let object = serde_json::json!({ "metadata": { "generation": 2 }, "spec": { "replicas": 3, "selector": {}, "template": {} }, "status": status });
        let deployment: DeploymentObject = serde_json::from_value(object).expect("a deployment");
        assert_eq!(not_rolled_out(&deployment).is_none(), done, "{deployment:?}");
    }

    #[test]
    fn rollout() {
        use serde_json::json;
        check_rollout(
            &json!({ "observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 }),
            true,
        );
        check_rollout(
            &json!({ "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 }),
            false,
        );
        check_rollout(
            &json!({ "observedGeneration": 2, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 3 }),
            false,
        );
        check_rollout(
            &json!({ "observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2 }),
            false,
        );
        check_rollout(&json!({}), false);
    }
}
