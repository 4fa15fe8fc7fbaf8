//! `weft check`: is this local cluster what Weft promises? Real pods, real packets, one line a promise.
//!
//! It brings pods and Services of its own in a namespace that it removes, dials between everything that may talk, looks
//! at what servers saw, and at what must not be there: netfilter rules in nodes, traces on the host.
mod addresses;
mod caller;
mod expect;
mod faults;
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
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// All but these parts
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "only")]
    pub skip: Vec<Part>,
}

/// What can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Who reaches whom: pods, nodes, Services, outside
    Reach,
    /// The example serves, its policy refuses
    Guestbook,
    /// Deployments change under load
    Rollout,
    /// kill -9 of an agent under traffic
    Agent,
    /// kill -9 of a node's `weft node` under traffic
    Kubelet,
    /// kill -9 of the API server under traffic
    Server,
    /// kill -9 of the supervisor under traffic
    Supervisor,
    /// A power cut of the last node
    Power,
    /// No netfilter rule anywhere
    Netfilter,
}

impl Args {
    /// Everything, on the cluster of this name.
    pub(crate) fn all(name: &str) -> Args {
        Args { name: name.to_owned(), only: Vec::new(), skip: Vec::new() }
    }

    fn wants(&self, part: Part) -> bool {
        !self.skip.contains(&part) && (self.only.is_empty() || self.only.contains(&part))
    }
}

/// Runs every check and prints the table; true if all of it holds.
pub(crate) async fn run(args: &Args) -> anyhow::Result<bool> {
    local_cluster::preflight::check()?;
    let cluster = Cluster::running(&args.name)?;
    let client = client(&cluster).await?;
    let mut report = Report::default();
    let mut fixture = fixture::Fixture::create(&client, &cluster).await;
    let outcome = match &mut fixture {
        Ok(fixture) => checks(args, &cluster, fixture, &mut report).await,
        Err(error) => bail!("the check's own pods did not come up: {error:#}"),
    };
    if let Ok(fixture) = fixture {
        fixture.remove(&client).await;
    }
    host::unchanged(&cluster, &mut report);
    if let Err(error) = outcome {
        report.add("the check ran to its end", 1, vec![format!("{error:#}")]);
    }
    report.print();
    Ok(report.holds())
}

async fn checks(
    args: &Args,
    cluster: &Cluster,
    fixture: &mut fixture::Fixture,
    report: &mut Report,
) -> anyhow::Result<()> {
    if args.wants(Part::Reach) {
        reach::everywhere(fixture, report).await?;
    }
    if args.wants(Part::Guestbook) {
        guestbook::serves_and_refuses(cluster, fixture, report).await?;
    }
    if args.wants(Part::Rollout) {
        rollout::no_request_fails(cluster, fixture, report).await?;
    }
    faults::kills(cluster, fixture, |part| args.wants(part), report).await?;
    if args.wants(Part::Netfilter) {
        netfilter::absent(cluster, report)?;
    }
    // Last: the pods on that node are not the same afterwards.
    if args.wants(Part::Power) {
        faults::power::cut(cluster, fixture, report).await?;
    }
    Ok(())
}

/// A client of the cluster's API with the user at the host's rights.
pub(crate) async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    let path = cluster.paths.admin_kubeconfig();
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}
