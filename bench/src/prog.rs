//! Nanoseconds per packet in the programs, by BPF_PROG_TEST_RUN.
//!
//! One skb is run again and again, so a harness program restores its headers (and chooses the flow) before it tail-calls
//! the program under test; what harness and empty run cost is printed and subtracted. The work behind a redirect is not in it.
mod headers;
mod peers;
mod rig;
mod stages;
mod ways;
mod world;

use anyhow::ensure;

use crate::{
    Args,
    report::{Cell, Part, Table, quantile},
    space,
};
use peers::PEERS;
use rig::{FIXED, NEW, RANDOM, Rig, Sample};
use ways::{Step, WAYS, Way};
use world::Sizes;

/// Flows among which a run's is chosen; the first is "hot".
const AMONG: [u32; 5] = [1, 4_096, 16_384, 65_536, 100_000];
/// Of first packets between two clearings: `HALFOPEN` has room for them.
const NEW_FLOWS: u32 = 25_000;

/// How much is run.
struct Effort {
    sizes: Sizes,
    /// Of a sample.
    repeat: u32,
    new_flows: u32,
    samples: Samples,
    among: Vec<u32>,
}

/// How often, and which of them counts: 0.5 is the middle one.
#[derive(Clone, Copy)]
struct Samples {
    number: usize,
    share: f64,
}

impl Effort {
    fn of(args: &Args) -> Effort {
        let share = if args.least { 0.0 } else { 0.5 };
        if args.quick {
            let samples = Samples { number: 1, share };
            let sizes = Sizes { services: 200, peers: 200, flows: 2_000 };
            return Effort { sizes, repeat: 2_000, new_flows: 500, samples, among: vec![1, 256, 512, 1_024, 2_000] };
        }
        let sizes = Sizes { services: 10_000, peers: 10_000, flows: 100_000 };
        let samples = Samples { number: if args.least { 15 } else { 5 }, share };
        let repeat = if args.least { 100_000 } else { 400_000 };
        Effort { sizes, repeat, new_flows: NEW_FLOWS, samples, among: AMONG.to_vec() }
    }
}

/// The part.
pub(crate) fn run(args: &Args) -> anyhow::Result<Part> {
    let effort = Effort::of(args);
    let tables = space::apart(|| {
        // The same processor for every sample: its caches are part of what is measured.
        space::pin(1).or_else(|_| space::pin(0))?;
        rig::devices()?;
        if !args.paths.is_empty() {
            return Ok(vec![known(args, &effort)?, first(args, &effort)?]);
        }
        let mut tables = vec![known(args, &effort)?, headers::table(args, &effort)?, first(args, &effort)?];
        tables.extend(stages::tables(args, &effort)?);
        tables.push(verified(args, &effort)?);
        Ok(tables)
    })?;
    Ok(Part { name: "prog", seconds: 0.0, tables })
}

fn title(what: &str, sizes: &Sizes) -> String {
    format!(
        "{what}: ns per packet in the programs, with {} services, {} peers and {} flows loaded",
        sizes.services, sizes.peers, sizes.flows
    )
}

/// The sample that counts.
fn settled(samples: Samples, mut sample: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let figures: Vec<f64> = (0..samples.number).map(|_| sample()).collect::<anyhow::Result<_>>()?;
    Ok(quantile(&figures, samples.share))
}

/// Packets of established flows.
fn known(args: &Args, effort: &Effort) -> anyhow::Result<Table> {
    let names: Vec<String> =
        effort.among.iter().map(|&n| if n == 1 { "hot".into() } else { format!("of {n}") }).collect();
    let heads: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut table = Table::new(&title("Established flows", &effort.sizes), &heads);
    let mut floor = Vec::new();
    for (way, v6) in both_families(WAYS.iter().filter(|way| !way.denied && wanted(args, way))) {
        world::speak(v6);
        let mut rig = Rig::new(args, &effort.sizes)?;
        rig.establish(way, effort.sizes.flows)?;
        for (name, step) in way.measured {
            let (net, harness) = net_by_choice(&mut rig, way, *step, effort)?;
            floor = harness;
            table.row(whose(name, v6), net.into_iter().map(Cell::whole).collect());
            if !v6 {
                peers_of(name, effort, &mut table);
            }
        }
    }
    world::speak(false);
    let empty = Rig::new(args, &Sizes { services: 1, peers: 1, flows: 0 })?.empty(effort.repeat)?;
    table.note(format!("net of the harness, which costs {} (the empty run alone {empty:.0})", listed(&floor)));
    let which = if args.least { "least" } else { "median" };
    table.note(format!(
        "hot: one flow again and again; of N: each packet of a random one of the first N flows; the {which} of {} samples",
        effort.samples.number
    ));
    table.note("every packet was counted as passed on the established path, and none took the slow one");
    table.note(peers::SOURCE);
    Ok(table)
}

