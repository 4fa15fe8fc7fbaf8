//! A power cut of the last node: its first process is killed, and it stays off until its pods run elsewhere. Then it
//! returns as an empty machine, takes pods again and reaches every other.
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, Service},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use local_cluster::{Cluster, IpFamily};
use probe::{Proto, Target};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use super::super::{
    caller::Caller,
    fixture::{Fixture, TCP, listen},
    reach,
    report::Report,
};

/// Name of the Deployment and of its Service.
const NAME: &str = "lost";
/// The node controller's grace (50 s) and what it may take to notice.
const UNREACHABLE: Duration = Duration::from_secs(60);
/// That, the pods' toleration (10 s), and the start of their successors.
const REPLACED: Duration = Duration::from_secs(90);
/// How long the node may take to come back.
const REJOINED: Duration = Duration::from_secs(60);
/// After the node is marked, tables everywhere leave it out within this.
const TABLES: Duration = Duration::from_secs(3);
/// An answer later than this is none.
const LATE: Duration = Duration::from_millis(500);
/// How long a request waits all the same, to tell how late: a second is a SYN that was sent again, so the first was lost or
/// went to the lost node.
const PATIENCE_MS: u64 = 2_000;
/// Between two requests to the Service.
const PERIOD: Duration = Duration::from_millis(100);

struct Lost {
    client: Client,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    replicas: usize,
    node: String,
}

/// Cuts, waits, returns the power, and reports.
pub(in crate::check) async fn cut(cluster: &Cluster, fixture: &mut Fixture, report: &mut Report) -> anyhow::Result<()> {
    if fixture.nodes.len() < 2 {
        return Ok(());
    }
    let client = super::super::client(cluster).await?;
    let (lost, address) = Lost::create(client.clone(), fixture).await?;
    let caller =
        fixture.pods.iter().find(|pod| pod.node == fixture.nodes[0].node).context("a probe on node-1")?.clone();
    let (stop, stopped) = watch::channel(false);
    let target = Target { proto: Proto::Tcp, host: address, port: 80, timeout_ms: PATIENCE_MS, tries: 1 };
    let requests = tokio::spawn(ask(caller, target, stopped));
    let old = lost.on_node().await?;
    // A descriptor of ours would keep the dead node's network alive.
    fixture.forget(&lost.node);
    let start = Instant::now();
    cluster.power_off(&lost.node)?;
    let gone = lost.replaced(start, report).await;
    stop.send_replace(true);
    let tally = requests.await.context("the requests")?;
    let powered = Instant::now();
    cluster.power_on(&lost.node)?;
    let marked = gone?;
    tally.report(&lost.node, start, marked, report);
    lost.rejoins(&old, powered, report).await?;
    lost.deployments.delete(NAME, &DeleteParams::default()).await?;
    let again = Fixture::create(&client, cluster).await.context("pods on the node that came back")?;
    let mut reached = Report::default();
    let mut outcome = Ok(());
    for family in again.families.families().iter().copied() {
        outcome = outcome.and(reach::pods_to_pods(&again, family, &mut reached).await);
    }
    again.remove(&client).await;
    outcome?;
    report.merge(format!("power cut of {}: new pods run there, every pod reaches every pod", lost.node), reached);
    Ok(())
}

