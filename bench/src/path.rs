//! Round trips and streams between two pods, both ends spinning on a processor of their own: what the path itself costs.
//!
//! Ordinary requests on a small machine are dominated by wake-ups, which are the same on every path and hide it. So neither
//! end ever sleeps, and what counts are ratios within the run, to a plain veth pair and to eBPF without features.
mod lab;
mod nodes;
mod plain;
mod spin;
mod weft;

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    Args,
    report::{Cell, Part, Table, median},
    space,
};
use lab::Lab;
use spin::{TESTS, Test};

/// What a path is compared with beside the veth pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bare {
    /// `redirect_peer` into the other pod.
    Peer,
    /// A redirect to the NIC and `redirect_peer` behind it.
    Nic,
    /// A tunnel key, the collect-metadata VXLAN device, `redirect_peer`.
    Device,
}

/// One path's figures: by test, then by round.
struct Figures {
    name: &'static str,
    bare: Option<Bare>,
    is_bare: bool,
    rounds: Vec<Vec<f64>>,
}

/// The part.
pub(crate) fn run(args: &Args) -> anyhow::Result<Part> {
    let (rounds, time) = if args.quick { (1, 40) } else { (args.rounds.max(1), args.time) };
    let time = Duration::from_millis(time);
    let (mut figures, mut notes) = space::apart(|| {
        let mut lab = Lab::new(args)?;
        let mut figures: Vec<Figures> = lab.paths.iter().map(Figures::of).collect();
        for _ in 0..rounds {
            for (index, test) in TESTS.iter().enumerate() {
                for (path, figures) in lab.paths.iter().zip(&mut figures) {
                    let figure = if path.ready && wanted(args, path.name) {
                        spin::run(*test, path, time, args.least)
                            .with_context(|| format!("{}: {}", path.name, test.name()))?
                    } else {
                        f64::NAN
                    };
                    figures.rounds[index].push(figure);
                }
            }
        }
        let notes = lab.notes()?;
        Ok((figures, notes))
    })?;
    let how = format!(
        "client spinning on processor 0, server on processor 1; {rounds} rounds of {} ms, the paths in turn",
        time.as_millis()
    );
    figures.retain(|figures| wanted(args, figures.name));
    anyhow::ensure!(!figures.is_empty(), "no path's name has {:?} in it", args.paths);
    if args.least {
        notes.push(
            "as many as it would be if all exchanges took as long as the fastest quarter: for a busy machine".into(),
        );
    }
    Ok(Part { name: "path", seconds: 0.0, tables: tables(&figures, &how, &notes) })
}

fn wanted(args: &Args, name: &str) -> bool {
    args.paths.is_empty() || name == plain::LIMIT || args.paths.iter().any(|part| name.contains(part))
}

impl Figures {
    fn of(path: &lab::Path) -> Figures {
        Figures { name: path.name, bare: path.bare, is_bare: path.is_bare, rounds: vec![Vec::new(); TESTS.len()] }
    }

    /// The middle of the rounds' ratios to another path's figure of the same round.
    fn to(&self, other: &Figures, test: usize) -> Option<Cell> {
        let ratios: Vec<f64> = self.rounds[test].iter().zip(&other.rounds[test]).map(|(a, b)| a / b).collect();
        known(median(&ratios)).and_then(Cell::fine)
    }
}

/// Nothing for what could not be measured.
fn known(figure: f64) -> Option<f64> {
    figure.is_finite().then_some(figure)
}

fn tables(figures: &[Figures], how: &str, notes: &[String]) -> Vec<Table> {
    let heads: Vec<&str> = TESTS.iter().map(Test::name).collect();
    let mut rates = Table::new("Paths between two pods: transactions in a second (stream: Gbit/s)", &heads);
    for path in figures {
        let rate = |rounds: &Vec<f64>| {
            known(median(rounds)).and_then(|rate| if rate < 1_000.0 { Cell::fine(rate) } else { Cell::whole(rate) })
        };
        rates.row(path.name, path.rounds.iter().map(rate).collect());
    }
    rates.note(how);
    rates.note("medians of the rounds; the machine has more than one speed, so compare ratios and not rates");
    rates.notes.extend(notes.iter().cloned());
    let mut tables = vec![rates];
    let tests = || 0..TESTS.len();
    let limit = &figures[0];
    let mut to_limit = Table::new("The same as ratios to the plain veth pair of the same round", &heads);
    for path in &figures[1..] {
        to_limit.row(path.name, tests().map(|test| path.to(limit, test)).collect());
    }
    tables.push(to_limit);
    let mut to_bare = Table::new("The same as ratios to eBPF without features of the same round", &heads);
    for path in figures.iter().filter(|path| !path.is_bare) {
        let Some(bare) = figures.iter().find(|other| other.is_bare && other.bare == path.bare && path.bare.is_some())
        else {
            continue;
        };
        to_bare.row(path.name, tests().map(|test| path.to(bare, test)).collect());
    }
    to_bare.note("same node: to the bare redirect_peer; overlays: to the bare device; other two nodes: to the bare redirect to the NIC");
    tables.push(to_bare);
    if let Some(kernel) = figures.iter().find(|path| path.name == lab::KERNEL_VXLAN) {
        let mut to_kernel = Table::new("Overlays as ratios to kernel VXLAN of the same round", &heads);
        for path in figures.iter().filter(|path| path.bare == Some(Bare::Device) && path.name != kernel.name) {
            to_kernel.row(path.name, tests().map(|test| path.to(kernel, test)).collect());
        }
        tables.push(to_kernel);
    }
    tables
}
