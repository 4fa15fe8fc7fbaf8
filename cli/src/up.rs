//! `weft up`: a cluster on this machine that serves what the manifests say, whatever was there before.
//!
//! `local-cluster` starts the processes; here the cluster's API is used as any client would: wait until it answers,
//! apply, wait for nodes and rollouts, report. A second `up` finds a running cluster and does only what is missing.

mod apply;
mod manifest;
mod report;
mod wait;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use local_cluster::{
    Cluster, IpFamily, Spec, Status,
    spec::{DEFAULT_NAME, Publish, default_ports, parse_publish},
};

use crate::{check, progress::Progress};

/// Flags of `weft up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the cluster; several live side by side
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// Number of nodes, 1 to 10 [default: 3]
    #[arg(long)]
    nodes: Option<u8>,
    /// Run the acceptance once it serves, and exit 1 if anything is wrong
    #[arg(long)]
    check: bool,
    /// An image to load: a tarball or an OCI layout
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Manifests to apply: a file, or a directory with *.yaml and *.json
    #[arg(long = "manifest", value_name = "PATH")]
    manifests: Vec<PathBuf>,
    /// The API server's port on 127.0.0.1 [default: 16443, or from the name]
    #[arg(long)]
    api_port: Option<u16>,
    /// Families of pods, Services and nodes [default: ipv4]
    #[arg(long, value_enum)]
    ip_family: Option<IpFamily>,
    /// A flag for every node's agent, such as --agent-arg=--routing=native
    #[arg(long = "agent-arg", value_name = "FLAG", allow_hyphen_values = true)]
    agent_args: Vec<String>,
    /// A NodePort to reach on 127.0.0.1 [default host port: 18080, or from the name]
    #[arg(long, value_name = "[HOSTPORT:]NODEPORT")]
    publish: Vec<String>,
}

/// What the agent may do in the cluster: it runs as a service account, as it does anywhere.
const AGENT_RBAC: &str = include_str!("../../deploy/agent-rbac.yaml");

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    local_cluster::preflight::check()?;
    let mut objects = Vec::new();
    for path in &args.manifests {
        objects.extend(manifest::read(path)?);
    }
    let mut progress = Progress::new();
    let cluster = cluster(args, &mut progress)?;
    if !args.images.is_empty() {
        progress.step("loading images");
        for file in &args.images {
            let loaded = node::image::load_tar(&cluster.paths.images(), file);
            loaded.with_context(|| format!("loading {}", file.display()))?;
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(&cluster, &objects, &mut progress))?;
    progress.finish();
    println!("{}", report::text(&cluster, &progress.times()));
    if args.check {
        crate::acceptance(&check::Args::all(&args.name))?;
    }
    Ok(())
}

/// The running cluster; started if it is not.
fn cluster(args: &Args, progress: &mut Progress) -> anyhow::Result<Cluster> {
    let spec = spec(args)?;
    match Cluster::status(&args.name)? {
        Status::Orphaned(cluster) => {
            matches_running(args, &spec, &cluster)?;
            eprintln!("cluster {} runs without its supervisor: taking it over", args.name);
            local_cluster::adopt(&cluster)?;
            Ok(cluster)
        }
        Status::Running(cluster) => {
            matches_running(args, &spec, &cluster)?;
            eprintln!("cluster {} is running: bringing it up to date", args.name);
            if !cluster.runs_this_program() {
                eprintln!(
                    "note: it was started by another build; to run this one: weft down --name {} first",
                    args.name
                );
            }
            Ok(cluster)
        }
        absent => {
            let mut spec = spec;
            if let (Status::Stopped(earlier), None) = (&absent, args.ip_family) {
                spec.ip_family = earlier.spec.ip_family;
            }
            if let (Status::Stopped(earlier), true) = (&absent, args.agent_args.is_empty()) {
                spec.agent_args.clone_from(&earlier.spec.agent_args);
            }
            progress.step(format!("starting {} nodes", spec.nodes));
            let cni_plugin = std::env::current_exe()?.with_file_name("weft-cni");
            Ok(local_cluster::start(spec, &cni_plugin)?)
        }
    }
}

fn spec(args: &Args) -> anyhow::Result<Spec> {
    let mut spec = Spec::new(&args.name);
    spec.nodes = args.nodes.unwrap_or(spec.nodes);
    spec.ip_family = args.ip_family.unwrap_or_default();
    spec.api_port = args.api_port.unwrap_or(default_ports(&args.name).0);
    spec.agent_args.clone_from(&args.agent_args);
    let publish = (0..).zip(&args.publish).map(|(position, text)| parse_publish(text, &args.name, position));
    spec.publish = publish.collect::<Result<Vec<Publish>, _>>()?;
    spec.validate()?;
    Ok(spec)
}

/// Size, families and ports are the running cluster's; flags that want others are refused, not ignored.
fn matches_running(args: &Args, wanted: &Spec, cluster: &Cluster) -> anyhow::Result<()> {
    let (name, has) = (&args.name, &cluster.spec);
    if args.nodes.is_some_and(|nodes| nodes != has.nodes) {
        bail!("cluster {name} runs with {} nodes: run weft down --name {name} first to change that", has.nodes);
    }
    if args.ip_family.is_some_and(|families| families != has.ip_family) {
        bail!(
            "cluster {name} runs with --ip-family {}: run weft down --name {name} first to change that",
            has.ip_family
        );
    }
    if !args.agent_args.is_empty() && args.agent_args != has.agent_args {
        let flags = has.agent_args.join(" ");
        bail!("cluster {name} runs its agents with \"{flags}\": run weft down --name {name} first to change that");
    }
    if args.api_port.is_some_and(|port| port != 0 && port != has.api_port) {
        bail!("cluster {name} has its API on port {}: run weft down --name {name} first to change that", has.api_port);
    }
    let there = |publish: &&Publish| {
        has.publish.iter().any(|one| one.node == publish.node && (publish.host == 0 || one.host == publish.host))
    };
    if let Some(missing) = wanted.publish.iter().find(|publish| !there(publish)) {
        bail!(
            "cluster {name} does not publish {}:{}: run weft down --name {name} first to change that",
            missing.host,
            missing.node
        );
    }
    Ok(())
}

/// From processes to a cluster that serves.
async fn serve(cluster: &Cluster, objects: &[manifest::Object], progress: &mut Progress) -> anyhow::Result<()> {
    let client = client(cluster).await?;
    progress.step("waiting for the API server");
    wait::server(cluster, &client, progress).await?;
    apply::all(&client, &manifest::parse("deploy/agent-rbac.yaml", AGENT_RBAC)?, progress).await?;
    progress.step(format!("waiting for {} nodes", cluster.spec.nodes));
    wait::nodes(cluster, &client, progress).await?;
    // Only now: pods spread over the nodes that are Ready when they are scheduled.
    progress.step(format!("applying {} objects", objects.len()));
    let deployments = apply::all(&client, objects, progress).await?;
    if !deployments.is_empty() {
        progress.step(format!("waiting for {} deployments", deployments.len()));
        wait::rollouts(cluster, &client, &deployments, progress).await?;
    }
    // Without a deployment nothing could answer.
    if !deployments.is_empty() && !cluster.spec.publish.is_empty() {
        progress.step("waiting for an answer on the published ports");
        wait::published(cluster, progress).await?;
    }
    Ok(())
}

/// A client with the administrator's credentials.
pub(crate) async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    let path = cluster.paths.admin_kubeconfig();
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("reading {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
