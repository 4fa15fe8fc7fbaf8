//! The traffic under which things die: 1,000 datagrams a second and 50 connections, over three ways: pod to pod on another
//! node, pod to a ClusterIP with its backend on another node, outside to a NodePort of a node without the backend. In dual
//! stack the second is IPv4 and the others are IPv6.
use std::sync::Arc;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, api::PostParams};
use probe::sequence::{self, Outcome, Plan};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, Instant, sleep},
};

use super::super::{
    addresses::Addresses,
    caller::{self, Caller},
    expect::{self, Expect},
    fixture::{self, ECHO, Fixture},
};

/// Name of the Service whose backends are on the last node only.
const SERVICE: &str = "far";
/// How long the new Service may take to answer everywhere.
const PATIENCE: Duration = Duration::from_secs(10);

/// The Service `far`.
pub(super) struct Target {
    addresses: Addresses,
    port: u16,
    node_ports: (u16, u16),
}

/// Traffic that flows.
pub(super) struct Traffic {
    ways: Vec<(String, Way)>,
    receivers: Vec<Caller>,
    overflow: u64,
}

enum Way {
    Pod(Caller),
    Outside(watch::Sender<bool>, JoinHandle<anyhow::Result<std::io::Result<Outcome>>>),
}

/// What came of it, way by way.
pub(super) struct Outcomes {
    ways: Vec<(String, Outcome)>,
    /// What the receivers' full buffers refused.
    overflow: u64,
}

impl Target {
    /// Makes the Service and waits until every node's tables have it.
    pub(super) async fn create(client: &Client, fixture: &Fixture) -> anyhow::Result<Target> {
        let services: Api<Service> = Api::namespaced(client.clone(), &fixture.namespace);
        let far = &fixture.nodes.last().context("the cluster has no nodes")?.node;
        let port = |name: &str, proto: &str| json!({"name": name, "protocol": proto, "port": ECHO, "targetPort": ECHO});
        let service = json!({
            "metadata": {"name": SERVICE},
            "spec": {
                "type": "NodePort",
                "selector": {"probe": "pod", "node": far},
                "ports": [port("tcp", "TCP"), port("udp", "UDP")],
            },
        });
        let service = serde_json::from_value(fixture::in_families(service, fixture.families))?;
        let made = services.create(&PostParams::default(), &service).await.context("creating Service far")?;
        let spec = made.spec.context("Service far has no spec")?;
        let told = spec.cluster_ips.iter().flatten().map(String::as_str);
        let addresses = Addresses::read("Service far", fixture.families, told)?;
        let ports = spec.ports.unwrap_or_default();
        let node_port = |index: usize| -> anyhow::Result<u16> {
            let port = ports.get(index).and_then(|port| port.node_port).context("Service far has no node port")?;
            Ok(u16::try_from(port)?)
        };
        let target = Target { addresses, port: ECHO, node_ports: (node_port(0)?, node_port(1)?) };
        target.answers(fixture).await?;
        Ok(target)
    }

    async fn answers(&self, fixture: &Fixture) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let to = |host, port| vec![Expect::answer(SERVICE, probe::Proto::Connect, host, port)];
            let mut plan = Vec::new();
            for family in fixture.families.families().iter().copied() {
                plan.push((near(fixture)?.clone(), to(self.addresses.of(family), self.port)));
                plan.push((fixture.outside.clone(), to(fixture.nodes[0].at(family), self.node_ports.0)));
            }
            let (_, broken) = expect::all(plan).await?;
            if broken.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("Service {SERVICE} does not answer: {}", broken.join("; "));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A pod on the first node.
fn near(fixture: &Fixture) -> anyhow::Result<&Caller> {
    let first = &fixture.nodes[0].node;
    fixture.pods.iter().find(|pod| &pod.node == first).with_context(|| format!("no probe is on {first}"))
}

impl Traffic {
    /// Starts all three ways.
    pub(super) async fn start(fixture: &Fixture, target: &Target) -> anyhow::Result<Traffic> {
        let near_node = &fixture.nodes[0].node;
        let far = &fixture.nodes.last().context("the cluster has no nodes")?.node;
        let mut near = fixture.pods.iter().filter(|pod| &pod.node == near_node);
        let (one, two) = near.next().zip(near.next()).context("two probes on the first node")?;
        let receivers: Vec<Caller> = fixture.pods.iter().filter(|pod| &pod.node == far).cloned().collect();
        let peer = receivers.first().context("a probe on the last node")?;
        let plan = |host, tcp, udp, per_second, connections| Plan { host, tcp, udp, per_second, connections };
        let overflow = overflow(&receivers).await?;
        let families = fixture.families.families();
        let (first, last) = (families[0], families[families.len() - 1]);
        begin(one, &plan(peer.at(last), ECHO, ECHO, 334, 20)).await?;
        begin(two, &plan(target.addresses.of(first), target.port, target.port, 333, 15)).await?;
        let (stop, stopped) = watch::channel(false);
        let outer = plan(fixture.nodes[0].at(last), target.node_ports.0, target.node_ports.1, 333, 15);
        let netns = Arc::clone(&fixture.outside_netns);
        let running = tokio::spawn(async move { caller::inside(&netns, move || sequence::run(outer, stopped)).await });
        let ways = vec![
            (fixture.promise("pod to pod", last), Way::Pod(one.clone())),
            (fixture.promise("pod to ClusterIP", first), Way::Pod(two.clone())),
            (fixture.promise("outside to NodePort", last), Way::Outside(stop, running)),
        ];
        Ok(Traffic { ways, receivers, overflow })
    }

