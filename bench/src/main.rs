//! What Weft costs, beside what others cost, in one run on the machine at hand.
//!
//! Four parts: [`prog`], nanoseconds per packet in the programs; [`path`], round trips and streams between namespaces;
//! [`cni`], a pod's interface; [`system`], the processes. Each prints tables, keeps them as JSON, and writes them into
//! docs/performance.md, where nothing is claimed that is not printed here. Everything is made in namespaces of this process
//! and is gone with it.

mod cni;
mod document;
mod machine;
mod object;
mod path;
mod prog;
mod report;
mod space;
mod system;
mod tables;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use crate::{machine::Machine, report::Part};

/// Benchmarks of Weft.
#[derive(Parser, Debug)]
#[command(name = "bench")]
pub(crate) struct Args {
    /// A smoke run: every row, no figure that means anything
    #[arg(long)]
    quick: bool,
    /// One part alone
    #[arg(long)]
    only: Option<Which>,
    /// Rounds of the paths; medians are printed
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Milliseconds that an exchange of the paths lasts
    #[arg(long, default_value_t = 700)]
    time: u64,
    /// Only paths whose name has one of these in it (of packets in the programs: no stages either), and no document
    #[arg(long)]
    paths: Vec<String>,
    /// Print the least of the samples per packet and not the median, and of a path's exchanges what the fastest quarter takes:
    /// for a machine that is busy with other things
    #[arg(long)]
    least: bool,
    /// Where the JSON files go
    #[arg(long, default_value = "target/bench")]
    json: PathBuf,
    /// The document that gets the tables; without it none is written
    #[arg(long)]
    document: Option<PathBuf>,
    /// The datapath's object
    #[arg(long, env = "WEFT_BPF_OBJECT", default_value = "target/bpf/weft.bpf.o")]
    object: PathBuf,
    /// Where `weft` and `weft-cni` are
    #[arg(long, env = "WEFT_PROGRAMS", default_value = "target/x86_64-unknown-linux-gnu/release")]
    programs: PathBuf,
    /// Where the reference CNI plugins are
    #[arg(long, env = "WEFT_CNI_PLUGINS", default_value_os_t = cni::reference())]
    plugins: PathBuf,
}

/// What measures a part.
type Measure = fn(&Args) -> anyhow::Result<Part>;

/// A part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Which {
    /// Nanoseconds per packet
    Prog,
    /// Round trips and streams
    Path,
    /// CNI calls, and the agent's memory by pods
    Cni,
    /// Processes
    System,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "this makes namespaces and loads BPF programs: run it as root (sudo)"
    );
    let machine = Machine::look()?;
    println!("{machine}");
    let wanted = |which| args.only.is_none_or(|only| only == which);
    let parts: [(Which, Measure); 4] =
        [(Which::Prog, prog::run), (Which::Path, path::run), (Which::Cni, cni::run), (Which::System, system::run)];
    for (which, measure) in parts.into_iter().filter(|(which, _)| wanted(*which)) {
        let begun = Instant::now();
        let mut part = measure(args).with_context(|| format!("{which:?}"))?;
        part.seconds = begun.elapsed().as_secs_f64();
        print!("{part}");
        part.keep(&args.json, &machine, args.quick)?;
        if let Some(document) = args.document.as_ref().filter(|_| args.paths.is_empty()) {
            document::write(document, &part, &machine)?;
        }
    }
    Ok(())
}
