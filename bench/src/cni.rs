//! CNI calls as a container runtime makes them, beside the reference plugin `ptp` with `host-local`, and what the agent
//! weighs with many pods.
//!
//! The real server, agent and `weft-cni` in namespaces of this process; a policy selects every pod, and an ADD ends when it
//! is in force. Nobody runs containers here: a pod is an empty network namespace, made beforehand for both sides alike.
mod node;
mod plugin;
mod weight;

use std::{collections::BTreeMap, ops::Range, path::Path};

use anyhow::Context as _;

use crate::{
    Args,
    report::{Cell, Part, Table, quantile},
    space,
};
use node::Node;
use plugin::{Plugin, Pod};

/// How much is run.
struct Effort {
    /// Pods one after another.
    pods: usize,
    /// Pods at once, so many times.
    at_once: usize,
    rounds: usize,
    /// Pods of this node whose memory is told.
    local: [usize; 3],
    /// Pods of other nodes.
    remote: usize,
    /// Rows of flows.
    flows: u32,
}

impl Effort {
    fn of(args: &Args) -> Effort {
        if args.quick {
            Effort { pods: 4, at_once: 4, rounds: 1, local: [1, 2, 4], remote: 20, flows: 1_000 }
        } else {
            Effort { pods: 200, at_once: 50, rounds: 5, local: [1, 100, 1_000], remote: 10_000, flows: 100_000 }
        }
    }

    /// Pods that are first and last.
    fn ends(&self) -> [Range<usize>; 2] {
        let some = (self.pods / 10).max(1);
        [0..some, self.pods - some..self.pods]
    }
}

/// ms by whose call it is and which.
type Times = BTreeMap<(usize, &'static str), Vec<f64>>;

/// The part. Times and memory are taken of two agents: one weighs what it has weighed.
pub(crate) fn run(args: &Args) -> anyhow::Result<Part> {
    let effort = Effort::of(args);
    let (mut calls, others) = space::apart(|| times(args, &effort))?;
    let ([memory, flows], with_remote) = space::apart(|| weight::run(args, &effort))?;
    calls.row(
        format!("Weft: ADD, with {} pods here and {} elsewhere that policies select", effort.local[2], effort.remote),
        spread(&with_remote),
    );
    let tables = [calls].into_iter().chain(others).chain([memory, flows]).collect();
    Ok(Part { name: "cni", seconds: 0.0, tables })
}

fn times(args: &Args, effort: &Effort) -> anyhow::Result<(Table, [Table; 2])> {
    let node = Node::start(args)?;
    let most = effort.pods.max(effort.at_once);
    let pods = node.pods(0..most).context("Pods of this node")?;
    let others = (0..most).map(|number| Pod::new("ptp", number)).collect::<anyhow::Result<Vec<Pod>>>()?;
    let plugins = [node.plugin(args), plugin::ptp(&args.plugins)?];
    let all = [&pods[..], &others[..]];
    // The last Pod is known to the agent: so all are.
    for (plugin, pods) in plugins.iter().zip(all) {
        plugin.call("ADD", pods.last().context("a pod")?)?;
        plugin.call("DEL", pods.last().context("a pod")?)?;
    }
    let single = one_by_one(effort, &plugins, all)?;
    let many = at_once(effort, &plugins, all)?;
    let start = (0..effort.pods).map(|_| plugins[0].call("VERSION", &pods[0])).collect::<anyhow::Result<Vec<f64>>>()?;
    let mut calls = calls(effort, &single);
    calls.row("Weft: VERSION, which asks nobody: the start of the process", spread(&start));
    Ok((calls, [together(effort, &many), ratios(&single, &many)]))
}

/// Every pod of both, in turns, who comes first too; then their ends.
fn one_by_one(effort: &Effort, plugins: &[Plugin; 2], all: [&[Pod]; 2]) -> anyhow::Result<Times> {
    let mut times = Times::new();
    for command in ["ADD", "DEL"] {
        for (number, pair) in all[0].iter().zip(all[1]).take(effort.pods).enumerate() {
            let pair = [pair.0, pair.1];
            for side in if number % 2 == 0 { [0, 1] } else { [1, 0] } {
                let took = plugins[side].call(command, pair[side])?;
                times.entry((side, command)).or_default().push(took);
            }
        }
    }
    Ok(times)
}

/// Many calls at once: how long all take.
fn at_once(effort: &Effort, plugins: &[Plugin; 2], all: [&[Pod]; 2]) -> anyhow::Result<Times> {
    let mut times = Times::new();
    for round in 0..effort.rounds {
        for command in ["ADD", "DEL"] {
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let took = plugins[side].calls(command, &all[side][..effort.at_once])?;
                times.entry((side, command)).or_default().push(took);
            }
        }
    }
    Ok(times)
}

const NAMES: [&str; 2] = ["Weft", "ptp with host-local"];

fn spread(times: &[f64]) -> Vec<Option<Cell>> {
    let figure = |share| Cell::fine(quantile(times, share));
    vec![figure(0.5), figure(0.99), figure(0.0), figure(1.0), Cell::whole(times.len() as f64)]
}

fn calls(effort: &Effort, times: &Times) -> Table {
    let title = "CNI calls one after another: ms from exec to exit, policy in force included";
    let mut table = Table::new(title, &["p50", "p99", "least", "most", "calls"]);
    for ((side, command), times) in times {
        table.row(format!("{}: {command}", NAMES[*side]), spread(times));
        for range in effort.ends().into_iter().filter(|_| *command == "ADD") {
            let name = format!("{}: {command}, pods {} to {}", NAMES[*side], range.start + 1, range.end);
            table.row(name, spread(&times[range]));
        }
    }
    table.note("each call of one follows the other's, and who is first changes; DELs when all ADDs are done");
    table.note("ptp as it comes with Debian, without masquerade and portmap, which it leaves to plugins after it, and without any policy");
    table
}

fn together(effort: &Effort, times: &Times) -> Table {
    let title = format!("{} CNI calls at once: ms until the last has ended", effort.at_once);
    let mut table = Table::new(&title, &["median", "least", "most", "rounds"]);
    for ((side, command), times) in times {
        let cells = [0.5, 0.0, 1.0].map(|share| Cell::fine(quantile(times, share)));
        table.row(format!("{}: {command}", NAMES[*side]), [&cells[..], &[Cell::whole(times.len() as f64)]].concat());
    }
    table
}

fn ratios(single: &Times, many: &Times) -> Table {
    let mut table = Table::new("Weft's times as ratios to ptp's", &["p50", "p99", "at once"]);
    for command in ["ADD", "DEL"] {
        let ratio = |times: &Times, share| {
            Cell::fine(quantile(&times[&(0, command)], share) / quantile(&times[&(1, command)], share))
        };
        table.row(command, vec![ratio(single, 0.5), ratio(single, 0.99), ratio(many, 0.5)]);
    }
    table
}

/// Where the reference plugins are if nothing else is said: where `cargo xtask setup` unpacks them.
pub(crate) fn reference() -> std::path::PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    Path::new(&home).join(".cache/weft/debian/containernetworking-plugins/usr/lib/cni")
}