    /// Stops it, once the last echoes are there.
    pub(super) async fn stop(self) -> anyhow::Result<Outcomes> {
        let ended = self.ways.into_iter().map(|(name, way)| async move {
            let outcome = match way {
                Way::Pod(pod) => serde_json::from_str(&pod.control("/sequence/stop").await?)?,
                Way::Outside(stop, running) => {
                    stop.send_replace(true);
                    running.await.context("the traffic's thread")???
                }
            };
            anyhow::Ok((name, outcome))
        });
        let ways = futures::future::try_join_all(ended).await?;
        Ok(Outcomes { ways, overflow: overflow(&self.receivers).await? - self.overflow })
    }
}

async fn begin(pod: &Caller, plan: &Plan) -> anyhow::Result<()> {
    let Plan { host, tcp, udp, per_second, connections } = plan;
    let query = format!("host={host}&tcp={tcp}&udp={udp}&per_second={per_second}&connections={connections}");
    pod.control(&format!("/sequence/start?{query}")).await.map(|_| ())
}

async fn overflow(receivers: &[Caller]) -> anyhow::Result<u64> {
    let asked = receivers.iter().map(|pod| async move {
        let text = pod.control(&format!("/overflow?{ECHO}")).await?;
        text.parse::<u64>().with_context(|| format!("{}: {text}", pod.name))
    });
    Ok(futures::future::try_join_all(asked).await?.into_iter().sum())
}

impl Outcomes {
    fn sum(&self, of: impl Fn(&Outcome) -> u64) -> u64 {
        self.ways.iter().map(|(_, outcome)| of(outcome)).sum()
    }

    /// Datagrams and messages.
    pub(super) fn tried(&self) -> usize {
        usize::try_from(self.sum(|outcome| outcome.sent + outcome.answered)).unwrap_or(usize::MAX)
    }

    /// Lost datagrams that no full receive buffer explains, doubled ones, and whatever broke on a connection.
    pub(super) fn broken(&self) -> Vec<String> {
        let refused = self.overflow + self.sum(|outcome| outcome.overflow);
        let mut broken = Vec::new();
        for (name, outcome) in &self.ways {
            if outcome.sent == 0 || outcome.answered == 0 {
                broken.push(format!("{name}: {} datagrams sent, {} messages answered", outcome.sent, outcome.answered));
            }
            if self.sum(|outcome| outcome.lost) > refused {
                let gap = |gap: &sequence::Gap| {
                    format!("{name}: datagrams {} to {} lost, sent at {} ms", gap.first, gap.last, gap.at_ms)
                };
                broken.extend(outcome.gaps.iter().map(gap));
            }
            if outcome.duplicates > 0 {
                broken.push(format!("{name}: {} datagrams came twice", outcome.duplicates));
            }
            broken.extend(outcome.broken.iter().map(|why| format!("{name}: {why}")));
        }
        broken
    }

    /// One line for the table.
    pub(super) fn figures(&self) -> String {
        let breaks: usize = self.ways.iter().map(|(_, outcome)| outcome.broken.len()).sum();
        let mut text = format!(
            "{} datagrams, {} lost; {} messages on 50 connections, {breaks} broken, slowest {} ms",
            self.sum(|outcome| outcome.sent),
            self.sum(|outcome| outcome.lost),
            self.sum(|outcome| outcome.answered),
            self.ways.iter().map(|(_, outcome)| outcome.longest_ms).max().unwrap_or(0),
        );
        let refused = self.overflow + self.sum(|outcome| outcome.overflow);
        if refused > 0 {
            text += &format!(", {refused} refused by full receive buffers");
        }
        text
    }
}
