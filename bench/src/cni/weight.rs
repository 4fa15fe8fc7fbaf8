//! What the agent weighs: its process, and the memory that the kernel reckons for its maps.
use std::{collections::BTreeMap, fs, os::fd::AsRawFd, path::PathBuf};

use abi::{
    flow::{FlowKey, FlowValue},
    map::{self, MapSpec},
};
use anyhow::Context as _;
use aya::maps::{HashMap, Map, MapData};

use super::{Effort, node::Node, plugin::Pod};
use crate::{
    Args,
    report::{Cell, Table},
    system::processes,
};

const MIB: f64 = 1_048_576.0;

/// ADDs of this many pods are timed among all others.
const TIMED: usize = 20;

fn pinned(set: &str, spec: &MapSpec) -> anyhow::Result<MapData> {
    let path = PathBuf::from("/run/bpf/weft").join(set).join(spec.name);
    MapData::from_pin(&path).with_context(|| path.display().to_string())
}

/// Rows of the table of peers.
pub(crate) fn peers() -> anyhow::Result<usize> {
    let table: HashMap<MapData, [u8; 16], u32> = Map::HashMap(pinned("tables", &map::PEERS)?).try_into()?;
    Ok(table.keys().count())
}

/// Bytes that the kernel reckons for the maps that a process has open, each once.
fn maps(pid: i32) -> anyhow::Result<f64> {
    let directory = format!("/proc/{pid}/fdinfo");
    let mut maps = BTreeMap::new();
    for file in fs::read_dir(&directory).with_context(|| directory.clone())?.flatten() {
        // One that was closed meanwhile is none.
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        if let (Some(id), Some(bytes)) = (field(&text, "map_id:"), field(&text, "memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.into_values().sum::<u64>() as f64)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.trim().parse().ok())
}

/// The agent with ever more pods, what flows take, and how long ADDs took with all pods there.
pub(crate) fn run(args: &Args, effort: &Effort) -> anyhow::Result<([Table; 2], Vec<f64>)> {
    let mut node = Node::start(args)?;
    let weft = node.plugin(args);
    let mut table = Table::new("Memory of the agent, MiB", &["RSS", "PSS", "its maps, in the kernel"]);
    let mut row = |node: &Node, name: String| -> anyhow::Result<()> {
        let (rss, pss) = processes::memory(node.agent()?)?;
        table.row(name, vec![Cell::fine(rss), Cell::fine(pss), Cell::fine(maps(node.agent()?)? / MIB)]);
        Ok(())
    };
    let mut pods: Vec<Pod> = Vec::new();
    for count in effort.local {
        let fresh = node.pods(pods.len()..count).context("Pods of this node")?;
        fresh.iter().try_for_each(|pod| weft.call("ADD", pod).map(|_| ()))?;
        pods.extend(fresh);
        row(&node, format!("Weft: {count} pods of this node, none of others"))?;
    }
    node.remote(effort.remote).context("Pods of other nodes")?;
    row(&node, format!("Weft: {} pods of this node, {} of others", pods.len(), effort.remote))?;
    table.note("policies select every pod, those of other nodes too: each has a row; what a process keeps of its largest moment counts");
    let last = &pods[pods.len().saturating_sub(TIMED)..];
    last.iter().try_for_each(|pod| weft.call("DEL", pod).map(|_| ()))?;
    let times = last.iter().map(|pod| weft.call("ADD", pod)).collect::<anyhow::Result<Vec<f64>>>()?;
    Ok(([table, flows(effort, &mut node)?], times))
}

/// Bytes of a row in each flow table. The agent is stopped for it: its sweep would remove these rows.
fn flows(effort: &Effort, node: &mut Node) -> anyhow::Result<Table> {
    node.stop_agent()?;
    let mut table =
        Table::new("Memory of flows", &["rows at most", "MiB when empty", "rows put in", "MiB then", "bytes per row"]);
    for spec in [&map::FLOWS, &map::HALFOPEN] {
        let data = pinned("flows", spec)?;
        let info = format!("/proc/self/fdinfo/{}", std::os::fd::AsFd::as_fd(&data.fd()).as_raw_fd());
        let read = || -> anyhow::Result<(u64, u64)> {
            let text = fs::read_to_string(&info).context("a map")?;
            Ok((field(&text, "memlock:").context("memlock")?, field(&text, "max_entries:").context("max_entries")?))
        };
        let (empty, most) = read()?;
        let rows = effort.flows.min(u32::try_from(most).unwrap_or(u32::MAX) / 2);
        let data = if spec.kind == map::MapKind::Hash { Map::HashMap(data) } else { Map::LruHashMap(data) };
        let mut flows: HashMap<MapData, [u8; size_of::<FlowKey>()], [u8; size_of::<FlowValue>()]> = data.try_into()?;
        for number in 0..rows {
            let mut key = [0; size_of::<FlowKey>()];
            key[..4].copy_from_slice(&number.to_ne_bytes());
            flows.insert(key, [0; size_of::<FlowValue>()], 0)?;
        }
        let full = read()?.0;
        // One that is made whole at once costs the same however many rows it has.
        let each = if full > empty { (full - empty) as f64 / f64::from(rows) } else { full as f64 / most as f64 };
        let cells = [most as f64, empty as f64 / MIB, f64::from(rows), full as f64 / MIB, each];
        let cell = |(at, value)| if at % 2 == 1 { Cell::fine(value) } else { Cell::whole(value) };
        table.row(format!("Weft: {}", spec.name), cells.into_iter().enumerate().map(cell).collect());
    }
    table.note("as the kernel reckons it (memlock): a translated flow has two rows");
    Ok(table)
}
