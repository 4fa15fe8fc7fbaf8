//! `cargo xtask`: from a clone to a running cluster, and the gate that every change passes.
//!
//! Installs what is missing, builds the BPF object for its own target and then the static programs, packs images, and
//! runs them. Knows nothing of Kubernetes: `up` is a build and then `weft up`.

mod bench;
mod build;
mod clock;
mod cluster;
mod debian;
mod fuzz;
mod gate;
mod image;
mod places;
mod setup;
mod shell;
mod soak;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::Parser;

use crate::{clock::Clock, places::Places};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, try and test Weft")]
enum Xtask {
    /// Install what building needs and is missing
    Setup,
    /// Build the BPF object and the static programs
    Build,
    /// Pack target/images/*.tar from the built programs
    Image,
    /// Build, then start a local cluster with examples/guestbook; flags go to `weft up`
    Up {
        /// Flags of `weft up`, such as --check, --nodes N, --name NAME
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// Remove every trace of a local cluster; flags go to `weft down`
    Down {
        /// Flags of `weft down`, such as --name NAME
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// The whole gate: formatting, tidy, clippy, every test
    Test {
        /// Run only the tests whose name contains this
        filter: Option<String>,
    },
    /// The gate as CI runs it: a skipped test is a failure, and every fuzz target has its minute
    Ci,
    /// The tests that need a kernel, on Debian's 6.1 in an emulated machine
    Vm,
    /// What Weft costs beside what others cost, into target/bench and docs/performance.md
    Bench {
        /// Flags of the bench: --quick, --only prog|path|cni|system, --rounds N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// Every fuzz target for a while, searching by coverage; the corpus itself is replayed by every test run
    Fuzz {
        /// For each target; they run side by side
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Search as a run with this seed did
        #[arg(long)]
        seed: Option<u32>,
    },
    /// The long forms of the reliability tests, into docs/reliability.md
    Soak {
        /// One form alone: flood, away, faults
        #[arg(long)]
        only: Option<String>,
    },
    /// What the compiler does not check: edges between crates, docs, sizes, names
    Tidy,
}

fn main() -> ExitCode {
    let command = Xtask::parse();
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Xtask) -> anyhow::Result<()> {
    let places = Places::find()?;
    let mut clock = Clock::new();
    match command {
        Xtask::Setup => setup::run(&places, &mut clock)?,
        Xtask::Build => build::run(&places, &mut clock)?,
        Xtask::Image => image::run(&places, &mut clock)?,
        Xtask::Up { flags } => return cluster::up(&places, clock, flags),
        Xtask::Down { flags } => return cluster::down(&places, &mut clock, flags),
        Xtask::Test { filter } => gate::run(&places, &mut clock, filter.as_deref(), std::env::var_os("CI").is_some())?,
        Xtask::Ci => gate::run(&places, &mut clock, None, true)?,
        Xtask::Fuzz { seconds, seed } => {
            fuzz::run(&places, &mut clock, fuzz::Search { seconds: *seconds, seed: *seed })?;
        }
        Xtask::Soak { only } => return soak::run(&places, clock, only.as_deref()),
        Xtask::Vm => vm_alone(&places, &mut clock)?,
        Xtask::Bench { flags } => return bench::run(&places, clock, flags),
        Xtask::Tidy => return tidy::run(&places),
    }
    clock.report();
    Ok(())
}

/// Everything that the guest needs, then the guest.
fn vm_alone(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    setup::run(places, clock)?;
    build::run(places, clock)?;
    image::run(places, clock)?;
    vm::check(places, clock)
}