fn wanted(args: &Args, way: &Way) -> bool {
    args.paths.is_empty() || args.paths.iter().any(|part| way.name.contains(part))
}

/// Each path in IPv4, and again in IPv6.
fn both_families<'a>(ways: impl Iterator<Item = &'a Way>) -> impl Iterator<Item = (&'a Way, bool)> {
    ways.flat_map(|way| [(way, false), (way, true)])
}

fn whose(path: &str, v6: bool) -> String {
    format!("Weft{}: {path}", if v6 { " in IPv6" } else { "" })
}

/// What others cost on the same path; a figure only where its number of flows is the column's.
fn peers_of(path: &str, effort: &Effort, table: &mut Table) {
    let kind = |path: &'static str| path.split([',', '(']).next().unwrap_or_default().trim();
    for peer in PEERS.iter().filter(|peer| !peer.first && path.starts_with(kind(peer.path))) {
        let columns = peer.figures.iter().zip(&effort.among).zip(&AMONG);
        let cells = columns.map(|((figure, here), theirs)| figure.filter(|_| here == theirs));
        let cells = cells.map(|figure| figure.and_then(|ns| Cell::whole(f64::from(ns)))).collect();
        table.row(format!("{}: {}", peer.whose, peer.path), cells);
    }
}

fn listed(figures: &[f64]) -> String {
    figures.iter().map(|figure| format!("{figure:.0}")).collect::<Vec<_>>().join(" / ")
}

/// Net figures by choice of flows, and the harness's own.
fn net_by_choice(rig: &mut Rig, way: &Way, step: Step, effort: &Effort) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (mut nets, mut floors) = (Vec::new(), Vec::new());
    for &among in &effort.among {
        let mode = if among == 1 { FIXED } else { RANDOM };
        let sample = Sample { mode, count: among, first: 17, repeat: effort.repeat };
        rig.warm(way, step, &sample)?;
        let floor = settled(effort.samples, || rig.harness(step, &sample))?;
        let gross = settled(effort.samples, || rig.established(way, step, &sample))?;
        nets.push(gross - floor);
        floors.push(floor);
    }
    Ok((nets, floors))
}

/// First packets.
fn first(args: &Args, effort: &Effort) -> anyhow::Result<Table> {
    let mut table = Table::new(&title("First packets", &effort.sizes), &["new flows", "half-open table full"]);
    for (way, v6) in both_families(WAYS.iter().filter(|way| way.opens && wanted(args, way))) {
        world::speak(v6);
        let mut rig = Rig::new(args, &effort.sizes)?;
        let sample = Sample { mode: NEW, count: 0, first: 0, repeat: effort.new_flows };
        let floor = settled(effort.samples, || rig.harness(way.syn, &sample))?;
        rig.clear()?;
        let fresh = settled(effort.samples, || {
            let ns = rig.opening(way, &sample)?;
            rig.clear()?;
            Ok(ns)
        })?;
        let mut next = 400_000;
        if !args.quick {
            rig.opening(way, &Sample { first: 200_000, repeat: 140_000, ..sample })?;
        }
        let full = settled(effort.samples, || {
            let ns = rig.opening(way, &Sample { first: next, ..sample })?;
            next += effort.new_flows;
            Ok(ns)
        })?;
        table.row(whose(way.name, v6), vec![Cell::whole(fresh - floor), Cell::whole(full - floor)]);
    }
    world::speak(false);
    for peer in PEERS.iter().filter(|peer| peer.first) {
        table.row(
            format!("{}: {}", peer.whose, peer.path),
            vec![peer.figures[0].and_then(|ns| Cell::whole(f64::from(ns))), None],
        );
    }
    table.note("each packet a SYN of a new flow from an isolated pod, judged on both sides where both pods are here; net of the harness");
    table.note("table full: each new row pushes an old one out, as under a SYN flood");
    Ok(table)
}

/// What the verifier went through.
fn verified(args: &Args, effort: &Effort) -> anyhow::Result<Table> {
    let rig = Rig::new(args, &Sizes { flows: 0, ..effort.sizes })?;
    let mut table = Table::new("Programs", &["verified instructions", "bytes translated"]);
    let sizes = rig.sizes()?;
    ensure!(sizes.len() >= 12, "the object has all hooks and stages");
    for (name, instructions, bytes) in sizes {
        table.row(format!("Weft: {name}"), vec![Cell::whole(f64::from(instructions)), Cell::whole(f64::from(bytes))]);
    }
    for (whose, instructions) in peers::VERIFIED {
        table.row(*whose, vec![Cell::whole(f64::from(*instructions)), None]);
    }
    table.note(peers::SOURCE);
    Ok(table)
}
