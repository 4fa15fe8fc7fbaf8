//! The processes: what they weigh, how long they take to start, and how long a Service takes from the API into the kernel.
//!
//! A cluster of one node, as `weft up` makes it, under a name of this run's own; it goes when the run ends, also by Ctrl-C.
mod cluster;
pub(crate) mod processes;
mod services;

use anyhow::Context as _;

use crate::{
    Args,
    report::{Cell, Part, Table, median, quantile},
};
use cluster::Cluster;
use processes::{ROLES, Role};
use services::Change;

/// How much is run.
struct Effort {
    /// Services beside the ones that change.
    services: [u32; 2],
    /// Changes of a kind.
    changes: u32,
    restarts: u32,
}

impl Effort {
    fn of(args: &Args) -> Effort {
        if args.quick {
            Effort { services: [10, 40], changes: 3, restarts: 1 }
        } else {
            Effort { services: [10, 5_000], changes: 120, restarts: 5 }
        }
    }
}

/// The part.
pub(crate) fn run(args: &Args) -> anyhow::Result<Part> {
    let effort = Effort::of(args);
    let cluster = Cluster::start(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tables = runtime.block_on(measure(&cluster, &effort));
    drop(runtime);
    Ok(Part { name: "system", seconds: 0.0, tables: tables? })
}

async fn measure(cluster: &Cluster, effort: &Effort) -> anyhow::Result<Vec<Table>> {
    let client = cluster.client().await?;
    let mut weights = vec![weigh(cluster)?];
    let mut way = Table::new(
        "A Service's way: ms from the acknowledged write to the row in the kernel's table, through server and agent",
        &["p50", "p99", "least", "most", "changes"],
    );
    let mut there = 0;
    for services in effort.services {
        services::fill(&client, there, services).await.context("filling the cluster with Services")?;
        there = services;
        services::settled(cluster, services).await?;
        let changes = services::changes(&client, cluster, effort.changes).await?;
        for (change, times) in [Change::Created, Change::Endpoint, Change::Deleted].into_iter().zip(&changes) {
            let figure = |share| Cell::fine(quantile(times, share));
            way.row(
                format!("Weft, {services} Services: {}", change.name()),
                vec![figure(0.5), figure(0.99), figure(0.0), figure(1.0), Cell::whole(times.len() as f64)],
            );
        }
        weights.push(weigh(cluster)?);
    }
    way.note(
        "one change after another, each as soon as the last one is in the table; the table is looked at every 50 µs",
    );
    way.note(
        "each Service beside those that change has one endpoint; API server, agent and this program share the machine",
    );
    let starts = starts(cluster, &client, effort).await?;
    Ok(vec![memory(effort, &weights), starts, way])
}

/// RSS and PSS of each process, MiB.
type Weights = Vec<(f64, f64)>;

fn weigh(cluster: &Cluster) -> anyhow::Result<Weights> {
    ROLES.iter().map(|role| processes::memory(cluster.pid(*role)?)).collect()
}

fn memory(effort: &Effort, weights: &[Weights]) -> Table {
    let mut heads = vec!["RSS, empty".to_owned(), "PSS, empty".to_owned()];
    for services in effort.services {
        heads.extend([format!("RSS, {services} Services"), format!("PSS, {services} Services")]);
    }
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut table = Table::new("Memory of the processes, MiB, a cluster of one node without pods", &heads);
    for (index, role) in ROLES.iter().enumerate() {
        let cells = weights.iter().flat_map(|weights| [Cell::fine(weights[index].0), Cell::fine(weights[index].1)]);
        table.row(format!("Weft: {}", role.name()), cells.collect());
    }
    table.note("one binary: what it has in common counts in full in each RSS and by share in each PSS; maps of the kernel are in neither");
    table
}

/// Each process is killed, and started again by whoever watches over it.
async fn starts(cluster: &Cluster, client: &kube::Client, effort: &Effort) -> anyhow::Result<Table> {
    let services = effort.services[1];
    let mut table =
        Table::new("From the start of a process until it serves, ms", &["median", "least", "most", "starts"]);
    for role in [Role::Server, Role::Agent, Role::Node] {
        let mut times = Vec::new();
        for _ in 0..effort.restarts {
            times.push(cluster.restart(role, client).await.with_context(|| format!("restart of {}", role.name()))?);
        }
        let cells = [median(&times), quantile(&times, 0.0), quantile(&times, 1.0)].map(Cell::whole);
        let cells = cells.into_iter().chain([Cell::whole(times.len() as f64)]).collect();
        table.row(format!("Weft: {}, {services} Services: {}", role.name(), role.serves()), cells);
    }
    let up = cluster.up.as_secs_f64() * 1e3;
    table.row("Weft: weft up, one node, until it has ended well", vec![Cell::whole(up), None, None, Cell::whole(1.0)]);
    table.note("each process killed by SIGKILL; the time begins when its successor has been started");
    Ok(table)
}
