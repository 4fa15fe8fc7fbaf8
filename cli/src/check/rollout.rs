//! Deployments that grow, shrink and change under load: no request fails.
//!
//! Two tiers of the guestbook, in the check's own namespace: clients outside ask the frontends through their NodePort,
//! each frontend asks a backend through its ClusterIP. Every answer must come, while pods of both tiers come and go.
mod load;
mod tiers;

use std::{collections::BTreeSet, time::Duration};

use local_cluster::Cluster;

use super::{fixture::Fixture, report::Report};
use load::{Load, Phase, RATE, Tally};
use tiers::Tiers;

/// How long the load goes on over a cluster at rest, before and after each change.
const REST: Duration = Duration::from_millis(1500);

/// Four promises: growing, shrinking, updating, and that the update took hold.
pub(super) async fn no_request_fails(cluster: &Cluster, fixture: &Fixture, report: &mut Report) -> anyhow::Result<()> {
    let client = super::client(cluster).await?;
    let tiers = Tiers::create(&client, &fixture.namespace, fixture.families).await?;
    tiers.settle([3, 2]).await?;
    let families = fixture.families.families();
    let nodes = families.iter().flat_map(|family| fixture.nodes.iter().map(|node| node.at(*family)));
    let load = Load::start(&fixture.outside_netns, nodes, tiers.node_port().await?)?;
    let outcome = change(&tiers, &load).await;
    let tallies = load.stop().await?;
    let [growing, shrinking, updating, after] = tallies;
    let by = format!("{RATE}/s, new and kept connections");
    for (tally, what) in
        [(&growing, "two Deployments grow"), (&shrinking, "they shrink"), (&updating, "they are updated")]
    {
        report.add(format!("no request fails while {what} ({by})"), tally.tried, tally.broken.clone());
    }
    outcome?;
    let broken = strangers(&after, &tiers.names().await?);
    report.add("after the update only its pods answer, without a failure", after.tried, broken);
    tiers.remove().await
}

async fn change(tiers: &Tiers, load: &Load) -> anyhow::Result<()> {
    tokio::time::sleep(REST).await;
    tiers.scale([5, 4]).await?;
    tiers.settle([5, 4]).await?;
    tokio::time::sleep(REST).await;
    load.enter(Phase::Shrinking);
    tiers.scale([2, 2]).await?;
    tiers.settle([2, 2]).await?;
    tokio::time::sleep(REST).await;
    load.enter(Phase::Updating);
    tiers.restart().await?;
    tiers.settle([2, 2]).await?;
    load.enter(Phase::After);
    tokio::time::sleep(REST).await;
    Ok(())
}

/// Failures, and answers by pods that are no longer there.
fn strangers(after: &Tally, pods: &BTreeSet<String>) -> Vec<String> {
    let gone = after.pods.difference(pods).map(|pod| format!("{pod} answered, and is none of the new pods"));
    after.broken.iter().cloned().chain(gone).collect()
}
