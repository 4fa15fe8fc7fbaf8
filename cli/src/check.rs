//! `weft check`: is this local cluster what Weft promises? Real pods, real packets, one line a promise.
//!
//! It brings pods and Services of its own in a namespace that it removes, dials between everything that may talk, looks
//! at what servers saw, and at what must not be there: netfilter rules in nodes, traces on the host.
mod caller;
mod expect;
mod fixture;
mod guestbook;
mod host;
mod netfilter;
mod reach;
mod report;
mod rollout;

use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use local_cluster::Cluster;

use report::Report;

/// Flags of `weft check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster.
    #[arg(long, default_value = local_cluster::spec::DEFAULT_NAME)]
    pub name: String,
}

/// Runs every check and prints the table; true if all of it holds.
pub(crate) async fn run(args: &Args) -> anyhow::Result<bool> {
    let cluster = Cluster::running(&args.name)?;
    let client = client(&cluster).await?;
    let mut report = Report::default();
    let fixture = fixture::Fixture::create(&client, &cluster).await;
    let outcome = match &fixture {
        Ok(fixture) => checks(&cluster, fixture, &mut report).await,
        Err(error) => bail!("the check's own pods did not come up: {error:#}"),
    };
    if let Ok(fixture) = fixture {
        fixture.remove(&client).await;
    }
    host::unchanged(&cluster, &mut report);
    report.print();
    outcome?;
    Ok(report.holds())
}

async fn checks(cluster: &Cluster, fixture: &fixture::Fixture, report: &mut Report) -> anyhow::Result<()> {
    reach::pods_to_pods(fixture, report).await?;
    reach::hosts_and_pods(fixture, report).await?;
    reach::cluster_ips(fixture, report).await?;
    reach::node_ports(fixture, report).await?;
    reach::outside(fixture, report).await?;
    guestbook::serves_and_refuses(cluster, fixture, report).await?;
    rollout::no_request_fails(cluster, fixture, report).await?;
    netfilter::absent(cluster, report)
}

/// A client of the cluster's API with the user at the host's rights.
pub(crate) async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    let path = cluster.paths.admin_kubeconfig();
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}
