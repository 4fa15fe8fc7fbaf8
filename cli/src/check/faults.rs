//! kill -9 under traffic: agent, node side, API server and supervisor. No datagram is lost, no connection breaks, no drop
//! counter moves, no pod restarts, no node is marked. The power cut, which does lose something, is `power`.
mod api;
mod drops;
pub(super) mod power;
mod still;
mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube::Client;
use local_cluster::{Cluster, Status, cgroup, paths};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::sleep;

use super::{Part, fixture::Fixture, report::Report};
use still::Still;
use traffic::Traffic;

/// Traffic before a kill, and after what was killed is back.
const REST: Duration = Duration::from_millis(2500);
/// How long a part may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Kubelet,
    Server,
    Supervisor,
}

/// The kills that `wanted` names, one after the other.
pub(super) async fn kills(
    cluster: &Cluster,
    fixture: &Fixture,
    wanted: impl Fn(Part) -> bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let victims = [
        (Victim::Agent, Part::Agent),
        (Victim::Kubelet, Part::Kubelet),
        (Victim::Server, Part::Server),
        (Victim::Supervisor, Part::Supervisor),
    ];
    let victims: Vec<_> = victims.into_iter().filter(|(_, part)| wanted(*part)).map(|(victim, _)| victim).collect();
    if victims.is_empty() || fixture.nodes.len() < 2 {
        return Ok(());
    }
    let client = super::client(cluster).await?;
    let target = traffic::Target::create(&client, fixture).await?;
    for victim in victims {
        one(cluster, fixture, (&client, &target), victim, report).await?;
    }
    Ok(())
}

async fn one(
    cluster: &Cluster,
    fixture: &Fixture,
    (client, target): (&Client, &traffic::Target),
    victim: Victim,
    report: &mut Report,
) -> anyhow::Result<()> {
    let still = Still::read(client, &fixture.namespace).await?;
    let dropped = drops::read(fixture).await?;
    let traffic = Traffic::start(fixture, target).await?;
    let clients = api::Clients::start(client, &fixture.namespace);
    sleep(REST).await;
    let before = cluster.state();
    let killed = Instant::now();
    let back = strike(cluster, fixture, victim).await;
    let took = killed.elapsed();
    sleep(REST).await;
    let outcome = traffic.stop().await?;
    let clients = clients.stop().await?;
    let name = victim.name();
    back.with_context(|| format!("kill -9 of {name}"))?;
    let figures = format!("{}; back in {:.1} s", outcome.figures(), took.as_secs_f64());
    report.add(format!("kill -9 of {name}: nothing is lost ({figures})"), outcome.tried(), outcome.broken());
    let mut changed = drops::changes(&dropped, &drops::read(fixture).await?);
    changed.extend(still.changes(&Still::read(client, &fixture.namespace).await?));
    if victim == Victim::Supervisor {
        changed.extend(restarted(&before, &cluster.state()));
    }
    report.add(
        format!("kill -9 of {name}: no drop is counted, no pod restarts, no node is marked"),
        still.len(),
        changed,
    );
    if victim == Victim::Server {
        let promise = format!("kill -9 of {name}: one history, every acknowledged write there ({})", clients.figures());
        report.add(promise, clients.acknowledged(), clients.broken());
    }
    Ok(())
}

impl Victim {
    fn name(self) -> &'static str {
        match self {
            Victim::Agent => "an agent",
            Victim::Kubelet => "a node's `weft node`",
            Victim::Server => "the API server",
            Victim::Supervisor => "the supervisor",
        }
    }
}

/// Kills, and waits until the same part serves again.
async fn strike(cluster: &Cluster, fixture: &Fixture, victim: Victim) -> anyhow::Result<()> {
    let node = &fixture.nodes[0].node;
    match victim {
        Victim::Agent | Victim::Kubelet => {
            let word = if victim == Victim::Agent { "agent" } else { "node" };
            let old = part(cluster, node, word)?.with_context(|| format!("{node} runs no weft {word}"))?;
            end(old)?;
            until(|| Ok(part(cluster, node, word)?.is_some_and(|pid| pid != old))).await?;
            if victim == Victim::Agent { drops::ready(&fixture.nodes[0], PATIENCE).await } else { Ok(()) }
        }
        Victim::Server => {
            let old = cluster.state().server.context("no API server runs")?;
            end(old)?;
            until(|| Ok(cluster.state().server.is_some_and(|pid| pid != old))).await?;
            let client = super::client(cluster).await?;
            let asked = Instant::now();
            while let Err(error) = client.apiserver_version().await {
                anyhow::ensure!(asked.elapsed() < PATIENCE, "the API server does not answer: {error}");
                sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
        Victim::Supervisor => {
            end(cluster.state().supervisor)?;
            until(|| Ok(matches!(Cluster::status(&cluster.spec.name)?, Status::Orphaned(_)))).await?;
            // A while without one: its death alone must change nothing.
            sleep(REST).await;
            local_cluster::adopt(cluster)?;
            until(|| Ok(matches!(Cluster::status(&cluster.spec.name)?, Status::Running(_)))).await
        }
    }
}

/// The process `weft <word>` of a node, as the host numbers it.
fn part(cluster: &Cluster, node: &str, word: &str) -> anyhow::Result<Option<i32>> {
    let group = paths::cgroup(&cluster.spec.name).join(node).join("system");
    let runs = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(word.as_bytes())
    };
    Ok(cgroup::processes(&group)?.into_iter().find(runs))
}

fn end(pid: i32) -> anyhow::Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill -9 {pid}"))
}

async fn until(mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > PATIENCE {
            bail!("it is not back after {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Processes that a new supervisor should have taken over and did not.
fn restarted(before: &local_cluster::state::State, now: &local_cluster::state::State) -> Vec<String> {
    let parts = |state: &local_cluster::state::State| {
        let nodes = state.nodes.iter().map(|(name, pid)| (name.clone(), Some(*pid)));
        let others = [("the API server", state.server), ("the publisher", state.outside)];
        nodes.chain(others.map(|(name, pid)| (name.to_owned(), pid))).collect::<Vec<_>>()
    };
    let pairs = parts(before).into_iter().zip(parts(now));
    pairs.filter(|(old, new)| old != new).map(|(old, new)| format!("was {old:?}, is {new:?}")).collect()
}
