//! The same packets stage by stage: each figure is what the stage adds to what comes before it.
use super::{
    Effort, FIXED, NEW, RANDOM, Rig, Sample, settled, title,
    ways::{WAYS, Way},
};
use crate::{
    Args,
    report::{Cell, Table},
};

/// Programs that end after a stage of the established path, and the stage.
const CUTS: [(&str, &str); 3] = [("cut_parse", "parse"), ("cut_conntrack", "conntrack"), ("cut_rewrite", "rewrite")];
/// What the programs of the slow path are called in the table, in the order of `abi::map::STAGES`; the one that
/// reads what is no plain packet comes after them, and these packets do not meet it.
const SLOW: [&str; 6] =
    ["conntrack (second)", "service (and source check)", "policy", "route", "record", "rewrite and finish"];

pub(crate) fn tables(args: &Args, effort: &Effort) -> anyhow::Result<Vec<Table>> {
    Ok(vec![known(args, effort)?, first(args, effort)?])
}

/// Pod → local pod, established.
fn known(args: &Args, effort: &Effort) -> anyhow::Result<Table> {
    let way = &WAYS[0];
    let many = effort.among[3].min(effort.sizes.flows);
    let heads = ["hot".to_owned(), format!("of {many}")];
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut table = Table::new(&title("Stages of an established flow, pod → local pod", &effort.sizes), &heads);
    let mut rig = Rig::new(args, &effort.sizes)?;
    rig.establish(way, effort.sizes.flows)?;
    let hot = Sample { mode: FIXED, count: 1, first: 17, repeat: effort.repeat };
    let columns = [hot, Sample { mode: RANDOM, count: many, ..hot }];
    let mut figures = Vec::new();
    for sample in &columns {
        rig.warm(way, way.ack, sample)?;
        let mut ends = vec![settled(effort.samples, || rig.harness(way.ack, sample))?];
        for (program, _) in CUTS {
            ends.push(settled(effort.samples, || rig.cut(program, &way.ack, sample))?);
        }
        ends.push(settled(effort.samples, || rig.established(way, way.ack, sample))?);
        figures.push(ends);
    }
    let names = CUTS.iter().map(|(_, stage)| *stage).chain(["finish"]);
    rows(&mut table, names, &figures);
    table.note("parse: headers; conntrack: look-up, everything the row is checked for, what is written into it; rewrite: edits of the packet; finish: counters and the redirect");
    Ok(table)
}

/// First packets, pod → local pod and pod → ClusterIP → remote backend.
fn first(args: &Args, effort: &Effort) -> anyhow::Result<Table> {
    let ways: [&Way; 3] = [&WAYS[0], &WAYS[1], &WAYS[3]];
    let heads: Vec<&str> = ways.iter().map(|way| way.name).collect();
    let mut table = Table::new(&title("Stages of a first packet", &effort.sizes), &heads);
    let mut figures = Vec::new();
    for way in ways {
        let mut rig = Rig::new(args, &effort.sizes)?;
        let sample = Sample { mode: NEW, count: 0, first: 0, repeat: effort.new_flows };
        let fresh = |rig: &mut Rig, run: &mut dyn FnMut(&mut Rig, &Sample) -> anyhow::Result<f64>| {
            settled(effort.samples, || {
                rig.clear()?;
                run(rig, &sample)
            })
        };
        let mut ends = vec![fresh(&mut rig, &mut |rig, sample| rig.harness(way.syn, sample))?];
        ends.push(fresh(&mut rig, &mut |rig, sample| rig.cut("cut_parse", &way.syn, sample))?);
        for stage in 0..SLOW.len() as u32 {
            ends.push(fresh(&mut rig, &mut |rig, sample| rig.until(stage, &way.syn, sample))?);
        }
        ends.push(fresh(&mut rig, &mut |rig, sample| rig.opening(way, sample))?);
        figures.push(ends);
    }
    let names = ["parse", "conntrack (hook)"].into_iter().chain(SLOW);
    rows(&mut table, names, &figures);
    table.note(
        "each stage with its tail call; the second conntrack stage asks both flow tables before a packet counts as new",
    );
    Ok(table)
}

/// Differences of successive ends, and the whole.
fn rows<'a>(table: &mut Table, names: impl Iterator<Item = &'a str>, ends: &[Vec<f64>]) {
    for (index, name) in names.enumerate() {
        let added = ends.iter().map(|ends| Cell::whole(ends[index + 1] - ends[index])).collect();
        table.row(name, added);
    }
    let whole = |ends: &Vec<f64>| Cell::whole(ends[ends.len() - 1] - ends[0]);
    table.row("together", ends.iter().map(whole).collect());
}