impl Lost {
    async fn create(client: Client, fixture: &Fixture) -> anyhow::Result<(Lost, std::net::IpAddr)> {
        let namespace = &fixture.namespace;
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let lost = Lost {
            deployments: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            replicas: fixture.nodes.len() * 2,
            node: fixture.nodes.last().context("the cluster has no nodes")?.node.clone(),
            client,
        };
        let deployment = serde_json::from_value(deployment(lost.replicas, fixture.families))
            .context("the check's own Deployment")?;
        lost.deployments.create(&PostParams::default(), &deployment).await.context("creating Deployment lost")?;
        let service = serde_json::from_value(json!({
            "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": TCP}]},
        }))?;
        let service = services.create(&PostParams::default(), &service).await.context("creating Service lost")?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).context("Service lost has no ClusterIP")?;
        let start = Instant::now();
        while lost.ready().await?.len() < lost.replicas {
            anyhow::ensure!(start.elapsed() < REJOINED, "Deployment lost is not ready");
            sleep(PERIOD).await;
        }
        anyhow::ensure!(!lost.on_node().await?.is_empty(), "no pod of Deployment lost is on {}", lost.node);
        Ok((lost, address.parse()?))
    }

    async fn list(&self) -> anyhow::Result<Vec<Pod>> {
        Ok(self.pods.list(&ListParams::default().labels("app=lost")).await?.items)
    }

    /// Ready pods that are not about to go, with their nodes.
    async fn ready(&self) -> anyhow::Result<Vec<String>> {
        let list = self.list().await?;
        let good = list.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod));
        Ok(good.filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect())
    }

    /// Names of the pods that are bound to the lost node.
    async fn on_node(&self) -> anyhow::Result<BTreeSet<String>> {
        let here = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(self.node.as_str());
        Ok(self.list().await?.into_iter().filter(here).filter_map(|pod| pod.metadata.name).collect())
    }

    async fn node_is_ready(&self) -> anyhow::Result<(bool, Vec<String>)> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get(&self.node).await?;
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        Ok((ready, taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()))
    }

    /// Waits until all pods run elsewhere; tells when the node was marked.
    async fn replaced(&self, start: Instant, report: &mut Report) -> anyhow::Result<Duration> {
        let mut marked = None;
        loop {
            if marked.is_none() && !self.node_is_ready().await?.0 {
                marked = Some(start.elapsed());
            }
            let ready = self.ready().await?;
            let elsewhere = ready.iter().filter(|node| **node != self.node).count();
            if let Some(marked) = marked.filter(|_| elsewhere == self.replicas) {
                let (took, node) = (start.elapsed(), &self.node);
                let late = (marked > UNREACHABLE).then(|| format!("marked only after {:.1} s", marked.as_secs_f64()));
                report.add(
                    format!(
                        "power cut of {node}: its pods run elsewhere (marked after {:.1} s, replaced after {:.1} s)",
                        marked.as_secs_f64(),
                        took.as_secs_f64()
                    ),
                    self.replicas,
                    late.into_iter().collect(),
                );
                return Ok(marked);
            }
            if start.elapsed() > REPLACED {
                bail!(
                    "{} s after the power cut {elsewhere} of {} pods run elsewhere",
                    REPLACED.as_secs(),
                    self.replicas
                );
            }
            sleep(PERIOD).await;
        }
    }

    /// Waits until the node is as a new one: Ready, no taints, none of its old pods.
    async fn rejoins(&self, old: &BTreeSet<String>, start: Instant, report: &mut Report) -> anyhow::Result<()> {
        loop {
            let (ready, taints) = self.node_is_ready().await?;
            let left: Vec<String> = self.on_node().await?.intersection(old).cloned().collect();
            let mut broken = Vec::new();
            if !ready {
                broken.push(format!("{} is not Ready", self.node));
            }
            broken.extend(taints.iter().map(|taint| format!("{} has the taint {taint}", self.node)));
            broken.extend(left.iter().map(|name| format!("pod {name} is still there")));
            if broken.is_empty() || start.elapsed() > REJOINED {
                let took = start.elapsed().as_secs_f64();
                let promise = format!("power cut of {}: it rejoins, its old pods are gone ({took:.1} s)", self.node);
                report.add(promise, 2 + old.len(), broken);
                return Ok(());
            }
            sleep(PERIOD).await;
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn deployment(replicas: usize, families: IpFamily) -> serde_json::Value {
    let tolerates =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10});
    json!({
        "metadata": {"name": NAME},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [tolerates("node.kubernetes.io/not-ready"), tolerates("node.kubernetes.io/unreachable")],
                    "containers": [{
                        "name": "probe",
                        "image": "probe:1.0",
                        "args": ["serve"],
                        "env": [{"name": "LISTEN", "value": listen(families)}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8082}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

/// Requests to the Service: how many, and those that failed.
struct Tally {
    tried: usize,
    failed: Vec<Failed>,
}

struct Failed {
    began: Instant,
    why: String,
    /// There was an answer, but late.
    late: bool,
}

async fn ask(caller: Caller, target: Target, mut stopped: watch::Receiver<bool>) -> Tally {
    let mut tally = Tally { tried: 0, failed: Vec::new() };
    while !*stopped.borrow_and_update() && stopped.has_changed().is_ok() {
        let began = Instant::now();
        tally.tried += 1;
        let (why, late) = match caller.dial(vec![target.clone()]).await {
            Ok(reports) if reports[0].ok => {
                let took = began.elapsed();
                ((took > LATE).then(|| format!("answered only after {} ms", took.as_millis())), true)
            }
            Ok(reports) => (Some(reports[0].error.clone().unwrap_or_default()), false),
            Err(error) => (Some(format!("{error:#}")), false),
        };
        tally.failed.extend(why.map(|why| Failed { began, why, late }));
        sleep(PERIOD).await;
    }
    tally
}

impl Tally {
    fn report(&self, node: &str, start: Instant, marked: Duration, report: &mut Report) {
        let after = |failed: &Failed| failed.began.saturating_duration_since(start);
        let last = self.failed.last().map_or(Duration::ZERO, after);
        let late = self.failed.iter().filter(|failed| failed.late).count();
        let promise = format!(
            "power cut of {node}: the Service leaves it (every request answered after {:.1} s; before, {} of {} had no \
             answer and {late} a late one)",
            last.as_secs_f64(),
            self.failed.len() - late,
            self.tried
        );
        let limit = marked + TABLES;
        let broken = self.failed.iter().filter(|failed| after(failed) > limit).map(|failed| {
            format!("a request failed {:.1} s after the cut: {}", after(failed).as_secs_f64(), failed.why)
        });
        report.add(promise, self.tried, broken.collect());
    }
}
